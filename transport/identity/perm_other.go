//go:build !unix

package identity

import "io/fs"

// Where file modes are made up from one read-only bit they say nothing about
// who may read or write; the directory's access list has to.

func checkPrivate(string) func(string, fs.FileInfo) error { return checkTrusted }

func checkTrusted(string, fs.FileInfo) error { return nil }

func checkDirs(string) error { return nil }

func ownerOf(fs.FileInfo) (int, bool) { return 0, false }

func syncDir(string) error { return nil }
