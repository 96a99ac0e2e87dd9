package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// have makes key id have exactly these new entries.
func have(entries ...Entry) func([]Entry) ([]Entry, error) {
	return func([]Entry) ([]Entry, error) { return entries, nil }
}

func wantText(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%v; the file is\n%q, want\n%q", err, b, want)
	}
}

func TestChangeLeavesTheRestAsItIs(t *testing.T) {
	a, b := testKey(t, 1).ID(), testKey(t, 2).ID()
	first, second := Entry{ID: a, Services: []string{"echo"}}, Entry{ID: a, Rate: 3}
	rest := "# mine\r\n\n"
	bad := `unknown="x" ` + line(Entry{ID: a})
	other := "  " + strings.TrimSuffix(line(Entry{ID: b, Comment: "b"}), "\n") + " \t\r\n"
	old := rest + line(first) + other + line(second) + bad + strings.TrimSuffix(line(first), "\n")
	fresh := Entry{ID: a, MaxCircuits: 7}
	for why, c := range map[string]struct {
		change func([]Entry) ([]Entry, error)
		want   string
	}{
		"all lines go":             {have(), rest + other + bad},
		"one takes their place":    {have(fresh), rest + line(fresh) + other + bad},
		"two take their place":     {have(fresh, second), rest + line(fresh) + line(second) + other + bad},
		"the second one stays":     {func(all []Entry) ([]Entry, error) { return all[2:3], nil }, rest + other + line(second) + bad},
		"the file had no line end": {func(all []Entry) ([]Entry, error) { return append(all[3:4], fresh), nil }, rest + line(fresh) + other + bad + strings.TrimSuffix(line(first), "\n")},
		"nothing changes":          {func(all []Entry) ([]Entry, error) { return []Entry{all[0], all[2], all[3]}, nil }, old},
		"one more":                 {func(all []Entry) ([]Entry, error) { return []Entry{all[0], all[2], all[3], fresh}, nil }, old + "\n" + line(fresh)},
	} {
		t.Run(why, func(t *testing.T) {
			path := filepath.Join(safeDir(t), "authorized_peers")
			write(t, path, old)
			if err := open(t, path).Change(a, c.change); err != nil {
				t.Error(err)
			}
			wantText(t, path, c.want)
		})
	}
}

func TestChangeOfAMissingFile(t *testing.T) {
	a := testKey(t, 1).ID()
	dir := safeDir(t)
	path := filepath.Join(dir, "new", "authorized_peers")
	no := errors.New("no")
	if err := open(t, path).Change(a, func([]Entry) ([]Entry, error) { return nil, no }); err != no {
		t.Errorf("%v", err)
	}
	if err := open(t, path).Change(a, have()); err != nil {
		t.Error(err)
	}
	wantFiles(t, dir)
	entries := []Entry{{ID: a, Services: []string{"echo"}}, {ID: a, Rate: 3}}
	if err := open(t, path).Change(a, have(entries...)); err != nil {
		t.Error(err)
	}
	wantText(t, path, line(entries[0])+line(entries[1]))
	wantModes(t, map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700})
}

func TestChangeIsFollowed(t *testing.T) {
	a := testKey(t, 1).ID()
	path := filepath.Join(safeDir(t), "authorized_peers")
	write(t, path, line(Entry{ID: a}))
	f := open(t, path)
	if err := f.Change(a, have(Entry{ID: a, Services: []string{"echo"}})); err != nil {
		t.Fatal(err)
	}
	if err := f.Check(Access{ID: a, From: anywhere, Service: "files"}, someday); err == nil {
		t.Error("it may still do what its line does not allow any more")
	}
}

func TestChangeRefuses(t *testing.T) {
	a, b := testKey(t, 1).ID(), testKey(t, 2).ID()
	no := errors.New("no")
	for why, c := range map[string]struct {
		old    string
		change func([]Entry) ([]Entry, error)
	}{
		"an entry that is not read back": {line(Entry{ID: a}), have(Entry{ID: a, Services: []string{"a,b"}})},
		"another key":                    {line(Entry{ID: a}), have(Entry{ID: b})},
		"change says no":                 {line(Entry{ID: a}), func([]Entry) ([]Entry, error) { return nil, no }},
		"too many bad lines":             {strings.Repeat("x\n", maxBadLines+1), have()},
		"one entry too many":             {strings.Repeat(line(Entry{ID: b}), maxEntries), have(Entry{ID: a})},
		"too long":                       {strings.Repeat("#", maxPeersFile-10), have(Entry{ID: a})},
	} {
		path := filepath.Join(safeDir(t), "authorized_peers")
		write(t, path, line(Entry{ID: a}))
		f := open(t, path)
		write(t, path, c.old)
		if err := f.Change(a, c.change); err == nil {
			t.Errorf("%s: done", why)
		}
		wantText(t, path, c.old)
	}
	needModes(t)
	path := filepath.Join(safeDir(t), "authorized_peers")
	f := open(t, path)
	write(t, path, line(Entry{ID: a}))
	os.Chmod(path, 0o666)
	if err := f.Change(a, have()); !isType[*UnsafeFileError](err) {
		t.Errorf("a file that everybody may write: %v", err)
	}
}

func TestChangeAtOnce(t *testing.T) {
	path := filepath.Join(safeDir(t), "authorized_peers")
	var wg sync.WaitGroup
	for seed := range byte(20) {
		id := testKey(t, seed+1).ID()
		wg.Go(func() {
			for _, e := range []Entry{{ID: id}, {ID: id, Rate: 1}} {
				f, err := OpenAuthorizedFile(path, nil)
				if err == nil {
					err = f.Change(id, have(e))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	data, _ := os.ReadFile(path)
	entries, bad := parse(t, string(data))
	if len(entries) != 20 || len(bad) != 0 {
		t.Errorf("%d entries, bad lines %v", len(entries), bad)
	}
	for _, e := range entries {
		if e.Rate != 1 {
			t.Errorf("%v has the line that was to go", e.ID)
		}
	}
}
