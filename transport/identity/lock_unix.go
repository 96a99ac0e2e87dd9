//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// tryLock keeps others who ask for it from changing the file at target until
// unlock is called; while another does, the error is errLocked.
//
// What is locked is a file beside it that nobody else can open: whoever may
// read a file can lock it, and keep it locked. One that a process has left
// behind is as good as a new one.
func tryLock(target string) (*fileLock, error) {
	path := target + lockSuffix
	file, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if err := flock(file); err != nil || !isAt(file, path) {
		file.Close()
		return nil, errors.Join(errLocked, err)
	}
	return &fileLock{target: target, unlock: func() {
		// In this order: who has opened it meanwhile sees that it is gone, and
		// makes another.
		_ = os.Remove(path)
		_ = file.Close()
	}}, nil
}

// tryAppendLock is tryLock, or, for who may not make a file there, a lock on
// the file itself if it is this user's.
func tryAppendLock(target string) (*fileLock, error) {
	l, err := tryLock(target)
	if _, unsafe := errors.AsType[*UnsafeFileError](err); unsafe || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return l, err
	}
	file, openErr := os.OpenFile(target, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if openErr != nil {
		return nil, err
	}
	if info, statErr := file.Stat(); statErr != nil || !isOwn(info) {
		file.Close()
		return nil, err
	}
	l = &fileLock{target: target, own: file, unlock: func() { _ = file.Close() }}
	// Who may make files there, root that is, does not look at this lock.
	if err := flock(file); err != nil || !isAt(file, target) || l.lockedBeside() {
		l.unlock()
		return nil, errors.Join(errLocked, err)
	}
	return l, nil
}

func isOwn(info fs.FileInfo) bool {
	owner, ok := ownerOf(info)
	return ok && owner == os.Geteuid() && info.Mode().IsRegular()
}

func openLock(path string) (*os.File, error) {
	const flags = os.O_RDWR | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return file, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	file, err = os.OpenFile(path, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errLocked // and unlocked just now
	}
	info, statErr := os.Lstat(path)
	if err == nil {
		info, statErr = file.Stat()
	}
	if statErr == nil && !isLock(info, dir) {
		statErr = &UnsafeFileError{
			Path:    path,
			Problem: "stands in the place of a lock, and is not a file that this user alone can use",
			Fix:     fmt.Sprintf("mv %q %q", path, path+".old"),
		}
	}
	if err = errors.Join(statErr, err); err != nil {
		if file != nil {
			file.Close()
		}
		return nil, err
	}
	return file, nil
}

// isLock tells whether a file that was there can be the lock: nobody can hold
// it but this user, and who owns the directory and can do as he likes in it.
func isLock(info, dir fs.FileInfo) bool {
	owner, ok := ownerOf(info)
	above, _ := ownerOf(dir)
	return ok && (owner == os.Geteuid() || owner == above) && info.Mode().IsRegular() && info.Mode().Perm()&0o077 == 0
}

func flock(f *os.File) error {
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
