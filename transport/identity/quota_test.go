package identity

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// quotaOf returns the bound that err says is reached; zero: it says nothing
// of the kind.
func quotaOf(err error) QuotaError {
	if e, ok := errors.AsType[*QuotaError](err); ok {
		return *e
	}
	return QuotaError{}
}

func TestWhoMayStart(t *testing.T) {
	all, none, one, bounded, two := testKey(t, 1).ID(), testKey(t, 2).ID(), testKey(t, 3).ID(), testKey(t, 4).ID(), testKey(t, 5).ID()
	path := filepath.Join(safeDir(t), "authorized_peers")
	write(t, path, line(Entry{ID: all})+
		line(Entry{ID: none, Start: []string{}})+
		line(Entry{ID: one, Start: []string{"echo"}})+
		line(Entry{ID: bounded, Services: []string{"echo", "files"}, Start: []string{"echo"}})+
		line(Entry{ID: two, Services: []string{"echo"}, Start: []string{}})+
		line(Entry{ID: two, Start: []string{"files"}}))
	f := open(t, path)
	for _, q := range []struct {
		why     string
		id      NodeID
		service string
		start   bool
		want    bool
	}{
		{"without start= what it may open", all, "echo", true, true},
		{"nothing", none, "echo", true, false},
		{"but it may open", none, "echo", false, true},
		{"what is named", one, "echo", true, true},
		{"not what is not named", one, "files", true, false},
		{"which it may open", one, "files", false, true},
		{"what both name", bounded, "echo", true, true},
		{"what only services= names", bounded, "files", true, false},
		{"what neither names", bounded, "shell", true, false},
		{"the other line", two, "files", true, true},
		{"no line", two, "echo", true, false},
	} {
		err := f.Check(Access{ID: q.id, From: anywhere, Service: q.service, Start: q.start}, someday)
		if (err == nil) != q.want || err != nil && !isType[*DeniedError](err) {
			t.Errorf("%s: %v", q.why, err)
		}
	}
}

func TestMaxCircuits(t *testing.T) {
	a, b := testKey(t, 1).ID(), testKey(t, 2).ID()
	path := filepath.Join(safeDir(t), "authorized_peers")
	write(t, path, line(Entry{ID: a, MaxCircuits: 3})+
		line(Entry{ID: b, MaxCircuits: 2})+line(Entry{ID: b, MaxCircuits: 5})+line(Entry{ID: b, MaxCircuits: 4}))
	f := open(t, path)
	for _, q := range []struct {
		id       NodeID
		circuits int
		limit    int64
	}{{a, 3, 0}, {a, 4, 3}, {a, 0, 0}, {b, 5, 0}, {b, 6, 5}} {
		err := f.Check(Access{ID: q.id, From: anywhere, Service: "echo", Circuits: q.circuits}, someday)
		want := QuotaError{}
		if q.limit > 0 {
			want = QuotaError{What: "circuits of one node", Limit: q.limit}
		}
		if quotaOf(err) != want || (err != nil) != (q.limit > 0) {
			t.Errorf("%d circuits: %v", q.circuits, err)
		}
	}
}

// A visitor asks for one thing again and again.
type visitor struct {
	file *AuthorizedFile
	a    Access
}

// burst returns how often it is allowed before it is not.
func (v visitor) burst(now time.Time) (n int) {
	for v.file.Check(v.a, now) == nil {
		if n++; n > 1000 {
			break
		}
	}
	return n
}

func TestRateOfALine(t *testing.T) {
	a := testKey(t, 1).ID()
	path := filepath.Join(safeDir(t), "authorized_peers")
	write(t, path, line(Entry{ID: a, Services: []string{"echo"}, Rate: 4}))
	f := open(t, path)
	opening := visitor{f, Access{ID: a, From: anywhere, Service: "echo", Circuits: 1}}
	starting := visitor{f, Access{ID: a, From: anywhere, Service: "echo", Start: true}}
	if n := opening.burst(someday); n != 4 {
		t.Errorf("%d openings at once, want 4", n)
	}
	for what, v := range map[string]visitor{"openings per second of one node": opening, "starts per second of one node": starting} {
		if err := f.Check(v.a, someday); quotaOf(err) != (QuotaError{what, 4}) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Other requests are not counted, and refused ones take nothing away.
	if err := f.Check(Access{ID: a, From: anywhere}, someday); err != nil {
		t.Errorf("to connect: %v", err)
	}
	other := opening.a
	other.Service = "files"
	later := someday.Add(500 * time.Millisecond)
	for range 10 {
		if err := f.Check(other, later); err == nil || quotaOf(err) != (QuotaError{}) {
			t.Fatalf("another service: %v", err)
		}
	}
	if n := starting.burst(later); n != 2 {
		t.Errorf("%d starts after half a second, want 2", n)
	}
	if n := opening.burst(someday); n != 0 {
		t.Errorf("%d when the clock was set back", n)
	}
	if n := opening.burst(later); n != 0 {
		t.Errorf("%d when the clock was set right again", n)
	}
	if n := opening.burst(later.Add(time.Hour)); n != 4 {
		t.Errorf("%d after an hour, want 4", n)
	}
}

func TestRateOutlivesReload(t *testing.T) {
	a, b := testKey(t, 1).ID(), testKey(t, 2).ID()
	path := filepath.Join(safeDir(t), "authorized_peers")
	mine := Entry{ID: a, Rate: 3}
	write(t, path, line(mine))
	f := open(t, path)
	v := visitor{f, Access{ID: a, From: anywhere, Service: "echo", Circuits: 1}}
	if n := v.burst(someday); n != 3 {
		t.Fatalf("%d at once, want 3", n)
	}
	for _, step := range []struct {
		why, text string
		want      int
	}{
		{"lines beside it", "# new\n" + line(Entry{ID: b, Rate: 9}) + line(mine), 0},
		{"the same line twice", line(mine) + line(mine), 0},
		{"another comment: another line", line(Entry{ID: a, Rate: 3, Comment: "x"}), 3},
		{"another rate", line(Entry{ID: a, Rate: 5}), 5},
		{"both", line(Entry{ID: a, Rate: 5}) + line(Entry{ID: a, Rate: 2}), 2},
	} {
		replace(t, path, step.text)
		if n := v.burst(someday); n != step.want {
			t.Errorf("%s: %d, want %d", step.why, n, step.want)
		}
	}
	// A file that could not be used for a while makes nothing new, and neither
	// does one that was gone.
	replace(t, path, line(Entry{ID: a, Rate: 5})+"x\n")
	needModes(t)
	os.Chmod(path, 0o666)
	if err := f.Check(v.a, someday); !isType[*UnsafeFileError](err) {
		t.Fatal(err)
	}
	os.Chmod(path, 0o600)
	if n := v.burst(someday); n != 0 {
		t.Errorf("%d after the file was unsafe", n)
	}
	os.Remove(path)
	f.Check(v.a, someday)
	write(t, path, line(Entry{ID: a, Rate: 5}))
	if n := v.burst(someday); n != 0 {
		t.Errorf("%d after the file was gone", n)
	}
	if len(f.rates) != 1 {
		t.Errorf("%d buckets are kept for one line", len(f.rates))
	}
}

func TestRateWithManyAtOnce(t *testing.T) {
	a := testKey(t, 1).ID()
	path := filepath.Join(safeDir(t), "authorized_peers")
	write(t, path, line(Entry{ID: a, Rate: 100}))
	f := open(t, path)
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			v := visitor{f, Access{ID: a, From: anywhere, Service: "echo", Start: true}}
			allowed.Add(int64(v.burst(someday)))
		})
	}
	wg.Wait()
	if n := allowed.Load(); n != 100 {
		t.Errorf("%d were allowed, want 100", n)
	}
}
