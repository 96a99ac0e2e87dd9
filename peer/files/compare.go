package files

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/zeebo/blake3"
)

// A Comparison is what [Compare] found.
type Comparison struct {
	Files, Dirs int          // in the first directory
	Bytes       int64        // in those files
	Different   []Difference // each path once
}

// A Difference is what differs at one path.
type Difference struct {
	Path string // slash-separated, relative to both directories
	What string
}

// Equal tells whether nothing differs.
func (c Comparison) Equal() bool { return len(c.Different) == 0 }

// Compare compares what is in two directories file by file: which there are,
// their sizes, permission bits and BLAKE3 hashes. What [Push] skips is
// skipped here. What cannot be read counts as different; the error is ctx's,
// or says that a directory cannot be opened.
func Compare(ctx context.Context, dirA, dirB string) (Comparison, error) {
	a, treeA, err := openTree(ctx, dirA)
	if err != nil {
		return Comparison{}, err
	}
	defer a.Close()
	b, treeB, err := openTree(ctx, dirB)
	if err != nil {
		return Comparison{}, err
	}
	defer b.Close()

	var result Comparison
	bad := make(map[string]bool) // the paths that cannot be compared
	for _, e := range append(treeA.failed, treeB.failed...) {
		if !bad[e.Path] {
			bad[e.Path] = true
			result.differ(e.Path, e.Err.Error())
		}
	}
	rest := make(map[string]meta, len(treeB.items))
	for _, m := range treeB.items {
		rest[m.path] = m
	}
	for _, m := range treeA.items {
		if ctx.Err() != nil {
			return result, context.Cause(ctx)
		}
		other, ok := rest[m.path]
		delete(rest, m.path)
		result.count(m)
		why := "is only in " + dirA
		if ok {
			why = differs(a, b, m, other)
		}
		if why != "" && !bad[m.path] {
			result.differ(m.path, why)
		}
	}
	for _, m := range treeB.items {
		if _, ok := rest[m.path]; ok && !bad[m.path] {
			result.differ(m.path, "is only in "+dirB)
		}
	}
	return result, nil
}

func openTree(ctx context.Context, dir string) (*os.Root, *tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("files: %w", err)
	}
	t, err := scan(ctx, root, "")
	if err != nil {
		root.Close()
		return nil, nil, fmt.Errorf("files: %w", err)
	}
	return root, t, nil
}

func (c *Comparison) count(m meta) {
	if m.dir {
		c.Dirs++
		return
	}
	c.Files++
	c.Bytes += m.size
}

func (c *Comparison) differ(path, why string) {
	c.Different = append(c.Different, Difference{Path: path, What: why})
}

// differs says what differs between m in a and other in b; "" is nothing.
// The modes of directories are not compared: a receiver gives itself more.
func differs(a, b *os.Root, m, other meta) string {
	switch {
	case m.dir != other.dir:
		return "is a file on one side and a directory on the other"
	case m.dir:
		return ""
	case m.size != other.size:
		return fmt.Sprintf("has %d and %d bytes", m.size, other.size)
	case m.mode != other.mode:
		return fmt.Sprintf("has modes %v and %v", m.mode, other.mode)
	}
	sumA, err := hashFile(a, m.path)
	if err != nil {
		return err.Error()
	}
	sumB, err := hashFile(b, m.path)
	if err != nil {
		return err.Error()
	}
	if sumA != sumB {
		return "has different contents"
	}
	return ""
}

func hashFile(root *os.Root, path string) (sum [32]byte, err error) {
	f, err := root.Open(filepath.FromSlash(path))
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := blake3.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [32]byte(h.Sum(nil)), nil
}
