package files

import (
	"context"
	"fmt"
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
// the other side, has failed. The error is ctx's, or the root's or only's own.
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
		if err != nil && p == start {
			return err
		}
		if err != nil {
			t.fail(p, err)
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
		t.fail(p, err)
		return skipDir(d)
	}
	m := metaOf(p, info)
	t.items = append(t.items, m)
	t.bytes += m.size
	return nil
}

// fail notes that p cannot be pushed. A directory is visited before it turns
// out that it cannot be read, and must not count twice.
func (t *tree) fail(p string, err error) {
	if last := len(t.items) - 1; last >= 0 && t.items[last].path == p {
		t.items = t.items[:last]
	}
	t.failed = append(t.failed, &FileError{Path: p, Err: err})
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
// the directory of the file that it names, which is then only. Anything else,
// which below a directory would be skipped, is a [SourceError].
func openSource(name string) (root *os.Root, only string, err error) {
	info, err := os.Lstat(name)
	if err != nil {
		return nil, "", fmt.Errorf("files: %w", err)
	}
	dir := name
	if !info.IsDir() {
		dir, only = filepath.Dir(name), filepath.Base(name)
		if !info.Mode().IsRegular() || reserved(only) {
			return nil, "", &SourceError{Path: name, Mode: info.Mode()}
		}
	}
	if root, err = os.OpenRoot(dir); err != nil {
		return nil, "", fmt.Errorf("files: %w", err)
	}
	return root, only, nil
}

// below puts the path p under the directory into.
func below(into, p string) string { return path.Join(into, p) }
