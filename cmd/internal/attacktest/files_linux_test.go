package attacktest

import (
	"testing"
	"time"

	"ckt.local/transport/limit"
)

// TestCircuitsTakeNoFiles has a node and an honest one, both with 64 file
// descriptors at most, hold 10,000 circuits with one another.
func TestCircuitsTakeNoFiles(t *testing.T) {
	const files = 64
	n := volume(1000, 10_000)
	dir := t.TempDir()
	node := start(t, "node", job{Role: "node", Key: keyFile(t, dir, "node"), Files: files})
	other := start(t, "pair", job{Role: "pair", Key: keyFile(t, dir, "pair"), Files: files, Limits: limit.Limits{}, Every: time.Second})
	other.must(t, order{Do: "open", URL: node.URL})
	before := node.resident(t)
	a := other.must(t, order{Do: "many", N: n})
	if a.N != n {
		t.Errorf("%d circuits have echoed, want %d", a.N, n)
	}
	c := node.must(t, order{Do: "census"}).Census
	open := 0
	for _, n := range c.Circuits {
		open += n
	}
	if open != n+1 {
		t.Errorf("the node lists %d circuits, want %d", open, n+1)
	}
	used := [2]int{node.must(t, order{Do: "files"}).FilesNow, other.must(t, order{Do: "files"}).FilesNow}
	if max(used[0], used[1]) >= files {
		t.Errorf("%d file descriptors are open", used)
	}
	t.Logf("%d circuits have echoed under a limit of %d file descriptors (%d and %d open) in %v; the node has grown by %s",
		n, files, used[0], used[1], a.Took.Round(time.Millisecond), mib(node.resident(t)-before))
}
