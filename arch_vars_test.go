package ckt_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

func checkPackageComments(tr *tree) []string {
	var found []string
	for _, group := range tr.folders() {
		var with []*source
		shipped := false
		for _, s := range group {
			if s.generated {
				continue
			}
			shipped = shipped || !s.test
			if s.file.Doc.Text() != "" { // "" for directives alone
				with = append(with, s)
			}
		}
		switch {
		case !shipped:
		case len(with) == 0:
			found = append(found, fmt.Sprintf("%s: package %s has no package comment", group[0].path, group[0].file.Name.Name))
		case len(with) > 1:
			found = append(found, fmt.Sprintf("%s: a second package comment, after that of %s", with[1].path, with[0].path))
		default:
			name, doc := with[0].file.Name.Name, with[0].file.Doc.Text()
			if name != "main" && !strings.HasPrefix(doc, "Package "+name+" ") {
				found = append(found, fmt.Sprintf("%s: the package comment does not begin with \"Package %s\"", with[0].path, name))
			}
		}
	}
	return found
}

func checkInit(tr *tree) []string {
	var found []string
	for _, s := range tr.files {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				found = append(found, tr.at(f)+": init")
			}
		}
	}
	return found
}

// checkVars looks at the package variables of everything that ships. One may
// stay if its initial value is of a kind that nobody changes (see constant),
// and nothing in its package assigns to it, to a part of it, or takes its
// address.
func checkVars(tr *tree) []string {
	var found []string
	for _, s := range tr.shipping() {
		if s.generated {
			continue
		}
		for _, d := range s.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				if !fixedVar(v) && !embedded(g, v) {
					found = append(found, fmt.Sprintf("%s: package variable %s", tr.at(v), v.Names[0].Name))
				}
			}
		}
	}
	for _, group := range tr.folders() {
		found = append(found, tr.assignments(group)...)
	}
	return found
}

func embedded(g *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{g.Doc, v.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	return false
}

// fixedVar reports whether all names of v are "_" or start with a fixed value.
func fixedVar(v *ast.ValueSpec) bool {
	blank := true
	for _, name := range v.Names {
		blank = blank && name.Name == "_"
	}
	if blank {
		return true
	}
	for _, value := range v.Values {
		if table, ok := value.(*ast.CompositeLit); ok && len(table.Elts) == 0 {
			return false // empty, so it is there to be filled
		}
		if !constant(value) {
			return false
		}
	}
	return len(v.Values) > 0
}

// constant reports whether e is of a kind that nobody changes: a sentinel, a
// pattern, an encoding, another package's sentinel, or a table of constants.
// It is a rule of form: types are not looked at.
func constant(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		for _, elt := range e.Elts {
			if !element(elt) {
				return false
			}
		}
		return !statefulType(e.Type)
	case *ast.SelectorExpr:
		return strings.HasPrefix(e.Sel.Name, "Err") || encoding(e)
	case *ast.CallExpr:
		return fixedCall(e)
	}
	return false
}

// encoding reports whether e names an encoding of the standard library.
func encoding(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && (pkg.Name == "base32" || pkg.Name == "base64" || pkg.Name == "binary")
}

// fixedCall reports whether a call makes a value that nobody changes.
func fixedCall(e *ast.CallExpr) bool {
	if _, conversion := e.Fun.(*ast.ArrayType); conversion { // []byte("…")
		return len(e.Args) == 1 && element(e.Args[0])
	}
	sel, ok := e.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	if sel.Sel.Name == "WithPadding" {
		inner, ok := sel.X.(*ast.CallExpr)
		return encoding(sel.X) || ok && fixedCall(inner)
	}
	pkg, ok := sel.X.(*ast.Ident)
	if !ok {
		return false
	}
	switch pkg.Name + "." + sel.Sel.Name {
	case "errors.New", "fmt.Errorf", "regexp.MustCompile",
		"base32.NewEncoding", "base64.NewEncoding", "netip.MustParsePrefix", "netip.MustParseAddr":
		return true
	}
	return false
}

// element reports whether e may stand in a table of constants.
func element(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit, *ast.Ident, *ast.SelectorExpr, *ast.FuncLit:
		return true
	case *ast.KeyValueExpr:
		return element(e.Key) && element(e.Value)
	case *ast.UnaryExpr:
		return e.Op != token.AND && e.Op != token.ARROW && element(e.X)
	case *ast.BinaryExpr:
		return element(e.X) && element(e.Y)
	case *ast.ParenExpr:
		return element(e.X)
	}
	return constant(e)
}

// statefulType reports whether a composite literal of the type is a counter, a
// lock or a pool rather than a table.
func statefulType(t ast.Expr) bool {
	sel, ok := t.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && (pkg.Name == "sync" || pkg.Name == "atomic")
}

// assignments returns the places in one folder that change a package variable
// of that folder or of another of our packages.
func (tr *tree) assignments(group []*source) []string {
	var files []*ast.File
	for _, s := range group {
		if !s.generated {
			files = append(files, s.file)
		}
	}
	uses := tr.uses(files)
	var found []string
	report := func(e ast.Expr) {
		id := rootIdent(e)
		if id != nil && isPackageVar(uses[id]) {
			found = append(found, fmt.Sprintf("%s: package variable %s is changed or its address taken", tr.at(e), id.Name))
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, lhs := range n.Lhs {
					report(lhs)
				}
			case *ast.IncDecStmt:
				report(n.X)
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					report(n.X)
				}
			case *ast.RangeStmt:
				if n.Tok == token.ASSIGN {
					report(n.Key)
					report(n.Value)
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "delete" || f.Name == "clear") && len(n.Args) > 0 {
					report(n.Args[0])
				}
			}
			return true
		})
	}
	return found
}

// uses resolves the identifiers of one folder's files. Imports are left empty
// and errors ignored: only names of the folder itself and of packages matter.
func (tr *tree) uses(files []*ast.File) map[*ast.Ident]types.Object {
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	conf := types.Config{Importer: emptyPackages{}, Error: func(error) {}, FakeImportC: true}
	byName := make(map[string][]*ast.File) // package and package_test
	for _, f := range files {
		byName[f.Name.Name] = append(byName[f.Name.Name], f)
	}
	for name, group := range byName {
		// The errors are those of the empty imports.
		_, _ = conf.Check(name, tr.fset, group, info)
	}
	return info.Uses
}

// emptyPackages imports every package as one without names.
type emptyPackages struct{}

func (emptyPackages) Import(importPath string) (*types.Package, error) {
	name := importPath[strings.LastIndexByte(importPath, '/')+1:]
	pkg := types.NewPackage(importPath, name)
	pkg.MarkComplete()
	return pkg, nil
}

// rootIdent returns the variable that an assignable expression is or is a
// part of; for a variable of another package, the package's name.
func rootIdent(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.ParenExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// isPackageVar reports whether obj is a package variable of the folder, or
// stands for one of our other packages.
func isPackageVar(obj types.Object) bool {
	switch obj := obj.(type) {
	case *types.Var:
		return obj.Pkg() != nil && obj.Parent() == obj.Pkg().Scope()
	case *types.PkgName:
		return isOurs(obj.Imported().Path())
	}
	return false
}
