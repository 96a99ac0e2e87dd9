package ckt_test

import "go/ast"

// checkSleeps allows time.Sleep in tests only where it sleeps in a bubble of
// testing/synctest, where it takes no time and cannot be too short: in files
// that import synctest, or call a helper of the same folder that makes the
// bubble.
func checkSleeps(tr *tree) []string {
	var found []string
	for _, group := range tr.folders() {
		helpers := bubbleHelpers(group)
		for _, s := range group {
			if (s.test || isKit(s.folder)) && !usesBubble(s, helpers) {
				found = append(found, sleeps(tr, s)...)
			}
		}
	}
	return found
}

func usesBubble(s *source, helpers map[string]bool) bool {
	uses := s.hasImport("testing/synctest")
	ast.Inspect(s.file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			name, ok := call.Fun.(*ast.Ident)
			uses = uses || ok && helpers[name.Name]
		}
		return !uses
	})
	return uses
}

func sleeps(tr *tree, s *source) []string {
	var found []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if isCallee(n, "time", "Sleep") {
			found = append(found, tr.at(n)+": time.Sleep")
		}
		return true
	})
	return found
}

// bubbleHelpers returns the functions of one folder that call synctest.Test.
func bubbleHelpers(group []*source) map[string]bool {
	helpers := make(map[string]bool)
	for _, s := range group {
		if !s.hasImport("testing/synctest") {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				helpers[f.Name.Name] = helpers[f.Name.Name] || isCallee(n, "synctest", "Test")
				return true
			})
		}
	}
	return helpers
}

// isCallee reports whether n is pkg.name.
func isCallee(n ast.Node, pkg, name string) bool {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkg
}
