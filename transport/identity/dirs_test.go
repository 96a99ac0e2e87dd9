//go:build unix

package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A chain is a file with directories above it, and links on the way:
//
//	dir/a/b/file
//	dir/links/abs -> dir/a/b/file, rel -> ../a/b/file
//	dir/links/dir -> ../hop/on, dir/hop/on -> ../a/b
type chain struct{ dir, file string }

func newChain(t testing.TB) chain {
	t.Helper()
	dir := safeDir(t)
	c := chain{dir: dir, file: filepath.Join(dir, "a", "b", "file")}
	for _, name := range []string{"a", "a/b", "links", "hop"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, c.file, "text\n")
	for name, target := range map[string]string{
		"links/abs": c.file, "links/rel": "../a/b/file", "links/dir": "../hop/on", "hop/on": "../a/b",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// unsafePath returns what err says is to be mended; empty: nothing.
func unsafePath(err error) string {
	e, ok := errors.AsType[*UnsafeFileError](err)
	if !ok || !strings.Contains(e.Fix, e.Path) {
		return ""
	}
	return e.Path
}

func TestEveryDirectoryOnTheWayIsChecked(t *testing.T) {
	c := newChain(t)
	for _, way := range []struct {
		path string   // below dir
		over []string // directories on the way
		not  string   // one that is not
	}{
		{"a/b/file", []string{"", "a", "a/b"}, "links"},
		{"links/abs", []string{"", "links", "a", "a/b"}, "hop"},
		{"links/rel", []string{"", "links", "a", "a/b"}, "hop"},
		{"links/dir/file", []string{"", "links", "hop", "a", "a/b"}, ""},
		{"links/../hop/on/../b/./file", []string{"", "links", "hop", "a", "a/b"}, ""},
	} {
		f := SafeFile{Path: c.dir + "/" + way.path, Max: 100}
		try := func(why, unsafe string) {
			t.Helper()
			data, err := f.Read()
			if unsafe == "" && (err != nil || string(data) != "text\n") || unsafe != unsafePath(err) {
				t.Errorf("%s, %s: %q, %v; want %q to be mended", way.path, why, data, err, unsafe)
			}
		}
		try("as it should be", "")
		for _, name := range way.over {
			dir := filepath.Join(c.dir, name)
			for _, mode := range []fs.FileMode{0o720, 0o702} {
				os.Chmod(dir, mode)
				try(mode.String(), dir)
			}
			os.Chmod(dir, 0o777|fs.ModeSticky)
			try("sticky", "")
			os.Chmod(dir, 0o700)
			if os.Geteuid() == 0 {
				os.Chown(dir, 12345, -1)
				try("another user's", dir)
				os.Chown(dir, 0, -1)
			}
		}
		if way.not != "" {
			os.Chmod(filepath.Join(c.dir, way.not), 0o777)
			try("beside the way", "")
			os.Chmod(filepath.Join(c.dir, way.not), 0o700)
		}
	}
}

func TestRelativePathIsCheckedToTheRoot(t *testing.T) {
	c := newChain(t)
	t.Chdir(filepath.Join(c.dir, "a", "b"))
	f := SafeFile{Path: "file", Max: 100}
	if _, err := f.Read(); err != nil {
		t.Fatal(err)
	}
	os.Chmod(c.dir, 0o777)
	if _, err := f.Read(); unsafePath(err) != c.dir {
		t.Errorf("others may write far above it: %v", err)
	}
}

// In a sticky directory others can make links, and turn theirs elsewhere.
func TestLinkOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link another user's")
	}
	c := newChain(t)
	hop, link := filepath.Join(c.dir, "hop"), filepath.Join(c.dir, "hop", "on")
	if err := os.Lchown(link, 12345, -1); err != nil {
		t.Fatal(err)
	}
	f := SafeFile{Path: filepath.Join(c.dir, "links", "dir", "file"), Max: 100}
	if _, err := f.Read(); err != nil {
		t.Errorf("where only this user can make one: %v", err)
	}
	os.Chmod(hop, 0o777|fs.ModeSticky)
	if _, err := f.Read(); unsafePath(err) != link {
		t.Errorf("another user's link: %v", err)
	}
}

func TestMissingIsNotUnsafe(t *testing.T) {
	c := newChain(t)
	os.Symlink("round", filepath.Join(c.dir, "round"))
	os.Chmod(filepath.Join(c.dir, "a"), 0o777)
	for _, name := range []string{"a/none", "a/none/file", "links/dir/none"} {
		_, err := SafeFile{Path: filepath.Join(c.dir, name), Max: 100}.Read()
		if !errors.Is(err, fs.ErrNotExist) || isType[*UnsafeFileError](err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"round", "a/b/file/none"} {
		_, err := SafeFile{Path: filepath.Join(c.dir, name), Max: 100}.Read()
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), c.dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A change of any directory counts at the next look, with nothing read anew
// while there is none.
func TestFollowedLooksAtEveryDirectory(t *testing.T) {
	c := newChain(t)
	os.Chtimes(c.file, someday, someday)
	f := &Followed[string]{
		SafeFile: SafeFile{Path: filepath.Join(c.dir, "links", "dir", "file"), Max: 100},
		Parse:    func(data []byte) (string, error) { return string(data), nil },
	}
	for _, name := range []string{"", "links", "hop", "a"} {
		dir := filepath.Join(c.dir, name)
		if got, err := f.Get(); got != "text\n" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		if before := f.latest(); f.latest() != before {
			t.Error("read again though nothing has changed")
		}
		os.Chmod(dir, 0o777)
		if got, err := f.Get(); got != "" || unsafePath(err) != dir {
			t.Errorf("others may write to %s: %q, %v", dir, got, err)
		}
		os.Chmod(dir, 0o700)
	}
}

func BenchmarkFollowed(b *testing.B) {
	c := newChain(b)
	os.Chtimes(c.file, someday, someday)
	for name, path := range map[string]string{"plain": c.file, "links": filepath.Join(c.dir, "links", "dir", "file")} {
		b.Run(name, func(b *testing.B) {
			f := &Followed[int]{
				SafeFile: SafeFile{Path: path, Max: 100},
				Parse:    func(data []byte) (int, error) { return len(data), nil },
			}
			for b.Loop() {
				if _, err := f.Get(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
