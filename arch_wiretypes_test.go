package ckt_test

import "go/ast"

// typeOf returns the type of an expression that leads from the receiver or a
// local variable to a part of it, nil if it does something else.
func (u *unmarshal) typeOf(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.Ident:
		if e.Name == "z" {
			return ast.NewIdent(u.of)
		}
		return u.locals[e.Name]
	case *ast.ParenExpr:
		return u.typeOf(e.X)
	case *ast.IndexExpr:
		switch t := u.open(u.typeOf(e.X)).(type) {
		case *ast.ArrayType:
			return t.Elt
		case *ast.MapType:
			return t.Value
		}
	case *ast.SelectorExpr:
		if st, ok := u.open(u.typeOf(e.X)).(*ast.StructType); ok {
			return fieldType(st, e.Sel.Name)
		}
	}
	return nil
}

// open follows pointers, and names of the folder, to what stands behind them.
func (u *unmarshal) open(t ast.Expr) ast.Expr {
	for range len(u.types) + 2 {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.Ident:
			t = u.types[x.Name]
		default:
			return t
		}
	}
	return nil
}

func fieldType(st *ast.StructType, name string) ast.Expr {
	for _, field := range st.Fields.List {
		for _, id := range field.Names {
			if id.Name == name {
				return field.Type
			}
		}
	}
	return nil
}

func typeName(t ast.Expr) string {
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}
