package ckt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"
)

// A law is one rule of the house. Its check returns a line for each place that
// breaks it, beginning with the file.
type law struct {
	name  string
	mend  string // what to do about a failure
	check func(*tree) []string
}

// laws returns the laws of the house, in the order in which docs/architecture.md
// tells them. TestLawsCatchViolations breaks each of them.
func laws() []law {
	return []law{
		{"arrows run only downwards", "move the code down, or declare an interface beside its user and wire it in cmd/internal/node", checkArrows},
		{"services never import one another", "declare an interface beside its user and wire it in cmd/internal/node", checkServices},
		{"only transport/quic imports quic-go", "say it in the words of package transport", checkQUIC},
		{"transport/simnet imports the standard library alone", "pass what it needs as a parameter", checkSimnet},
		{"shipping packages import no test kit", "move the import into a _test.go file", checkKits},
		{"one package comment per folder", "keep the one that a newcomer should read", checkPackageComments},
		{"no init functions", "let a constructor do it", checkInit},
		{"no mutable package variables", "put it into a struct that somebody owns; errors, tables, patterns and encodings that nobody assigns to may stay", checkVars},
		{"wire types have limits and no any", "see docs/wire.md", checkWire},
		{"what is read is compared with a limit before anything is made of it", "give the field a limit, or the file a //msgp:limit line, and run: make generate", checkWireLimits},
		{"budget: files", "split it where the subject changes", checkFileLength},
		{"budget: functions", "give a part of it a name", checkFuncLength},
		{"budget: exported names", "unexport, or make a child package", checkExportedCount},
		{"budget: exported names are documented", "say what it does, its units, bounds and errors", checkDocs},
		{"budget: interfaces", "split it beside its users", checkInterfaces},
		{"tests do not sleep", "wait for the event itself, or use testing/synctest", checkSleeps},
		{"the top level stays as it is", "find the folder that owns it", checkTopLevel},
	}
}

// TestArchitecture holds the repository to the laws in docs/architecture.md.
func TestArchitecture(t *testing.T) {
	tr, err := loadTree(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.files) == 0 {
		t.Fatal("no Go files found: the laws would hold for nothing")
	}
	for _, l := range laws() {
		t.Run(l.name, func(t *testing.T) {
			found := l.check(tr)
			for _, v := range found {
				t.Error(v)
			}
			if len(found) > 0 {
				t.Logf("to mend: %s", l.mend)
			}
		})
	}
}

// coreDeps are the import path prefixes that somebody who only embeds the
// library gets, besides the standard library.
func coreDeps() []string {
	return []string{
		"github.com/quic-go/quic-go",
		"github.com/tinylib/msgp",
		"github.com/philhofer/fwd", // msgp's reader
		"golang.org/x",
	}
}

// TestCoreDependencies keeps the dependencies of programs and services out of
// the library.
func TestCoreDependencies(t *testing.T) {
	pkgs := goList(t, "./...")
	if len(pkgs) == 0 {
		t.Fatal("go list finds no packages")
	}
	for _, v := range checkCoreDeps(pkgs) {
		t.Error(v)
	}
}

// A listed is what `go list` says of one package.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

// goList returns the packages that match pattern and all they depend on, by
// import path. Packages that do not compile are listed as far as they parse.
func goList(t *testing.T, pattern string) map[string]listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Standard,Imports", pattern)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	pkgs := make(map[string]listed)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs[p.ImportPath] = p
	}
}

// checkCoreDeps walks from each core package to all it reaches.
func checkCoreDeps(pkgs map[string]listed) []string {
	var found []string
	for from := range pkgs {
		if !isCore(from) {
			continue
		}
		seen := map[string]bool{from: true}
		for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
			for _, to := range pkgs[queue[0]].Imports {
				p := pkgs[to]
				if seen[to] || p.Standard {
					continue
				}
				seen[to] = true
				queue = append(queue, to)
				if !isOurs(to) && !hasAnyPathPrefix(to, coreDeps()) && to != "C" && to != "unsafe" {
					found = append(found, from+" reaches "+to+" through "+queue[0])
				}
			}
		}
	}
	return found
}

// isCore reports whether somebody who only embeds the library gets the package.
func isCore(importPath string) bool {
	folder, ok := folderOf(importPath)
	return ok && (folder == "." || folder == "peer" || folder == "circuit" || path.Dir(folder) == "transport" || folder == "transport")
}

func hasAnyPathPrefix(p string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if p == prefix || strings.HasPrefix(p, prefix+"/") {
			return true
		}
	}
	return false
}
