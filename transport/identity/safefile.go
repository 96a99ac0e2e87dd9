package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A SafeFile is a small file that says whom to trust, and that nobody may
// have written to but this user and root; or that holds a secret, and that
// nobody else may even read. Anything else is an [UnsafeFileError]. Errors
// name the path and what to do.
//
// Who writes leaves the file as it was, or as it was to be: an error, be it
// that the disk is full, leaves nothing half-written behind.
type SafeFile struct {
	Path  string
	Max   int64  // bytes
	Holds string // what it holds that nobody else may read, in a word or two; "": nothing
}

// Read returns what stood in the file at one moment. A missing file is
// [fs.ErrNotExist].
func (f SafeFile) Read() ([]byte, error) {
	data, _, err := f.read()
	return data, err
}

func (f SafeFile) read() ([]byte, fs.FileInfo, error) {
	if f.Holds != "" {
		return readBounded(f.Path, f.Max, checkPrivate(f.Holds))
	}
	if err := checkDirs(f.Path); err != nil {
		return nil, nil, err
	}
	return readBounded(f.Path, f.Max, checkTrusted)
}

// Create makes the file, with mode 0600, and what directories it needs, with
// mode 0700. A file that is there is never overwritten: that is [fs.ErrExist].
func (f SafeFile) Create(data []byte) error {
	if int64(len(data)) > f.Max {
		return fmt.Errorf("identity: %s: would have more than %d bytes", f.Path, f.Max)
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
		return notWritten(f.Path, err)
	}
	if err := publish(f.Path, data, 0o600); err != nil {
		return notWritten(f.Path, err)
	}
	return nil
}

// Append adds the line that next makes of what the file says, in one write,
// and returns when it is on the disk. If the line is empty nothing is
// written. Missing files are made as by Create. Between next and the end no
// other process changes the file by Append or Rewrite.
//
// It needs no right to make files in the directory if this user owns the file.
// Only then is it an error that another process has replaced the file at the
// same time: the line may be in it or not.
func (f SafeFile) Append(next func(old []byte) (line string, err error)) error {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
		return notWritten(f.Path, err)
	}
	l, err := f.lock(tryAppendLock)
	if err != nil {
		return err
	}
	defer l.unlock()
	file, made, err := f.open(os.O_RDWR | os.O_APPEND | os.O_CREATE)
	if err != nil {
		return err
	}
	wrote, err := f.appendTo(file, next)
	if made && !wrote {
		err = errors.Join(err, os.Remove(f.Path))
	}
	if err = errors.Join(err, file.Close()); err != nil || !wrote {
		return err
	}
	if err := syncDir(filepath.Dir(l.target)); err != nil {
		return notWritten(f.Path, err)
	}
	return l.settled(f.Path)
}

func (f SafeFile) appendTo(file *os.File, next func([]byte) (string, error)) (wrote bool, err error) {
	data, err := f.readLocked(file)
	if err != nil {
		return false, err
	}
	line, err := next(data)
	if err != nil || line == "" {
		return false, err
	}
	text := line + "\n"
	if len(data) > 0 && data[len(data)-1] != '\n' {
		text = "\n" + text
	}
	if int64(len(data)+len(text)) > f.Max {
		return false, fmt.Errorf("identity: %s: would have more than %d bytes", f.Path, f.Max)
	}
	_, err = file.WriteString(text)
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return false, notWritten(f.Path, errors.Join(err, file.Truncate(int64(len(data)))))
	}
	return true, nil
}

// Rewrite puts what change makes of the file's content in its place, in one
// step; if that is the same, nothing is written. A missing file is
// [fs.ErrNotExist]. A symbolic link stays one.
func (f SafeFile) Rewrite(change func(old []byte) ([]byte, error)) error {
	if _, err := os.Stat(f.Path); err != nil {
		return notWritten(f.Path, err)
	}
	l, err := f.lock(tryLock)
	if err != nil {
		return err
	}
	defer l.unlock() // when the new file is in place
	file, _, err := f.open(os.O_RDWR)
	if err != nil {
		return err
	}
	defer file.Close()
	old, err := f.readLocked(file)
	if err != nil {
		return err
	}
	data, err := change(old)
	if err != nil || string(data) == string(old) {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	temp := l.target + "." + rand.Text() + ".tmp"
	if err := create(temp, data, info.Mode().Perm()); err != nil {
		return notWritten(f.Path, err)
	}
	if err := os.Rename(temp, l.target); err != nil {
		return notWritten(f.Path, errors.Join(err, os.Remove(temp)))
	}
	if err := syncDir(filepath.Dir(l.target)); err != nil {
		return notWritten(f.Path, err)
	}
	return nil
}

// open opens the file while it is locked, and tells whether it was made for
// that.
func (f SafeFile) open(flags int) (file *os.File, made bool, err error) {
	_, missing := os.Lstat(f.Path)
	file, err = os.OpenFile(f.Path, flags, 0o600)
	if err != nil {
		return nil, false, notWritten(f.Path, err)
	}
	// If it has content somebody else was the one that made it.
	info, err := file.Stat()
	return file, err == nil && info.Size() == 0 && errors.Is(missing, fs.ErrNotExist), nil
}

func (f SafeFile) readLocked(file *os.File) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if err := errors.Join(checkDirs(f.Path), checkTrusted(f.Path, info)); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, f.Max+1))
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if int64(len(data)) > f.Max {
		return nil, fmt.Errorf("identity: %s: more than %d bytes", f.Path, f.Max)
	}
	return data, nil
}

// notWritten says what to do about a file that could not be written.
func notWritten(path string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("identity: %w", &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist})
	}
	var do string
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		do = "make room there and try again"
	case errors.Is(err, syscall.EROFS):
		do = "its file system is read-only: make it writable or name another place"
	case errors.Is(err, fs.ErrPermission):
		do = "this user may not write there: change the permissions or name another place"
	default:
		do = "it is as it was before"
	}
	// Of several errors the first is why, and the others are what mending met.
	return fmt.Errorf("identity: %s was not written; %s: %w", path, do, oneLine{err})
}

// oneLine prints joined errors in a line.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", "; ") }

func (e oneLine) Unwrap() error { return e.error }
