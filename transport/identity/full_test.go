//go:build linux

package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// smallDisk returns a directory on a file system of 64 KiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := safeDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skipf("no small file system can be mounted here (it needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves no room at all on the file system of dir.
func fill(t *testing.T, dir string) {
	t.Helper()
	err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling: %v", err)
	}
}

// writers are all that this package writes with, each to a name in a
// directory.
func writers(t *testing.T) map[string]func(path string) error {
	k := testKey(t, 1)
	return map[string]func(string) error{
		"append": func(p string) error {
			return AppendAuthorized(p, Entry{ID: k.ID(), Comment: strings.Repeat("c", 5000)})
		},
		"key":        func(p string) error { return WriteKeyFile(p, k, nil, "") },
		"new file":   func(p string) error { return SafeFile{Path: p, Max: 100}.Create([]byte("text")) },
		"in new dir": func(p string) error { return SafeFile{Path: p + "-dir/file", Max: 100}.Create([]byte("text")) },
	}
}

func wantAdvice(t *testing.T, what string, err error, cause syscall.Errno, path, advice string) {
	t.Helper()
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), advice) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: %v; want %v, the path and %q in one line", what, err, cause, advice)
	}
}

func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	there := filepath.Join(dir, "there")
	// The last page has room for no more than the start of a longer line.
	before := "# " + strings.Repeat("x", 4000) + "\n"
	write(t, there, before)
	fill(t, dir)
	for what, f := range writers(t) {
		wantAdvice(t, what, f(filepath.Join(dir, "name")), syscall.ENOSPC, dir, "make room")
	}
	err := AppendAuthorized(there, Entry{ID: testKey(t, 1).ID(), Comment: strings.Repeat("c", 5000)})
	wantAdvice(t, "append to a file", err, syscall.ENOSPC, there, "make room")
	err = SafeFile{Path: there, Max: maxPeersFile}.Rewrite(func(old []byte) ([]byte, error) { return append(old, "more\n"...), nil })
	wantAdvice(t, "rewrite", err, syscall.ENOSPC, there, "make room")
	if content(t, there) != before {
		t.Errorf("the file has changed: it has %d bytes, not %d", len(content(t, there)), len(before))
	}
	os.Remove(filepath.Join(dir, "name-dir")) // a directory is made before there is no room for its file
	wantFiles(t, dir, "filler", "there")
}

func TestReadOnlyDisk(t *testing.T) {
	dir := smallDisk(t)
	there := filepath.Join(dir, "there")
	write(t, there, "# text\n")
	remount := func(flags uintptr) {
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, "size=64k,mode=0700"); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	defer remount(0)
	for what, f := range writers(t) {
		wantAdvice(t, what, f(filepath.Join(dir, "name")), syscall.EROFS, dir, "read-only")
	}
	err := AppendAuthorized(there, Entry{ID: testKey(t, 1).ID()})
	wantAdvice(t, "append to a file", err, syscall.EROFS, there, "read-only")
	err = SafeFile{Path: there, Max: 100}.Rewrite(func(old []byte) ([]byte, error) { return nil, nil })
	wantAdvice(t, "rewrite", err, syscall.EROFS, there, "read-only")
	if content(t, there) != "# text\n" {
		t.Errorf("the file has changed: %q", content(t, there))
	}
	wantFiles(t, dir, "there")
	// What is there is still read.
	if err := open(t, there).Check(Access{ID: testKey(t, 1).ID()}, someday); !isType[*DeniedError](err) {
		t.Error(err)
	}
}

// A user other than root meets the same with a directory that is not to be
// written to.
func TestForbiddenDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; TestReadOnlyDisk shows the like")
	}
	dir := safeDir(t)
	os.Chmod(dir, 0o500)
	defer os.Chmod(dir, 0o700)
	for what, f := range writers(t) {
		wantAdvice(t, what, f(filepath.Join(dir, "name")), syscall.EACCES, dir, "may not write there")
	}
	wantFiles(t, dir)
}
