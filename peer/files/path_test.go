//go:build unix

package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Backslashes are letters of a name like any other where they separate
// nothing: these tests are for such systems.
func TestCheckPath(t *testing.T) {
	good := []string{"a", "a/b/c.txt", "..a", "a..", "...", ".hidden", "a b", "ümlaut/文件", "-x", "a\nb", `a\b`, `..\a`, `C:\a`, ".ckt-", ".part", strings.Repeat("x", maxPath)}
	for _, p := range good {
		if err := CheckPath(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	bad := []string{
		"", ".", "..", "/", "/etc/passwd", "../a", "a/../b", "a/..", "./a", "a/.", "a//b", "a/", "a\x00b",
		"\xff", ".ckt-ABC.part", "a/.ckt-ABC.part", ".ckt-x.part/a", strings.Repeat("x", maxPath+1),
	}
	for _, p := range bad {
		err := CheckPath(p)
		if _, ok := errors.AsType[*PathError](err); !ok {
			t.Errorf("%q: got %v, want a PathError", p, err)
		}
	}
}

// FuzzCheckPath holds what the receiver relies on: a path that passes stays
// below any directory, is the only spelling of its place, and is no temporary
// file's.
func FuzzCheckPath(f *testing.F) {
	for _, p := range []string{"a/b", "../a", "/a", "a\x00", "a\\b", "..", "a/../../b", ".ckt-A.part", "a/./b", "\xc0\xae\xc0\xae/a"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if CheckPath(p) != nil {
			return
		}
		const dir = "/srv/inbox"
		joined := filepath.Join(dir, filepath.FromSlash(p))
		if joined != dir+"/"+p {
			t.Errorf("%q becomes %q", p, joined)
		}
		if !strings.HasPrefix(joined, dir+"/") || !filepath.IsLocal(p) || !fs.ValidPath(p) {
			t.Errorf("%q leaves the directory", p)
		}
		if strings.ContainsRune(p, 0) || len(p) > maxPath || reserved(p) {
			t.Errorf("%q passed", p)
		}
		for elem := range strings.SplitSeq(p, "/") {
			if elem == "" || elem == "." || elem == ".." {
				t.Errorf("%q passed with element %q", p, elem)
			}
		}
	})
}

func TestSymbolicLinksAreNotFollowed(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "inner")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "real", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, m := range []meta{
		{path: "link"}, {path: "link/a"}, {path: "link", dir: true}, {path: "inner/a"}, {path: "inner/deep/a"},
		{path: "file/a"}, {path: "file", dir: true}, {path: "real"}, {path: "real/deep"},
	} {
		if _, ok := errors.AsType[*PathError](checkWay(root, m)); !ok {
			t.Errorf("%+v: not refused", m)
		}
	}
	for _, m := range []meta{{path: "file"}, {path: "new"}, {path: "real/new"}, {path: "no/such/dir"}, {path: "real", dir: true}} {
		if err := checkWay(root, m); err != nil {
			t.Errorf("%+v: %v", m, err)
		}
	}
}
