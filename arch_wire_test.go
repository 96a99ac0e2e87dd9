package ckt_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// maxWireElements bounds what one message can have made for it, by the limits
// of its type: elements of arrays and maps, and bytes of binaries, at all
// depths together. A frame is bounded in bytes, but an element may take many
// times what it takes there.
const maxWireElements = 1 << 16

// checkWireLimits walks the code that msgp has generated. Before anything is
// made of what another node has said there has to be a comparison with a
// limit; nothing may nest without end, or have more elements than
// maxWireElements; and no reader is used that has not been judged.
func checkWireLimits(tr *tree) []string {
	var found []string
	for _, w := range wires(tr) {
		found = append(found, w.found...)
	}
	return found
}

// wires looks at the wire types of all folders.
func wires(tr *tree) []*wire {
	var all []*wire
	for _, group := range tr.folders() {
		w := &wire{
			tr:       tr,
			types:    make(map[string]ast.Expr),
			consts:   make(map[string]ast.Expr),
			methods:  make(map[string]*ast.FuncDecl),
			elements: make(map[string]int),
		}
		for _, s := range group {
			if s.test {
				continue
			}
			w.collect(s)
			if s.hasImport("github.com/tinylib/msgp/msgp") {
				w.readers(s)
			}
		}
		for _, name := range w.order {
			w.measure(name)
		}
		all = append(all, w)
	}
	return all
}

// A wire is the wire types of one folder.
type wire struct {
	tr       *tree
	types    map[string]ast.Expr      // declared in the folder, by name
	consts   map[string]ast.Expr      // the same
	methods  map[string]*ast.FuncDecl // UnmarshalMsg, by receiver
	order    []string                 // of methods
	elements map[string]int           // by type that has been measured; -1 while it is
	found    []string
}

func (w *wire) report(at ast.Node, format string, args ...any) {
	w.found = append(w.found, w.tr.at(at)+": "+fmt.Sprintf(format, args...))
}

func (w *wire) collect(s *source) {
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			w.collectSpecs(d)
		case *ast.FuncDecl:
			if s.generated && d.Recv != nil && d.Name.Name == "UnmarshalMsg" {
				w.methods[receiver(d)] = d
				w.order = append(w.order, receiver(d))
			}
		}
	}
}

func (w *wire) collectSpecs(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			w.types[spec.Name.Name] = spec.Type
		case *ast.ValueSpec:
			if d.Tok == token.CONST && len(spec.Names) == len(spec.Values) {
				for i, name := range spec.Names {
					w.consts[name.Name] = spec.Values[i]
				}
			}
		}
	}
}

// fixedReaders read a value whose size does not depend on what is said, or
// make no more than there are bytes: TestWireReadersMakeNoMoreThanThereIs.
func fixedReaders() []string {
	return []string{
		"ReadBoolBytes", "ReadByteBytes", "ReadExactBytes", "ReadFloat32Bytes", "ReadFloat64Bytes",
		"ReadIntBytes", "ReadInt8Bytes", "ReadInt16Bytes", "ReadInt32Bytes", "ReadInt64Bytes",
		"ReadUintBytes", "ReadUint8Bytes", "ReadUint16Bytes", "ReadUint32Bytes", "ReadUint64Bytes",
		"ReadStringBytes",
	}
}

// headerReaders tell how much is said to follow.
func headerReaders() []string {
	return []string{"ReadArrayHeaderBytes", "ReadMapHeaderBytes", "ReadBytesHeader"}
}

// readers finds readers that nobody has judged. Code that is not generated may
// read the header of an array, and compare it, but make nothing by it.
func (w *wire) readers(s *source) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name := msgpReader(call)
		switch {
		case name == "", slices.Contains(fixedReaders(), name):
		case !slices.Contains(headerReaders(), name):
			w.report(call, "msgp.%s is not known to make no more than there is", name)
		case !s.generated && name != "ReadArrayHeaderBytes":
			w.report(call, "msgp.%s in code that is not generated", name)
		}
		return true
	})
}

// msgpReader returns the name of the function of msgp that a call takes a
// value from the wire with, "" for all others.
func msgpReader(call *ast.CallExpr) string {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if pkg, ok := sel.X.(*ast.Ident); !ok || pkg.Name != "msgp" {
		return ""
	}
	for _, verb := range []string{"Read", "Skip", "Unmarshal", "Copy", "Locate", "Replace"} {
		if strings.HasPrefix(sel.Sel.Name, verb) {
			return sel.Sel.Name
		}
	}
	return ""
}

// measure returns how many elements a type of the folder can have made for it,
// after its method has been looked at once.
func (w *wire) measure(name string) int {
	if n, ok := w.elements[name]; ok {
		return max(n, 0)
	}
	f, ok := w.methods[name]
	if !ok {
		return 0
	}
	w.elements[name] = -1
	u := &unmarshal{wire: w, of: name, locals: make(map[string]ast.Expr), checked: make(map[string]bool), headers: make(map[*ast.CallExpr]bool)}
	u.walk(f.Body.List, 1)
	u.rest(f)
	if u.total > maxWireElements {
		w.report(f, "%s can have %d elements made for it, the bound is %d", name, u.total, maxWireElements)
	}
	w.elements[name] = u.total
	return u.total
}

// An unmarshal is one UnmarshalMsg method.
type unmarshal struct {
	*wire
	of      string
	locals  map[string]ast.Expr // types of local variables
	checked map[string]bool     // variables that have been compared with a limit
	headers map[*ast.CallExpr]bool
	total   int
}

// walk goes through a list of statements, which is executed up to times times.
func (u *unmarshal) walk(list []ast.Stmt, times int) {
	limit := 0 // the last one in this list: a loop over what it bounds follows
	for i, stmt := range list {
		switch stmt := stmt.(type) {
		case *ast.DeclStmt:
			u.declare(stmt)
		case *ast.AssignStmt:
			if n, ok := u.header(stmt, list[i+1:]); ok {
				limit = n
				u.total += capped(times, limit)
			}
			u.nested(stmt, times)
		case *ast.IfStmt:
			u.walkIf(stmt, times)
		case *ast.ForStmt:
			u.loop(stmt, stmt.Body, times, limit)
		case *ast.RangeStmt:
			u.loop(stmt, stmt.Body, times, limit)
		case *ast.BlockStmt:
			u.walk(stmt.List, times)
		case *ast.IncDecStmt, *ast.ReturnStmt, *ast.ExprStmt:
		default:
			u.report(stmt, "%s is read with a statement that is not known here", u.of)
		}
	}
}

func (u *unmarshal) walkIf(stmt *ast.IfStmt, times int) {
	if stmt.Init != nil {
		u.walk([]ast.Stmt{stmt.Init}, times)
	}
	u.walk(stmt.Body.List, times)
	if stmt.Else != nil {
		u.walk([]ast.Stmt{stmt.Else}, times)
	}
}

func (u *unmarshal) loop(at ast.Node, body *ast.BlockStmt, times, limit int) {
	if limit == 0 {
		u.report(at, "%s has a loop that no limit stands before", u.of)
	}
	u.walk(body.List, capped(times, limit))
}

// capped multiplies, up to what is too much in any case.
func capped(a, b int) int { return min(a*b, 2*maxWireElements) }

func (u *unmarshal) declare(stmt *ast.DeclStmt) {
	g, ok := stmt.Decl.(*ast.GenDecl)
	if !ok || g.Tok != token.VAR {
		return
	}
	for _, spec := range g.Specs {
		v := spec.(*ast.ValueSpec)
		for _, name := range v.Names {
			u.locals[name.Name] = v.Type
		}
	}
}

// header takes an assignment from a header reader. What follows has to be the
// handling of its error, and then the comparison with a limit.
func (u *unmarshal) header(stmt *ast.AssignStmt, next []ast.Stmt) (limit int, ok bool) {
	call, ok := stmt.Rhs[0].(*ast.CallExpr)
	if !ok || !slices.Contains(headerReaders(), msgpReader(call)) {
		return 0, false
	}
	u.headers[call] = true
	n, ok := stmt.Lhs[0].(*ast.Ident)
	if !ok || len(next) < 2 || !u.returns(next[0], "err", token.NEQ, nil) ||
		!u.returns(next[1], n.Name, token.GTR, &limit) && !u.returns(next[1], n.Name, token.NEQ, &limit) {
		u.report(stmt, "%s reads a header, and the next is not to compare it with a limit", u.of)
		return 0, false
	}
	u.checked[n.Name] = true
	return limit, true
}

// returns reports whether stmt is "if name op value { …; return }", and stores
// the value, a number.
func (u *unmarshal) returns(stmt ast.Stmt, name string, op token.Token, value *int) bool {
	s, ok := stmt.(*ast.IfStmt)
	if !ok || s.Init != nil || s.Else != nil {
		return false
	}
	cond, ok := s.Cond.(*ast.BinaryExpr)
	if !ok || cond.Op != op || !isIdent(cond.X, name) {
		return false
	}
	if _, ok := s.Body.List[len(s.Body.List)-1].(*ast.ReturnStmt); !ok {
		return false
	}
	if value == nil {
		return isIdent(cond.Y, "nil")
	}
	bound := cond.Y
	if id, ok := bound.(*ast.Ident); ok {
		bound = u.consts[id.Name]
	}
	lit, ok := bound.(*ast.BasicLit)
	if !ok {
		return false
	}
	n, err := strconv.ParseUint(lit.Value, 0, 32)
	*value = int(n)
	return err == nil
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// nested adds up what the types within this one can have made for them.
func (u *unmarshal) nested(stmt *ast.AssignStmt, times int) {
	call, ok := stmt.Rhs[0].(*ast.CallExpr)
	if !ok {
		return
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "UnmarshalMsg" {
		return
	}
	name := typeName(u.typeOf(sel.X))
	if u.methods[name] == nil {
		u.report(call, "%s has a part whose UnmarshalMsg is not generated here", u.of)
		return
	}
	if u.elements[name] == -1 {
		u.report(call, "%s nests without end", u.of)
		return
	}
	u.total += capped(times, u.measure(name))
}

// rest looks for headers that walk has not seen, and for anything that is made
// by a number that has not been compared.
func (u *unmarshal) rest(f *ast.FuncDecl) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if slices.Contains(headerReaders(), msgpReader(call)) && !u.headers[call] {
			u.report(call, "%s reads a header within something else", u.of)
		}
		if isIdent(call.Fun, "make") {
			for _, size := range call.Args[1:] {
				if id, ok := size.(*ast.Ident); !ok || !u.checked[id.Name] {
					u.report(call, "%s makes something by a size that has not been compared with a limit", u.of)
				}
			}
		}
		return true
	})
}
