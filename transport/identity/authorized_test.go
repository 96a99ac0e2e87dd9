package identity

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	anywhere = netip.MustParseAddr("192.0.2.1")
	someday  = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
)

func open(t testing.TB, path string) *AuthorizedFile {
	t.Helper()
	f, err := OpenAuthorizedFile(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// replace makes path another file, in one step.
func replace(t testing.TB, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func line(e Entry) string { return e.String() + "\n" }

func TestCheck(t *testing.T) {
	a, b, c := testKey(t, 1).ID(), testKey(t, 2).ID(), testKey(t, 3).ID()
	path := filepath.Join(safeDir(t), "authorized_peers")
	write(t, path, line(Entry{ID: a})+
		line(Entry{ID: b, Services: []string{"echo"}, From: []string{"10.0.0.0/8", "!10.9.*"}, Expires: someday})+
		line(Entry{ID: b, Services: []string{"files"}})+
		`unknown="x" `+line(Entry{ID: c}))
	f := open(t, path)
	inside, outside := netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("10.9.1.1")
	for _, q := range []struct {
		why     string
		id      NodeID
		from    netip.Addr
		service string
		now     time.Time
		want    bool
	}{
		{"no options allow everything", a, anywhere, "anything", someday, true},
		{"from an unknown address too", a, netip.Addr{}, "", someday, true},
		{"a listed service", b, inside, "echo", someday.Add(-1), true},
		{"expired to the second", b, inside, "echo", someday, false},
		{"denied address", b, outside, "echo", someday.Add(-1), false},
		{"unknown address where from is set", b, netip.Addr{}, "echo", someday.Add(-1), false},
		{"any line may allow", b, outside, "files", someday, true},
		{"and so may connect", b, outside, "", someday, true},
		{"a service in no line", b, inside, "shell", someday.Add(-1), false},
		{"part of a service's name", b, inside, "ech", someday.Add(-1), false},
		{"the line is bad", c, inside, "", someday, false},
		{"not listed", testKey(t, 4).ID(), inside, "", someday, false},
		{"nobody", NodeID{}, inside, "", someday, false},
		{"not a service name", a, inside, "a b", someday, false},
	} {
		err := f.Check(Access{ID: q.id, From: q.from, Service: q.service}, q.now)
		e, denied := errors.AsType[*DeniedError](err)
		if denied == q.want || (err == nil) != q.want {
			t.Errorf("%s: %v", q.why, err)
		}
		if denied && (e.ID != q.id || e.Service != q.service || e.Reason == "") {
			t.Errorf("%s: %+v", q.why, e)
		}
	}
}

func TestFileIsFollowed(t *testing.T) {
	a, b := testKey(t, 1).ID(), testKey(t, 2).ID()
	path := filepath.Join(safeDir(t), "authorized_peers")
	f := open(t, path)
	want := func(why string, id NodeID, want bool) {
		t.Helper()
		if err := f.Check(Access{ID: id, From: anywhere, Service: ""}, someday); (err == nil) != want {
			t.Errorf("%s: %v", why, err)
		}
	}
	want("there is no file", a, false)
	write(t, path, line(Entry{ID: a})+line(Entry{ID: b}))
	want("the file has appeared", a, true)
	replace(t, path, line(Entry{ID: a}))
	want("the line is deleted", b, false)
	want("the other line stays", a, true)

	// Two writes in one tick of the file system's clock look the same.
	stamp := time.Now()
	os.Chtimes(path, stamp, stamp)
	want("with a new time", a, true)
	write(t, path, line(Entry{ID: b}))
	os.Chtimes(path, stamp, stamp)
	want("same size, same time, another key", a, false)
	want("same size, same time, this key", b, true)

	os.Remove(path)
	want("the file is gone", b, false)
	write(t, path, line(Entry{ID: b}))
	want("and has come back", b, true)
}

func TestSettledFileIsReadOnce(t *testing.T) {
	a := testKey(t, 1).ID()
	path := filepath.Join(safeDir(t), "authorized_peers")
	write(t, path, line(Entry{ID: a}))
	long := time.Now().Add(-time.Hour)
	os.Chtimes(path, long, long)
	f := open(t, path)
	before := f.file.latest()
	if f.file.latest() != before {
		t.Error("an old file was read again though nothing has changed")
	}
	write(t, path, "\n")
	if err := f.Check(Access{ID: a, From: anywhere, Service: ""}, someday); err == nil {
		t.Error("the change of an old file went unnoticed")
	}
}

func TestUnsafeFileAllowsNobody(t *testing.T) {
	needModes(t)
	a := testKey(t, 1).ID()
	dir := safeDir(t)
	path := filepath.Join(dir, "authorized_peers")
	write(t, path, line(Entry{ID: a}))
	f := open(t, path)
	check := func(why string, unsafe string) {
		t.Helper()
		err := f.Check(Access{ID: a, From: anywhere, Service: ""}, someday)
		if unsafe == "" {
			if err != nil {
				t.Errorf("%s: %v", why, err)
			}
			return
		}
		e, ok := errors.AsType[*UnsafeFileError](err)
		if !ok || !isType[*DeniedError](err) || e.Path != unsafe || e.Fix == "" {
			t.Errorf("%s: %v", why, err)
		}
		if _, err := OpenAuthorizedFile(path, nil); !isType[*UnsafeFileError](err) {
			t.Errorf("%s: opened: %v", why, err)
		}
	}
	check("as it should be", "")
	os.Chmod(path, 0o620)
	check("group may write", path)
	os.Chmod(path, 0o602)
	check("others may write", path)
	os.Chmod(path, 0o644)
	check("others may read", "")
	os.Chmod(dir, 0o777)
	check("others may replace it", dir)
	os.Chmod(dir, 0o777|fs.ModeSticky)
	check("the sticky bit keeps others from that", "")
	os.Chmod(dir, 0o700)
	check("mended", "")

	if os.Geteuid() == 0 {
		os.Chown(path, 12345, -1)
		check("another user's", path)
		os.Chown(path, 0, -1)
		os.Chown(dir, 12345, -1)
		check("in another user's directory", dir)
		os.Chown(dir, 0, -1)
		check("root's again", "")
	}
}

func TestLinkIntoUnsafeDirectory(t *testing.T) {
	needModes(t)
	a := testKey(t, 1).ID()
	shared := safeDir(t)
	link := filepath.Join(safeDir(t), "authorized_peers")
	write(t, filepath.Join(shared, "real"), line(Entry{ID: a}))
	if err := os.Symlink(filepath.Join(shared, "real"), link); err != nil {
		t.Skip(err)
	}
	if err := open(t, link).Check(Access{ID: a, From: anywhere, Service: ""}, someday); err != nil {
		t.Errorf("through a link: %v", err)
	}
	os.Chmod(shared, 0o777)
	if _, err := OpenAuthorizedFile(link, nil); !isType[*UnsafeFileError](err) {
		t.Errorf("the file can be replaced where it lies: %v", err)
	}
}

func TestUnusableFileAllowsNobody(t *testing.T) {
	a := testKey(t, 1).ID()
	path := filepath.Join(safeDir(t), "authorized_peers")
	write(t, path, line(Entry{ID: a}))
	f := open(t, path)
	for name, text := range map[string]string{
		"too big":            line(Entry{ID: a}) + strings.Repeat("#", maxPeersFile),
		"too many bad lines": line(Entry{ID: a}) + strings.Repeat("x\n", maxBadLines+1),
	} {
		replace(t, path, text)
		err := f.Check(Access{ID: a, From: anywhere, Service: ""}, someday)
		e, ok := errors.AsType[*DeniedError](err)
		if !ok || e.Err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	os.Remove(path)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Check(Access{ID: a, From: anywhere, Service: ""}, someday); !isType[*DeniedError](err) {
		t.Errorf("a directory: %v", err)
	}
}

func TestBadLinesAreLoggedOncePerLoad(t *testing.T) {
	path := filepath.Join(safeDir(t), "authorized_peers")
	write(t, path, "\nnonsense here\n"+strings.Repeat("x y\n", 30))
	var out bytes.Buffer
	f, err := OpenAuthorizedFile(path, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f.Check(Access{ID: testKey(t, 1).ID(), From: anywhere, Service: ""}, someday)
	}
	if n := strings.Count(out.String(), "line=2 "); n != 1 {
		t.Errorf("line 2 is named %d times:\n%s", n, out.String())
	}
	if n := strings.Count(out.String(), "\n"); n != maxLogged+1 || !strings.Contains(out.String(), "lines=11") {
		t.Errorf("%d lines of log:\n%s", n, out.String())
	}
	write(t, path, "other nonsense\n")
	f.Check(Access{ID: testKey(t, 1).ID(), From: anywhere, Service: ""}, someday)
	if !strings.Contains(out.String(), "line=1 ") {
		t.Error("a bad line of the next load was not logged")
	}
}

func TestCheckWhileFileIsReplaced(t *testing.T) {
	always, at, never := testKey(t, 1).ID(), testKey(t, 2).ID(), testKey(t, 3).ID()
	path := filepath.Join(safeDir(t), "authorized_peers")
	with := line(Entry{ID: always}) + line(Entry{ID: at})
	write(t, path, with)
	f := open(t, path)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := f.Check(Access{ID: always, From: anywhere, Service: ""}, someday); err != nil {
					t.Errorf("a key in every version of the file: %v", err)
					return
				}
				if err := f.Check(Access{ID: never, From: anywhere, Service: ""}, someday); err == nil {
					t.Error("a key in no version of the file was allowed")
					return
				}
			}
		})
	}
	// Who replaces the file sees the change at once, whatever others load.
	for range 100 {
		replace(t, path, line(Entry{ID: always}))
		if err := f.Check(Access{ID: at, From: anywhere, Service: ""}, someday); err == nil {
			t.Error("allowed after revocation")
		}
		replace(t, path, with)
		if err := f.Check(Access{ID: at, From: anywhere, Service: ""}, someday); err != nil {
			t.Errorf("listed again: %v", err)
		}
	}
	close(done)
	wg.Wait()
}

func TestAppendAuthorized(t *testing.T) {
	path := filepath.Join(safeDir(t), "new", "dir", "authorized_peers")
	entries := []Entry{
		{ID: testKey(t, 1).ID(), Comment: "first\nssh-ed25519 no second line"},
		{ID: testKey(t, 2).ID(), Services: []string{"echo"}, From: []string{"10.*"}, Expires: someday},
		{ID: testKey(t, 1).ID()},
	}
	for range 2 { // the second time changes nothing
		for _, e := range entries {
			if err := AppendAuthorized(path, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, _ := os.ReadFile(path)
	if want := line(entries[0]) + line(entries[1]) + line(entries[2]); string(b) != want {
		t.Errorf("file is\n%swant\n%s", b, want)
	}
	wantModes(t, map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700})
	if err := open(t, path).Check(Access{ID: entries[2].ID, From: anywhere, Service: "any"}, someday); err != nil {
		t.Error(err)
	}
}

func TestAppendAuthorizedMendsMissingLineEnd(t *testing.T) {
	path := filepath.Join(safeDir(t), "authorized_peers")
	a, b := testKey(t, 1).ID(), testKey(t, 2).ID()
	write(t, path, "# mine\n"+a.PublicLine("by hand"))
	if err := AppendAuthorized(path, Entry{ID: b}); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(path)
	if entries, bad := parse(t, string(data)); len(entries) != 2 || len(bad) != 0 {
		t.Errorf("%q reads as %v, %v", data, entries, bad)
	}
}

func TestAppendAuthorizedRefuses(t *testing.T) {
	dir := safeDir(t)
	path := filepath.Join(dir, "authorized_peers")
	id := testKey(t, 1).ID()
	for name, e := range map[string]Entry{
		"zero ID":            {},
		"no services":        {ID: id, Services: []string{}},
		"bad service":        {ID: id, Services: []string{`a" ssh-ed25519`}},
		"two services in 1":  {ID: id, Services: []string{"a,b"}},
		"no patterns":        {ID: id, From: []string{}},
		"two patterns in 1":  {ID: id, From: []string{"1.2.3.4,*"}},
		"bad pattern":        {ID: id, From: []string{"10.0.0.1/8"}},
		"two to start in 1":  {ID: id, Start: []string{"a,b"}},
		"an empty start":     {ID: id, Start: []string{""}},
		"start of another's": {ID: id, Services: []string{"a"}, Start: []string{"b"}},
		"negative circuits":  {ID: id, MaxCircuits: -1},
		"too large a rate":   {ID: id, Rate: maxCount + 1},
		"expired since 1900": {ID: id, Expires: time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)},
		"too long":           {ID: id, Comment: strings.Repeat("c", maxPeersLine)},
	} {
		if err := AppendAuthorized(path, e); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	wantFiles(t, dir)
	write(t, path, strings.Repeat("#", maxPeersFile-10))
	if err := AppendAuthorized(path, Entry{ID: id}); err == nil {
		t.Error("the file was made too big to be read")
	}
	needModes(t)
	write(t, path, "")
	os.Chmod(path, 0o666)
	if err := AppendAuthorized(path, Entry{ID: id}); !isType[*UnsafeFileError](err) {
		t.Errorf("to a file that everybody may write: %v", err)
	}
}

func TestAppendAuthorizedAtOnce(t *testing.T) {
	path := filepath.Join(safeDir(t), "authorized_peers")
	var wg sync.WaitGroup
	for seed := range byte(20) {
		e := Entry{ID: testKey(t, seed+1).ID()}
		wg.Go(func() {
			if err := AppendAuthorized(path, e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	data, _ := os.ReadFile(path)
	if entries, bad := parse(t, string(data)); len(entries) != 20 || len(bad) != 0 {
		t.Errorf("%d entries, bad lines %v", len(entries), bad)
	}
}
