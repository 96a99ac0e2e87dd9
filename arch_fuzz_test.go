package ckt_test

import (
	"fmt"
	"go/ast"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// minCorpus is how many inputs of each fuzz target are kept in testdata/fuzz
// at least. They run as tests, and whoever fuzzes begins with them.
const minCorpus = 5

// decoders lists what reads bytes that another node, another user or a file
// may have made up, and the fuzz target that does nothing else.
func decoders() []struct{ what, target string } {
	return []struct{ what, target string }{
		{"frame", "transport.FuzzFrame"},
		{"hello", "transport/quic.FuzzHello"},
		{"welcome", "transport/quic.FuzzWelcome"},
		{"refusal", "transport/quic.FuzzRefusal"},
		{"control messages of a socket", "transport/quic.FuzzControl"},
		{"all frames of circuits", "circuit.FuzzFrames"},
		{"fragment", "circuit.FuzzFragment"},
		{"state machine of a circuit", "circuit.FuzzCircuit"},
		{"rows of listings", "peer.FuzzListing"},
		{"rows of limits", "peer.FuzzLimits"},
		{"peer URL", "peer.FuzzParseURL"},
		{"name of a file", "peer/files.FuzzCheckPath"},
		{"node ID", "transport/identity.FuzzParseNodeID"},
		{"public key", "transport/identity.FuzzPublicLine"},
		{"authorized_peers", "transport/identity.FuzzAuthorizedPeers"},
		{"known_peers", "transport/trust.FuzzKnownPeers"},
		{"revoked keys", "transport/trust.FuzzRevoked"},
		{"rotation", "transport/trust.FuzzRotation"},
		{"rotation in a certificate", "transport/trust.FuzzRotationExtension"},
		{"pre-shared keys", "transport/trust.FuzzPSKs"},
		{"limits", "transport/limit.FuzzRead"},
	}
}

// fuzzFaults returns a line for each decoder without a target, each target
// without enough inputs that differ, and each set of inputs without a target.
func fuzzFaults(tr *tree, fsys fs.FS) []string {
	var found []string
	targets := make(map[string]bool)
	for _, s := range tr.files {
		for _, name := range fuzzTargets(s) {
			targets[s.folder+"."+name] = true
			dir := path.Join(s.folder, "testdata/fuzz", name)
			if n := corpusSize(fsys, dir); n < minCorpus {
				found = append(found, fmt.Sprintf("%s: %d inputs, want at least %d; fuzzing leaves some in $(go env GOCACHE)/fuzz", dir, n, minCorpus))
			}
		}
	}
	for _, d := range decoders() {
		if !targets[d.target] {
			found = append(found, fmt.Sprintf("%s: there is no %s", d.what, d.target))
		}
	}
	for _, folder := range slices.Compact(slices.Sorted(tr.eachFolder)) {
		left, _ := fs.ReadDir(fsys, path.Join(folder, "testdata/fuzz")) // most have none
		for _, d := range left {
			if !targets[folder+"."+d.Name()] {
				found = append(found, path.Join(folder, "testdata/fuzz", d.Name())+": inputs of a target that is gone")
			}
		}
	}
	return found
}

func (tr *tree) eachFolder(yield func(string) bool) {
	for _, s := range tr.files {
		if !yield(s.folder) {
			return
		}
	}
}

// fuzzTargets returns the names of the fuzz targets of a file.
func fuzzTargets(s *source) []string {
	var names []string
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && s.test && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Fuzz") {
			names = append(names, f.Name.Name)
		}
	}
	return names
}

// corpusSize counts the inputs of a folder that differ.
func corpusSize(fsys fs.FS, dir string) int {
	entries, _ := fs.ReadDir(fsys, dir) // none, if it is not there
	seen := make(map[string]bool)
	for _, e := range entries {
		text, err := fs.ReadFile(fsys, path.Join(dir, e.Name()))
		if err == nil && strings.HasPrefix(string(text), "go test fuzz v1\n") {
			seen[string(text)] = true
		}
	}
	return len(seen)
}

// TestLawsFuzzTargets holds decoders to being fuzzed, from inputs that are
// kept.
func TestLawsFuzzTargets(t *testing.T) {
	fsys := os.DirFS(".")
	tr, err := loadTree(fsys)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range fuzzFaults(tr, fsys) {
		t.Error(fault)
	}
}

func TestLawsFuzzTargetsCatchesFaults(t *testing.T) {
	fsys := make(fstest.MapFS)
	add := func(name, text string) { fsys[name] = &fstest.MapFile{Data: []byte(text)} }
	for _, d := range decoders() {
		folder, name, _ := strings.Cut(d.target, ".")
		add(folder+"/"+name+"_test.go", "package x\n\nfunc "+name+"(f *testing.F) {}\n")
		for i := range minCorpus {
			add(fmt.Sprintf("%s/testdata/fuzz/%s/%d", folder, name, i), fmt.Sprintf("go test fuzz v1\nint(%d)\n", i))
		}
	}
	faults := func() string {
		tr, err := loadTree(fsys)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(fuzzFaults(tr, fsys), "\n")
	}
	if got := faults(); got != "" {
		t.Fatalf("found %q where nothing is wrong", got)
	}
	add("peer/testdata/fuzz/FuzzListing/4", "go test fuzz v1\nint(0)\n")           // as another
	add("peer/testdata/fuzz/FuzzLimits/4", "int(4)\n")                             // not an input
	delete(fsys, "circuit/testdata/fuzz/FuzzFrames/4")                             // too few
	add("circuit/FuzzCircuit_test.go", "package x\n\nfunc fuzzCircuit() {}\n")     // no target
	add("registry/new_test.go", "package x\n\nfunc FuzzRecord(f *testing.F) {}\n") // no inputs
	got := faults()
	for _, want := range []string{
		"peer/testdata/fuzz/FuzzListing: 4 inputs",
		"peer/testdata/fuzz/FuzzLimits: 4 inputs",
		"circuit/testdata/fuzz/FuzzFrames: 4 inputs",
		"state machine of a circuit: there is no circuit.FuzzCircuit",
		"circuit/testdata/fuzz/FuzzCircuit: inputs of a target that is gone",
		"registry/testdata/fuzz/FuzzRecord: 0 inputs",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("found %q, want a line with %q", got, want)
		}
	}
}
