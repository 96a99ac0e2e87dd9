package ckt_test

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// floorOf says how high in the house a folder is. A package imports only from
// its own floor, within its own room, and from floors below.
func floorOf(folder string) (floor int, ok bool) {
	top, rest, nested := strings.Cut(folder, "/")
	switch {
	case top == "transport":
		return 0, true
	case folder == "circuit":
		return 1, true
	case folder == "peer":
		return 2, true
	case top == "peer" && nested && rest != "", top == "registry":
		return 3, true
	case folder == ".":
		return 4, true
	case top == "cmd":
		return 5, true
	}
	return 0, false
}

// roomOf names what may import within itself on one floor: all of transport,
// one service with its children, all programs.
func roomOf(folder string) string {
	parts := strings.Split(folder, "/")
	if parts[0] == "peer" && len(parts) > 1 {
		return path.Join(parts[0], parts[1])
	}
	return parts[0]
}

// eachOwnImport calls yield for every import of one of our packages by
// another. Tests may import test kits from anywhere.
func (tr *tree) eachOwnImport(yield func(s *source, folder string, at ast.Node)) {
	for _, s := range tr.files {
		s.imports(func(importPath string, at ast.Node) {
			folder, ok := folderOf(importPath)
			if !ok || folder == s.folder || (isKit(folder) && s.test) {
				return
			}
			yield(s, folder, at)
		})
	}
}

func checkArrows(tr *tree) []string {
	var found []string
	for _, group := range tr.folders() {
		if _, ok := floorOf(group[0].folder); !ok {
			found = append(found, fmt.Sprintf("%s: the picture has no folder %s", group[0].path, group[0].folder))
		}
	}
	tr.eachOwnImport(func(s *source, folder string, at ast.Node) {
		from, _ := floorOf(s.folder)
		to, _ := floorOf(folder)
		switch {
		case strings.HasPrefix(folder, s.folder+"/"):
			found = append(found, fmt.Sprintf("%s: %s imports its child %s", tr.at(at), s.folder, folder))
		case to > from, to == from && to != 3 && roomOf(folder) != roomOf(s.folder):
			found = append(found, fmt.Sprintf("%s: %s imports %s, which is above it", tr.at(at), s.folder, folder))
		case s.folder == "transport/identity":
			found = append(found, fmt.Sprintf("%s: transport/identity imports %s, but nothing of ours is below it", tr.at(at), folder))
		}
	})
	return found
}

func checkServices(tr *tree) []string {
	var found []string
	tr.eachOwnImport(func(s *source, folder string, at ast.Node) {
		from, _ := floorOf(s.folder)
		to, _ := floorOf(folder)
		if from == 3 && to == 3 && roomOf(s.folder) != roomOf(folder) {
			found = append(found, fmt.Sprintf("%s: service %s imports service %s", tr.at(at), s.folder, folder))
		}
	})
	return found
}

func checkQUIC(tr *tree) []string {
	var found []string
	for _, s := range tr.files {
		s.imports(func(importPath string, at ast.Node) {
			if strings.HasPrefix(importPath, "github.com/quic-go/") && s.folder != "transport/quic" && !s.test {
				found = append(found, fmt.Sprintf("%s: imports %s", tr.at(at), importPath))
			}
		})
	}
	return found
}

func checkSimnet(tr *tree) []string {
	var found []string
	for _, s := range tr.files {
		s.imports(func(importPath string, at ast.Node) {
			first, _, _ := strings.Cut(importPath, "/")
			if strings.Contains(first, ".") && s.folder == "transport/simnet" && !s.test {
				found = append(found, fmt.Sprintf("%s: imports %s", tr.at(at), importPath))
			}
		})
	}
	return found
}

func checkKits(tr *tree) []string {
	var found []string
	for _, s := range tr.shipping() {
		s.imports(func(importPath string, at ast.Node) {
			if isKit(importPath) || importPath == "testing" || strings.HasPrefix(importPath, "testing/") {
				found = append(found, fmt.Sprintf("%s: imports %s", tr.at(at), importPath))
			}
		})
	}
	return found
}

func checkTopLevel(tr *tree) []string {
	given := []string{
		"peer", "circuit", "transport", "registry", "cmd", "bench", "go.mod", "go.sum", "Makefile", "cktdoc.go",
		"docs", "README.md", "LICENSE", "SECURITY.md", "CHANGELOG.md", "testdata", "bin", "_artifacts", // the last two are not under version control
	}
	var found []string
	for _, name := range tr.top {
		if name[0] != '.' && !strings.HasSuffix(name, "_test.go") && !slices.Contains(given, name) {
			found = append(found, name+": the top level has no place for it")
		}
	}
	return found
}
