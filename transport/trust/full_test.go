//go:build linux

package trust

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
	dir := filepath.Dir(safePath(t))
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

// A disk that takes nothing more leaves every file as it was, and no new one.
func wantNothingWritten(t *testing.T, dir string, spoil func(), cause syscall.Errno, advice string) {
	t.Helper()
	known, revoked := filepath.Join(dir, "known"), filepath.Join(dir, "revoked")
	a, b := testID(t, 1), testID(t, 2)
	// There is room in the last page for the start of another line.
	pad := "# " + strings.Repeat("x", 3900) + "\n"
	write(t, known, "host:1 "+a.PublicLine("")+"\n"+pad)
	write(t, revoked, a.String()+"\n"+pad)
	k, r := openKnown(t, known), openRevoked(t, revoked)
	before := [2]string{content(t, known), content(t, revoked)}
	spoil()
	_, removing := k.Remove("host:1")
	long := strings.Repeat("a", 200) + ":1"
	for what, err := range map[string]error{
		"Add":           k.Add(long, b),
		"Remove":        removing,
		"revoke":        r.Add(b, strings.Repeat("c", 300)),
		"new known":     openKnown(t, filepath.Join(dir, "x")).Add("host:1", a),
		"new revoked":   openRevoked(t, filepath.Join(dir, "x")).Add(a, ""),
		"pre-shared":    NewPSK(filepath.Join(dir, "x")),
		"the statement": rotate(t, testKey(t, 1), testKey(t, 2)).Write(filepath.Join(dir, "x")),
	} {
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), advice) {
			t.Errorf("%s: %v; want %v and %q", what, err, cause, advice)
		}
	}
	if after := [2]string{content(t, known), content(t, revoked)}; after != before {
		t.Error("a file has changed")
	}
	wantKnown(t, k, "what was known", "host:1", a, "known")
	wantRevoked(t, r, "what was revoked", a, 1)
	wantRevoked(t, r, "what was not", b, 0)
	for _, name := range []string{"x", "*.tmp"} {
		if left, _ := filepath.Glob(filepath.Join(dir, name)); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	wantNothingWritten(t, dir, func() {
		err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling: %v", err)
		}
	}, syscall.ENOSPC, "make room")
}

func TestReadOnlyDisk(t *testing.T) {
	dir := smallDisk(t)
	remount := func(flags uintptr) {
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, "size=64k,mode=0700"); err != nil {
			t.Fatal(err)
		}
	}
	defer remount(0)
	wantNothingWritten(t, dir, func() { remount(syscall.MS_RDONLY) }, syscall.EROFS, "read-only")
}
