package ckt_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"path"
	"strings"
)

// The budgets. A statement in docs/architecture.md gives the reasons.
const (
	maxFileLines  = 400
	maxFuncLines  = 80
	maxExported   = 40
	maxMethods    = 6 // an embedded interface counts as one
	shortFunc     = 30
	shortFuncsPct = 90
)

// checkWire looks at the files whose types msgp generates code for: those with
// a msgp directive, and those that a generated file is named after. Frames are
// read whole and bounded before they are decoded, so nothing may decode from a
// stream.
func checkWire(tr *tree) []string {
	var found []string
	generated := make(map[string]bool) // source path of each file that msgp has made
	for _, s := range tr.files {
		if stem, ok := strings.CutSuffix(s.path, "_gen.go"); ok && s.generated && bytes.Contains(s.text, []byte("tinylib/msgp")) {
			generated[stem+".go"] = true
			if bytes.Contains(s.text, []byte("DecodeMsg(")) {
				found = append(found, s.path+":1: has streaming methods: generate it with -io=false")
			}
		}
	}
	for _, s := range tr.files {
		if s.generated || s.test {
			continue
		}
		directives := msgpDirectives(s.file)
		if len(directives) > 0 || generated[s.path] {
			found = append(found, wireTypes(tr, s, directives)...)
		}
		found = append(found, streamingReaders(tr, s)...)
	}
	return found
}

// msgpDirectives returns the directives of a file, without "//msgp:", and
// "generate" for a line that runs msgp.
func msgpDirectives(f *ast.File) []string {
	var out []string
	for _, group := range f.Comments {
		for _, c := range group.List {
			if d, ok := strings.CutPrefix(c.Text, "//msgp:"); ok {
				out = append(out, d)
			} else if strings.HasPrefix(c.Text, "//go:generate ") && strings.Contains(c.Text, "msgp") {
				out = append(out, "generate")
			}
		}
	}
	return out
}

func wireTypes(tr *tree, s *source, directives []string) []string {
	var found []string
	limited := false
	for _, d := range directives {
		limited = limited || strings.HasPrefix(d, "limit ")
	}
	if !limited {
		found = append(found, s.path+":1: wire types without a //msgp:limit line")
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		st, ok := n.(*ast.StructType)
		if !ok {
			return true
		}
		for _, field := range st.Fields.List {
			if hasAny(field.Type) {
				found = append(found, tr.at(field)+": any on the wire")
			}
		}
		return true
	})
	return found
}

func hasAny(t ast.Expr) bool {
	found := false
	ast.Inspect(t, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			found = found || n.Name == "any"
		case *ast.InterfaceType:
			found = found || n.Methods.NumFields() == 0
		}
		return !found
	})
	return found
}

func streamingReaders(tr *tree, s *source) []string {
	var found []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			pkg, _ := sel.X.(*ast.Ident)
			switch name := sel.Sel.Name; {
			case pkg != nil && pkg.Name == "msgp" && (strings.HasPrefix(name, "NewReader") || name == "Decode" || name == "Reader"),
				name == "DecodeMsg":
				found = append(found, fmt.Sprintf("%s: %s decodes from a stream", tr.at(sel), name))
			}
		}
		return true
	})
	return found
}

func checkFileLength(tr *tree) []string {
	var found []string
	for _, s := range tr.files {
		if !s.generated && s.lines > maxFileLines {
			found = append(found, fmt.Sprintf("%s:1: %d lines, the budget is %d", s.path, s.lines, maxFileLines))
		}
	}
	return found
}

func checkFuncLength(tr *tree) []string {
	var found []string
	total, short := 0, 0
	for _, s := range tr.files {
		if s.generated {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			n := tr.fset.Position(f.End()).Line - tr.fset.Position(f.Pos()).Line + 1
			if n > maxFuncLines {
				found = append(found, fmt.Sprintf("%s: %s has %d lines, the budget is %d", tr.at(f), f.Name.Name, n, maxFuncLines))
			}
			if !s.test {
				total++
				if n < shortFunc {
					short++
				}
			}
		}
	}
	if short*100 < total*shortFuncsPct {
		found = append(found, fmt.Sprintf("only %d of %d functions are under %d lines, the budget is %d %%", short, total, shortFunc, shortFuncsPct))
	}
	return found
}

// An exportedName is one name that a package shows to its importers.
type exportedName struct {
	name string
	at   ast.Node
	docs []*ast.CommentGroup // any one of them is enough
}

// exported returns the top-level names of s that importers see.
func exported(s *source) []exportedName {
	var names []exportedName
	add := func(id *ast.Ident, docs ...*ast.CommentGroup) {
		if id.IsExported() {
			names = append(names, exportedName{id.Name, id, docs})
		}
	}
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				add(d.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					add(spec.Name, d.Doc, spec.Doc, spec.Comment)
				case *ast.ValueSpec:
					for _, id := range spec.Names {
						add(id, d.Doc, spec.Doc, spec.Comment)
					}
				}
			}
		}
	}
	return names
}

func checkExportedCount(tr *tree) []string {
	var found []string
	for _, group := range tr.folders() {
		seen := make(map[string]bool) // a name may be declared once for each system
		for _, s := range group {
			if s.test || s.generated || s.file.Name.Name == "main" {
				continue
			}
			for _, e := range exported(s) {
				seen[e.name] = true
			}
		}
		if len(seen) > maxExported {
			found = append(found, fmt.Sprintf("%s: %d exported names, the budget is %d", path.Join(group[0].folder, "*.go"), len(seen), maxExported))
		}
	}
	return found
}

func checkDocs(tr *tree) []string {
	var found []string
	for _, s := range tr.files {
		if s.test || s.generated || s.file.Name.Name == "main" {
			continue
		}
		for _, e := range exported(s) {
			if !documented(e.docs) {
				found = append(found, fmt.Sprintf("%s: %s is not documented", tr.at(e.at), e.name))
			}
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && f.Recv != nil && f.Name.IsExported() && ast.IsExported(receiver(f)) && f.Doc.Text() == "" {
				found = append(found, fmt.Sprintf("%s: %s.%s is not documented", tr.at(f), receiver(f), f.Name.Name))
			}
		}
	}
	return found
}

func documented(docs []*ast.CommentGroup) bool {
	for _, doc := range docs {
		if doc.Text() != "" {
			return true
		}
	}
	return false
}

// receiver returns the name of the type that f is a method of.
func receiver(f *ast.FuncDecl) string {
	t := f.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

func checkInterfaces(tr *tree) []string {
	var found []string
	for _, s := range tr.files {
		if s.generated {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			t, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if i, ok := t.Type.(*ast.InterfaceType); ok && i.Methods.NumFields() > maxMethods {
				found = append(found, fmt.Sprintf("%s: %s has %d methods, the budget is %d", tr.at(t), t.Name.Name, i.Methods.NumFields(), maxMethods))
			}
			return true
		})
	}
	return found
}
