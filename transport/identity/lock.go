package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxLinks is how many symbolic links may stand on the way to a file, as on
// Linux.
const maxLinks = 40

const (
	lockWait = 5 * time.Second // for another process that changes the file
	lockPoll = 10 * time.Millisecond
)

// lockSuffix makes the name of the lock beside a file.
const lockSuffix = ".lock"

// errLocked: another process changes the file.
var errLocked = errors.New("locked")

// A fileLock keeps other processes from changing a file by Append or Rewrite
// until unlock is called.
type fileLock struct {
	target string // where the file lies, or will, behind links
	unlock func()
	own    *os.File // the file, if it is what is locked; else nil
}

// lock waits for a lock that try takes.
func (f SafeFile) lock(try func(target string) (*fileLock, error)) (*fileLock, error) {
	// Opening a named pipe to write would wait for a reader for ever.
	if info, err := os.Stat(f.Path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("identity: %s: not a regular file", f.Path)
	}
	target, err := resolve(f.Path)
	if err != nil {
		return nil, notWritten(f.Path, err)
	}
	if err := checkDirs(filepath.Dir(target)); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockPoll) {
		l, err := try(target)
		if err == nil {
			return l, nil
		}
		if unsafe, ok := errors.AsType[*UnsafeFileError](err); ok {
			return nil, unsafe
		}
		if !errors.Is(err, errLocked) {
			return nil, notWritten(f.Path, err)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("identity: %s: another process keeps it locked; try again when it is done: %w", f.Path, oneLine{errors.Join(err, os.ErrDeadlineExceeded)})
		}
	}
}

// lockedBeside tells whether there is a lock of who may make one.
func (l *fileLock) lockedBeside() bool {
	_, err := os.Lstat(l.target + lockSuffix)
	return !errors.Is(err, fs.ErrNotExist)
}

// settled makes sure that what was written to the file at path has not been
// lost to who has locked it beside, and so replaces it.
func (l *fileLock) settled(path string) error {
	if l.own == nil {
		return nil // nobody else has
	}
	for deadline := time.Now().Add(lockWait); l.lockedBeside() && time.Now().Before(deadline); {
		time.Sleep(lockPoll)
	}
	if l.lockedBeside() || !isAt(l.own, l.target) {
		return fmt.Errorf("identity: %s: another process replaced it at the same time: see what is in it, and try again", path)
	}
	return nil
}

// isAt tells whether file is still the one at path.
func isAt(file *os.File, path string) bool {
	open, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(open, there)
}

// resolve returns where the file lies, or where one that is missing will.
func resolve(path string) (string, error) {
	for range maxLinks {
		target, err := filepath.EvalSymlinks(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return target, err
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		next, err := os.Readlink(path)
		if err != nil { // no link
			return filepath.Join(dir, filepath.Base(path)), nil
		}
		if path = next; !filepath.IsAbs(next) {
			path = dir + string(filepath.Separator) + next
		}
	}
	return "", &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}
