package circuit

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

// corpusOf returns the kept inputs of a fuzz target that takes bytes.
func corpusOf(t *testing.T, target string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", target, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no inputs of %s: %v", target, err)
	}
	inputs := map[string][]byte{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		quoted, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "go test fuzz v1\n[]byte(")
		data, err := strconv.Unquote(strings.TrimSuffix(quoted, ")"))
		if !ok || err != nil {
			t.Fatalf("%s is no input: %v", name, err)
		}
		inputs[filepath.Base(name)] = []byte(data)
	}
	return inputs
}

// The inputs that are kept lead through the whole picture. None leads out of
// it: each machine looks at that itself.
func TestKeptInputsSeeEveryStateAndMove(t *testing.T) {
	all := newObserver()
	for name, data := range corpusOf(t, "FuzzCircuit") {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, data)
				m.run()
				all.circuits.add(m.seen.circuits)
				all.attachments.add(m.seen.attachments)
			})
		})
	}
	for what, left := range map[string][]string{
		"circuit":                     all.circuits.unseen(circuitMoves()),
		"circuit, beside the picture": all.circuits.unseen(leftOut()),
		"attachment":                  all.attachments.unseen(attachmentMoves()),
		"state of a circuit":          all.circuits.unvisited(),
		"state of an attachment":      all.attachments.unvisited(),
	} {
		if len(left) > 0 {
			t.Errorf("%s: never seen: %q", what, left)
		}
	}
}

// add takes over what another graph has seen.
func (g *graph) add(other *graph) {
	maps.Copy(g.seen, other.seen)
	maps.Copy(g.where, other.where)
}

// unvisited returns the states that nothing was seen in.
func (g *graph) unvisited() (left []string) {
	for at := range g.next {
		if !g.where[at] {
			left = append(left, at)
		}
	}
	return left
}

// What no picture has is told apart from what it has, or the tests above could
// not fail.
func TestMovesThatAreNotDrawnAreFound(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		drawn    bool
	}{
		{"attached", "complete", true}, // by way of draining
		{"opening", "released", true},
		{nothing, "released", true},
		{"released", "attached", false},
		{"complete", "delivering", false},
		{"lost", "attached", false},
		{"complete", "draining", false},
		{"attached", "opening", false},
		{nothing, "nowhere", false},
	} {
		if g := newGraph(circuitMoves(), leftOut()); g.see(tc.from, tc.to) != tc.drawn {
			t.Errorf("%s --> %s: drawn is %v", tc.from, tc.to, !tc.drawn)
		}
	}
	g := newGraph(circuitMoves(), leftOut())
	g.see("draining", "released")
	for m, want := range map[move]bool{
		{from: "complete", to: "released"}: false, // it may have been closed
		{from: "draining", to: "complete"}: false,
		{from: "lost", to: "released"}:     false,
	} {
		if g.seen[m] != want {
			t.Errorf("%v counts as seen: %v", m, !want)
		}
	}
	g.see("opening", "detached")
	if !g.seen[move{from: "opening", to: "attached"}] || !g.seen[move{from: "attached", to: "detached"}] {
		t.Error("the only way there does not count as seen")
	}
}
