//go:build unix

package identity

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// checkDirs refuses a path if somebody else can put another file there: it
// checks every directory in which a name is looked up on the way, from the
// root on, behind symbolic links too. A missing file is [fs.ErrNotExist],
// whatever the directories are.
//
// It costs a stat a level. Files that are followed are checked by it each
// time, so it makes no other calls.
func checkDirs(path string) error {
	if !filepath.IsAbs(path) {
		dir, err := os.Getwd()
		if err != nil {
			return fmt.Errorf("identity: %w", err)
		}
		path = dir + "/" + path // not cleaned: behind a link ".." is elsewhere
	}
	w := walk{rest: path}
	err := w.enter("/")
	for err == nil && w.rest != "" {
		var name string
		name, w.rest, _ = strings.Cut(w.rest, "/")
		if name != "" && name != "." {
			err = w.enter(filepath.Join(w.at, name))
		}
	}
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return w.unsafe
}

// A walk goes along a path as the system does.
type walk struct {
	at     string // where it is; no links in it
	sticky bool   // at is a directory in which others may make names of their own
	rest   string // where it has yet to go
	links  int
	unsafe error // what was found first
}

// enter goes on to path, a name in the directory where the walk is or the one
// above it.
func (w *walk) enter(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return w.follow(path, info)
	}
	w.at, w.sticky = path, info.IsDir() && info.Mode()&fs.ModeSticky != 0
	if info.IsDir() {
		w.note(checkTrusted(path, info))
	}
	return nil
}

func (w *walk) follow(path string, info fs.FileInfo) error {
	if w.sticky {
		w.note(checkOwner(path, info)) // elsewhere only trusted users make links
	}
	if w.links++; w.links > maxLinks {
		return &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
	}
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	w.rest = target + "/" + w.rest
	if filepath.IsAbs(target) {
		return w.enter("/")
	}
	return nil
}

func (w *walk) note(err error) {
	if w.unsafe == nil {
		w.unsafe = err
	}
}

// checkOwner refuses what belongs to somebody who is neither this user nor
// root.
func checkOwner(path string, info fs.FileInfo) error {
	uid, ok := ownerOf(info)
	if !ok || uid == 0 || uid == os.Geteuid() {
		return nil
	}
	chown := "chown"
	if info.Mode()&fs.ModeSymlink != 0 {
		chown = "chown -h"
	}
	return &UnsafeFileError{
		Path:    path,
		Problem: fmt.Sprintf("belongs to user %d, who is neither this one nor root", uid),
		Fix:     fmt.Sprintf("%s %d %q", chown, os.Geteuid(), path),
	}
}
