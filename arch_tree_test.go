package ckt_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// modulePath is the module that the laws are about.
const modulePath = "ckt.local"

// A tree is the Go source of one module, parsed. It is read only once loaded.
type tree struct {
	fset  *token.FileSet
	files []*source
	top   []string // names of the files and folders at the top level
}

// A source is one Go file.
type source struct {
	path      string // relative to the module, with slashes
	folder    string // "." at the top
	test      bool   // a _test.go file
	generated bool
	lines     int
	text      []byte
	file      *ast.File
}

// loadTree parses the Go files of fsys. Like the go command it passes over
// testdata, folders whose name begins with "." or "_", and nested modules.
func loadTree(fsys fs.FS) (*tree, error) {
	tr := &tree{fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if p != "." && path.Dir(p) == "." {
			tr.top = append(tr.top, name)
		}
		if d.IsDir() {
			if p != "." && (name == "testdata" || name[0] == '.' || name[0] == '_' || exists(fsys, path.Join(p, "go.mod"))) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		return tr.add(fsys, p)
	})
	return tr, err
}

func exists(fsys fs.FS, name string) bool {
	_, err := fs.Stat(fsys, name)
	return err == nil
}

// add parses one file. A file that is being saved just now may vanish; that
// is no fault of the tree.
func (tr *tree) add(fsys fs.FS, p string) error {
	text, err := fs.ReadFile(fsys, p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(tr.fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	tr.files = append(tr.files, &source{
		path:      p,
		folder:    path.Dir(p),
		test:      strings.HasSuffix(p, "_test.go"),
		generated: ast.IsGenerated(file),
		lines:     bytes.Count(text, []byte("\n")),
		text:      text,
		file:      file,
	})
	return nil
}

// at prints where n stands.
func (tr *tree) at(n ast.Node) string {
	pos := tr.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", pos.Filename, pos.Line)
}

// folders groups the files by folder, in a fixed order.
func (tr *tree) folders() [][]*source {
	byFolder := make(map[string][]*source)
	for _, s := range tr.files {
		byFolder[s.folder] = append(byFolder[s.folder], s)
	}
	var all [][]*source
	for _, s := range tr.files { // WalkDir is sorted
		if group, ok := byFolder[s.folder]; ok {
			all = append(all, group)
			delete(byFolder, s.folder)
		}
	}
	return all
}

// shipping returns the files that are built into programs: no tests, no test
// kits.
func (tr *tree) shipping() []*source {
	var out []*source
	for _, s := range tr.files {
		if !s.test && !isKit(s.folder) {
			out = append(out, s)
		}
	}
	return out
}

// isKit reports whether a package is made for tests only, which its name says.
func isKit(importPath string) bool { return strings.HasSuffix(path.Base(importPath), "test") }

// imports calls yield with each import of s: the path, and the spec it
// stands in.
func (s *source) imports(yield func(importPath string, at ast.Node)) {
	for _, spec := range s.file.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			yield(p, spec)
		}
	}
}

// hasImport reports whether s imports the package, under any name.
func (s *source) hasImport(importPath string) bool {
	return slices.ContainsFunc(s.file.Imports, func(spec *ast.ImportSpec) bool {
		return spec.Path.Value == strconv.Quote(importPath)
	})
}

func isOurs(importPath string) bool { _, ok := folderOf(importPath); return ok }

// folderOf returns the folder of a package of this module.
func folderOf(importPath string) (folder string, ok bool) {
	if importPath == modulePath {
		return ".", true
	}
	return strings.CutPrefix(importPath, modulePath+"/")
}
