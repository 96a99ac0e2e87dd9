//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// holding locks the file at path, as who has opened it can, until the test is
// over or it is closed.
func holding(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if err := flock(file); err != nil {
		t.Skipf("no locks on this file system: %v", err)
	}
	return file
}

// shout is a change by Rewrite.
func shout(old []byte) ([]byte, error) { return []byte(strings.ToUpper(string(old))), nil }

// Whoever may read a file can lock it. That must not keep out who may write.
func TestReadersCannotLock(t *testing.T) {
	f := SafeFile{Path: filepath.Join(safeDir(t), "file"), Max: 100}
	write(t, f.Path, "mine\n")
	holding(t, f.Path, os.O_RDONLY)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := f.Append(adding("x")); err != nil {
			t.Error(err)
		}
		if err := f.Rewrite(shout); err != nil || content(t, f.Path) != "MINE\nX\n" {
			t.Errorf("%q, %v", content(t, f.Path), err)
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("they waited for %v", d)
		}
	})
	wantFiles(t, filepath.Dir(f.Path), "file")
}

// Another process that changes the file is waited for, but not for ever. The
// lock is the same for a link, and for a file that is yet to be made.
func TestLockedFile(t *testing.T) {
	dir := safeDir(t)
	real := SafeFile{Path: filepath.Join(dir, "file"), Max: 100}
	link := SafeFile{Path: filepath.Join(safeDir(t), "link"), Max: 100}
	if err := os.Symlink(real.Path, link.Path); err != nil {
		t.Fatal(err)
	}
	for _, f := range []SafeFile{link, real} { // the first one makes the file
		holder := holding(t, real.Path+".lock", os.O_RDWR|os.O_CREATE)
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			err := f.Append(adding("x"))
			if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), f.Path) ||
				strings.Contains(err.Error(), "\n") || time.Since(began) < lockWait {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
			go func() {
				time.Sleep(time.Second)
				holder.Close()
			}()
			began = time.Now()
			if err := f.Append(adding("x")); err != nil || time.Since(began) < time.Second {
				t.Errorf("when it is done, after %v: %v", time.Since(began), err)
			}
		})
	}
	if content(t, real.Path) != "x\nx\n" {
		t.Errorf("%q", content(t, real.Path))
	}
	holding(t, real.Path+".lock", os.O_RDWR|os.O_CREATE)
	synctest.Test(t, func(t *testing.T) {
		if err := link.Rewrite(shout); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}

// The lock is kept from before the file is read until it is written.
func TestChangesExcludeOneAnother(t *testing.T) {
	f := SafeFile{Path: filepath.Join(safeDir(t), "file"), Max: 100}
	slow := func(do func(func()) error) func(*testing.T) {
		return func(t *testing.T) {
			inside, done := make(chan struct{}), make(chan error, 1)
			go func() {
				done <- do(func() {
					close(inside)
					time.Sleep(time.Second)
				})
			}()
			<-inside
			began := time.Now()
			if err := f.Append(adding("last")); err != nil || time.Since(began) < time.Second {
				t.Errorf("let in after %v: %v", time.Since(began), err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	synctest.Test(t, slow(func(inside func()) error {
		return f.Append(func([]byte) (string, error) {
			inside()
			return "first", nil
		})
	}))
	synctest.Test(t, slow(func(inside func()) error {
		return f.Rewrite(func(old []byte) ([]byte, error) {
			inside()
			return shout(old)
		})
	}))
	if got := content(t, f.Path); got != "FIRST\nLAST\nlast\n" {
		t.Errorf("%q", got)
	}
}

func TestLockLeftBehind(t *testing.T) {
	f := SafeFile{Path: filepath.Join(safeDir(t), "file"), Max: 100}
	write(t, f.Path+".lock", "")
	if err := f.Append(adding("one")); err != nil {
		t.Error(err)
	}
	write(t, f.Path+".lock", "")
	if err := f.Rewrite(shout); err != nil || content(t, f.Path) != "ONE\n" {
		t.Error(err)
	}
	wantFiles(t, filepath.Dir(f.Path), "file")
}

// What others can hold is no lock, and nothing in its place is touched.
func TestWhatIsNoLock(t *testing.T) {
	dir := safeDir(t)
	f := SafeFile{Path: filepath.Join(dir, "file"), Max: 100}
	write(t, f.Path, "mine\n")
	lock := f.Path + ".lock"
	for why, put := range map[string]func() error{
		"others may open it": func() error { return errors.Join(os.WriteFile(lock, nil, 0o600), os.Chmod(lock, 0o644)) },
		"a link to a file":   func() error { return os.Symlink(f.Path, lock) },
		"a link to nothing":  func() error { return os.Symlink("nothing", lock) },
		"a directory":        func() error { return os.Mkdir(lock, 0o700) },
		"a pipe":             func() error { return syscall.Mkfifo(lock, 0o600) },
		"another user's": func() error {
			if os.Geteuid() != 0 {
				return os.Mkdir(lock, 0o700) // only root can make one
			}
			return errors.Join(os.WriteFile(lock, nil, 0o600), os.Chown(lock, 12345, -1))
		},
	} {
		if err := put(); err != nil {
			t.Fatal(why, err)
		}
		for what, err := range map[string]error{"append": f.Append(adding("x")), "rewrite": f.Rewrite(shout)} {
			if unsafePath(err) != lock || !isType[*UnsafeFileError](err) {
				t.Errorf("%s, %s: %v", why, what, err)
			}
		}
		wantFiles(t, dir, "file", "file.lock")
		if err := os.Remove(lock); err != nil || content(t, f.Path) != "mine\n" {
			t.Errorf("%s: %q, %v", why, content(t, f.Path), err)
		}
	}
}
