//go:build unix

package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkPrivate refuses a file that holds that secret and that others may use.
func checkPrivate(secret string) func(path string, info fs.FileInfo) error {
	return func(path string, info fs.FileInfo) error {
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			return &UnsafeFileError{
				Path:    path,
				Problem: fmt.Sprintf("mode %#o lets others use the %s", mode, secret),
				Fix:     fmt.Sprintf("chmod 600 %q", path),
			}
		}
		return nil
	}
}

// checkTrusted refuses a file or directory that others may have written to.
// In a directory with the sticky bit others cannot touch files of ours.
func checkTrusted(path string, info fs.FileInfo) error {
	if err := checkOwner(path, info); err != nil {
		return err
	}
	sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0
	if mode := info.Mode().Perm(); mode&0o022 != 0 && !sticky {
		return &UnsafeFileError{
			Path:    path,
			Problem: fmt.Sprintf("mode %#o lets others write", mode),
			Fix:     fmt.Sprintf("chmod go-w %q", path),
		}
	}
	return nil
}

func ownerOf(info fs.FileInfo) (int, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// syncDir makes a new name in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil // a file system that cannot promise it
	}
	return err
}
