//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package identity

import (
	"errors"
	"os"
	"syscall"
)

// lockFile keeps others who ask for it from changing the file until it is
// closed, and returns an error at once while another does.
func lockFile(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = raw.Control(func(fd uintptr) { locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) })
	if errors.Is(locked, errors.ErrUnsupported) {
		locked = nil // a file system that knows no locks
	}
	return errors.Join(err, locked)
}
