package files

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// A tree is what a scan found below a directory, in lexical order.
type tree struct {
	items   []meta
	bytes   int64 // of all files
	skipped []string
	failed  []*FileError
}

// scan lists what is below root, or, if only is not empty, the one file of
// that name in it. Symbolic links, devices, pipes, sockets and the service's
// own temporary files are skipped; what cannot be read, or not be named on
// the other side, has failed. The error is ctx's.
func scan(ctx context.Context, root *os.Root, only string) (*tree, error) {
	t := &tree{}
	start := "."
	if only != "" {
		start = only
	}
	err := fs.WalkDir(root.FS(), start, func(p string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			t.failed = append(t.failed, &FileError{Path: p, Err: err})
			return skipDir(d)
		}
		if p == "." {
			return nil
		}
		return t.add(p, d)
	})
	return t, err
}

func (t *tree) add(p string, d fs.DirEntry) error {
	if !d.IsDir() && (!d.Type().IsRegular() || reserved(p)) {
		t.skipped = append(t.skipped, p)
		return nil
	}
	err := CheckPath(p)
	var info fs.FileInfo
	if err == nil {
		info, err = d.Info()
	}
	if err != nil {
		t.failed = append(t.failed, &FileError{Path: p, Err: err})
		return skipDir(d)
	}
	m := metaOf(p, info)
	t.items = append(t.items, m)
	t.bytes += m.size
	return nil
}

func skipDir(d fs.DirEntry) error {
	if d != nil && d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func metaOf(p string, info fs.FileInfo) meta {
	m := meta{path: p, dir: info.IsDir(), mode: info.Mode().Perm(), mtime: info.ModTime()}
	if !m.dir {
		m.size = info.Size()
	}
	return m
}

// openSource opens the directory that holds what is at name: name itself, or
// the directory of the file that it names, which is then only.
func openSource(name string) (root *os.Root, only string, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, "", err
	}
	if info.IsDir() {
		root, err = os.OpenRoot(name)
		return root, "", err
	}
	// A link given by name is meant; its target's own name is not.
	if name, err = filepath.EvalSymlinks(name); err != nil {
		return nil, "", err
	}
	root, err = os.OpenRoot(filepath.Dir(name))
	return root, filepath.Base(name), err
}

// below puts the path p under the directory into.
func below(into, p string) string { return path.Join(into, p) }
