package files

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// What is being received lies beside its final name, so that the rename never
// crosses file systems, as tempPrefix + random text + tempSuffix.
const (
	tempPrefix = ".ckt-"
	tempSuffix = ".part"
)

// reserved tells whether the last element of p is a name that the service
// keeps for itself.
func reserved(p string) bool {
	base := path.Base(p)
	return strings.HasPrefix(base, tempPrefix) && strings.HasSuffix(base, tempSuffix)
}

// CheckPath tells whether p may name a file in any receiver's directory: a
// slash-separated relative path in UTF-8 of at most 1,024 bytes, without empty elements, ".", ".." and NUL, without what the operating
// system does not take as local or takes for a separator, and without the
// names that the service keeps for files that are not complete
// (".ckt-….part"). The error is a [PathError]. On another system the answer
// may be another: a name with a backslash can be received on Unix only.
func CheckPath(p string) error {
	bad := func(reason string) error { return &PathError{Path: p, Reason: reason} }
	switch {
	case len(p) > maxPath:
		return bad("is too long")
	case p == "." || !fs.ValidPath(p):
		return bad("is not a clean relative path")
	case strings.ContainsRune(p, 0):
		return bad("holds NUL")
	case filepath.Separator != '/' && strings.ContainsRune(p, filepath.Separator):
		return bad("holds what separates names here")
	case !filepath.IsLocal(filepath.FromSlash(p)):
		return bad("is not local to its directory")
	}
	for elem := range strings.SplitSeq(p, "/") {
		if reserved(elem) {
			return bad("is reserved for files that are not complete")
		}
	}
	return nil
}

// checkWay refuses a path that leads through anything but directories, or
// ends at something that a file (or a directory) must not replace. That the
// answer may be old a moment later is harmless: the [os.Root] is what keeps
// the path inside, this only gives a clear no instead of following links.
func checkWay(root *os.Root, m meta) error {
	for i := 0; i < len(m.path); {
		end := strings.IndexByte(m.path[i:], '/')
		last := end < 0
		end += i
		if last {
			end = len(m.path)
		}
		info, err := root.Lstat(filepath.FromSlash(m.path[:end]))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if reason := inTheWay(info.Mode(), !last || m.dir); reason != "" {
			return &PathError{Path: m.path, Reason: reason}
		}
		i = end + 1
	}
	return nil
}

func inTheWay(mode fs.FileMode, wantDir bool) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "leads through a symbolic link"
	case wantDir && !mode.IsDir():
		return "leads through what is no directory"
	case !wantDir && !mode.IsRegular():
		return "is taken by what is no regular file"
	}
	return ""
}
