package ckt_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// lawful returns a small house in which every law holds, and every way to do
// right that the checks must know is taken.
func lawful() map[string]string {
	return map[string]string{
		"go.mod":                          "module ckt.local\n",
		"cktdoc.go":                       "// Package ckt is the whole.\npackage ckt\n\nimport \"ckt.local/peer\"\n\n// Node is peer.Node.\ntype Node = peer.Node\n",
		"bench/go.mod":                    "module bench\n",
		"bench/main.go":                   "package main\n\nfunc init() {}\n",
		"peer/testdata/bad.go":            "package bad\n\nvar counter int\n",
		"transport/transport.go":          "// Package transport is the wire.\npackage transport\n\nimport (\n\t\"errors\"\n\t\"io\"\n)\n\n// ErrClosed is the end.\nvar ErrClosed = errors.New(\"closed\")\n\n// A Stream is a stream.\ntype Stream interface {\n\tio.Reader\n\tID() uint64\n}\n",
		"transport/identity/id.go":        "// Package identity is keys.\npackage identity\n\nimport \"encoding/base32\"\n\nvar alphabet = base32.NewEncoding(\"a\").WithPadding(base32.NoPadding)\n\nvar std = base32.StdEncoding.WithPadding(base32.NoPadding)\n",
		"transport/quic/quic.go":          "// Package quic is QUIC.\npackage quic\n\nimport (\n\t\"ckt.local/transport\"\n\t\"ckt.local/transport/identity\"\n\t_ \"github.com/quic-go/quic-go\"\n)\n\nvar _ transport.Stream = (*stream)(nil)\n\nvar _ identity.NodeID\n\ntype stream struct{}\n",
		"transport/quic/quic_test.go":     "package quic_test\n\nimport _ \"ckt.local/transport/transporttest\"\n\nvar update = new(bool)\n",
		"transport/transporttest/s.go":    "// Package transporttest is the suite.\npackage transporttest\n\nimport _ \"testing\"\n",
		"transport/simnet/simnet.go":      "// Package simnet is simulated.\npackage simnet\n\nimport _ \"net/netip\"\n",
		"transport/simnet/sleep_test.go":  "package simnet\n\nimport (\n\t\"testing/synctest\"\n\t\"time\"\n)\n\nfunc f() { synctest.Wait(); time.Sleep(1) }\n",
		"transport/simnet/bubble_test.go": "package simnet\n\nimport \"testing/synctest\"\n\nfunc bubble(f func()) { synctest.Test(nil, f) }\n",
		"transport/simnet/inside_test.go": "package simnet\n\nimport \"time\"\n\nfunc g() { bubble(func() { time.Sleep(1) }) }\n",
		"circuit/circuit.go":              "// Package circuit is one.\npackage circuit\n\nimport _ \"ckt.local/transport\"\n\nvar names = map[int]string{1: \"one\", -2: \"two\"}\n\nvar prefix = []byte(\"ckt\")\n\nfunc local() { names := map[int]string{}; names[1] = names[2]; delete(names, 1) }\n",
		"circuit/wire.go":                 lawfulTypes,
		"circuit/wire_gen.go":             lawfulWire,
		"peer/peer.go":                    "// Package peer is nodes.\npackage peer\n\nimport (\n\t_ \"embed\"\n\n\t\"ckt.local/circuit\"\n\t_ \"ckt.local/transport/quic\"\n)\n\n// ErrClosed is the circuit's.\nvar ErrClosed = circuit.ErrClosed\n\n//go:embed x.txt\nvar text string\n\n// A Node is a node.\ntype Node struct{}\n\n// Close closes.\nfunc (*Node) Close() {}\n",
		"peer/peer_test.go":               "package peer_test\n\nimport _ \"ckt.local/peer/peertest\"\n",
		"peer/peertest/cluster.go":        "// Package peertest is a cluster.\npackage peertest\n\nimport (\n\t_ \"ckt.local/peer\"\n\t_ \"testing\"\n)\n",
		"peer/echo/echo.go":               "// Package echo echoes.\npackage echo\n\nimport _ \"ckt.local/peer\"\n",
		"registry/registry.go":            "// Package registry is the directory.\npackage registry\n\nimport _ \"ckt.local/peer\"\n",
		"registry/store/store.go":         "// Package store stores.\npackage store\n\nimport _ \"ckt.local/registry\"\n",
		"cmd/internal/node/node.go":       "// Package node wires.\npackage node\n\nimport (\n\t_ \"ckt.local/peer/echo\"\n\t_ \"ckt.local/registry/store\"\n)\n",
		"cmd/peerctl/main.go":             "// Peerctl is the program.\npackage main\n\nimport _ \"ckt.local/cmd/internal/node\"\n\nfunc Exported() {}\n",
	}
}

func loadMap(t *testing.T, files map[string]string) *tree {
	t.Helper()
	fsys := make(fstest.MapFS)
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tr, err := loadTree(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestLawsPassALawfulHouse(t *testing.T) {
	tr := loadMap(t, lawful())
	for _, l := range laws() {
		for _, v := range l.check(tr) {
			t.Errorf("%s: %s", l.name, v)
		}
	}
}

// A crime puts one file into the lawful house and says which law must notice,
// and with which words.
type crime struct {
	what, law  string
	path, text string
	says       string
}

func crimes() []crime {
	return slices.Concat(importCrimes(), sourceCrimes(), wireCrimes(), budgetCrimes())
}

func importCrimes() []crime {
	imports := func(pkg, importPath string) string {
		return fmt.Sprintf("package %s\n\nimport _ %q\n", pkg, importPath)
	}
	return []crime{
		{"upwards", "arrows run only downwards", "transport/bad.go", imports("transport", "ckt.local/circuit"), "transport imports circuit, which is above it"},
		{"upwards in a test", "arrows run only downwards", "circuit/bad_test.go", imports("circuit_test", "ckt.local/peer"), "circuit imports peer, which is above it"},
		{"child", "arrows run only downwards", "transport/bad.go", imports("transport", "ckt.local/transport/quic"), "transport imports its child transport/quic"},
		{"services know the whole", "arrows run only downwards", "peer/echo/bad.go", imports("echo", "ckt.local"), "which is above it"},
		{"identity", "arrows run only downwards", "transport/identity/bad.go", imports("identity", "ckt.local/transport"), "nothing of ours is below it"},
		{"new floor", "arrows run only downwards", "util/bad.go", imports("util", "fmt"), "the picture has no folder util"},
		{"services", "services never import one another", "peer/echo/bad.go", imports("echo", "ckt.local/registry"), "service peer/echo imports service registry"},
		{"services' children", "services never import one another", "registry/store/bad.go", imports("store", "ckt.local/peer/echo"), "service registry/store imports service peer/echo"},
		{"quic-go", "only transport/quic imports quic-go", "circuit/bad.go", imports("circuit", "github.com/quic-go/quic-go"), "circuit/bad.go:3"},
		{"simnet", "transport/simnet imports the standard library alone", "transport/simnet/bad.go", imports("simnet", "golang.org/x/net/ipv4"), "imports golang.org/x/net/ipv4"},
		{"simnet ours", "transport/simnet imports the standard library alone", "transport/simnet/bad.go", imports("simnet", "ckt.local/transport"), "imports ckt.local/transport"},
		{"kit", "shipping packages import no test kit", "cmd/peerctl/bad.go", imports("main", "ckt.local/peer/peertest"), "imports ckt.local/peer/peertest"},
		{"std kit", "shipping packages import no test kit", "peer/bad.go", imports("peer", "testing/iotest"), "imports testing/iotest"},
		{"top level", "the top level stays as it is", "util/bad.go", imports("util", "fmt"), "util: the top level"},
	}
}

func sourceCrimes() []crime {
	vars := func(decl string) string { return "package peer\n\n" + decl + "\n" }
	const mutable = "no mutable package variables"
	const wire = "wire types have limits and no any"
	return []crime{
		{"two comments", "one package comment per folder", "peer/bad.go", "// Package peer is something else.\npackage peer\n", "a second package comment"},
		{"no comment", "one package comment per folder", "peer/bad/bad.go", "package bad\n", "no package comment"},
		{"odd comment", "one package comment per folder", "peer/bad/bad.go", "// This is bad.\npackage bad\n", "does not begin with"},
		{"init", "no init functions", "peer/bad.go", vars("func init() {}"), "peer/bad.go:3: init"},
		{"counter", mutable, "peer/bad.go", vars("var n int"), "package variable n"},
		{"pool", mutable, "peer/bad.go", vars("var pool = sync.Pool{New: nil}"), "package variable pool"},
		{"logger", mutable, "peer/bad.go", vars("var log = slog.Default()"), "package variable log"},
		{"empty table", mutable, "peer/bad.go", vars("var reg = map[string]int{}"), "package variable reg"},
		{"pointer table", mutable, "peer/bad.go", vars("var reg = []*int{&x}"), "package variable reg"},
		{"assigned", mutable, "peer/bad.go", vars("var e = errors.New(\"e\")\n\nfunc f() { e = nil }"), "package variable e is changed"},
		{"assigned elsewhere", mutable, "circuit/bad.go", "package circuit\n\nfunc f() { names[3] = \"three\" }\n", "package variable names is changed"},
		{"assigned in a test", mutable, "circuit/bad_test.go", "package circuit\n\nfunc g() { delete(names, 1) }\n", "package variable names is changed"},
		{"assigned by another", mutable, "peer/bad.go", vars("import \"ckt.local/circuit\"\n\nfunc f() { circuit.ErrClosed = nil }"), "package variable circuit is changed"},
		{"address", mutable, "peer/bad.go", vars("var t = []int{1}\n\nfunc f() *[]int { return &t }"), "package variable t is changed"},
		{"no limits", wire, "circuit/bad.go", "package circuit\n\n//go:generate go tool msgp\n", "without a //msgp:limit"},
		{"no limits, generated by name", wire, "circuit/circuit_gen.go", "// Code generated by github.com/tinylib/msgp DO NOT EDIT.\n\npackage circuit\n", "circuit/circuit.go:1: wire types without"},
		{"any", wire, "circuit/bad.go", "package circuit\n\n//msgp:limit arrays:1\n\ntype f struct{ A map[string]any }\n", "any on the wire"},
		{"interface", wire, "circuit/bad.go", "package circuit\n\n//msgp:limit arrays:1\n\ntype f struct{ A []interface{} }\n", "any on the wire"},
		{"stream reader", wire, "circuit/bad.go", "package circuit\n\nvar _ = msgp.NewReaderSize\n", "NewReaderSize decodes from a stream"},
		{"stream methods", wire, "circuit/wire_gen.go", "// Code generated by github.com/tinylib/msgp DO NOT EDIT.\n\npackage circuit\n\nfunc (z *f) DecodeMsg() {}\n", "has streaming methods"},
		{"sleep", "tests do not sleep", "peer/bad_test.go", "package peer\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", "time.Sleep"},
		{"sleep outside the bubble", "tests do not sleep", "transport/simnet/bad_test.go", "package simnet\n\nimport \"time\"\n\nfunc h() { time.Sleep(1) }\n", "time.Sleep"},
		{"sleep in a kit", "tests do not sleep", "peer/peertest/bad.go", "package peertest\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", "time.Sleep"},
	}
}

func budgetCrimes() []crime {
	names := func(n int) string {
		var b strings.Builder
		b.WriteString("package peer\n\n// Names.\nconst (\n")
		for i := range n {
			fmt.Fprintf(&b, "\tN%d = 1\n", i)
		}
		return b.String() + ")\n"
	}
	lines := func(n int) string { return strings.Repeat("\t_ = 1\n", n) }
	methods := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "\tM%d()\n", i)
		}
		return b.String()
	}
	return []crime{
		{"long file", "budget: files", "peer/bad.go", "package peer\n" + strings.Repeat("\n", maxFileLines), "401 lines"},
		{"long function", "budget: functions", "peer/bad.go", "package peer\n\nfunc f() {\n" + lines(maxFuncLines) + "}\n", "f has 82 lines"},
		{"few short functions", "budget: functions", "peer/bad.go", "package peer\n\nfunc f() {\n" + lines(shortFunc) + "}\n", "functions are under 30 lines"},
		{"many names", "budget: exported names", "peer/bad.go", names(maxExported), "exported names, the budget is 40"},
		{"no doc", "budget: exported names are documented", "peer/bad.go", "package peer\n\nfunc Bad() {}\n", "Bad is not documented"},
		{"no doc on a method", "budget: exported names are documented", "peer/bad.go", "package peer\n\nfunc (n *Node) Bad() {}\n", "Node.Bad is not documented"},
		{"wide interface", "budget: interfaces", "peer/bad.go", "package peer\n\ntype i interface {\n" + methods(maxMethods+1) + "}\n", "i has 7 methods"},
	}
}

func TestLawsCatchViolations(t *testing.T) {
	caught := make(map[string]bool)
	for _, c := range crimes() {
		t.Run(c.law+"/"+c.what, func(t *testing.T) {
			files := maps.Clone(lawful())
			files[c.path] = c.text
			found := findLaw(t, c.law).check(loadMap(t, files))
			if !strings.Contains(strings.Join(found, "\n"), c.says) {
				t.Errorf("found %q, want a line with %q", found, c.says)
			}
			caught[c.law] = true
		})
	}
	for _, l := range laws() {
		if !caught[l.name] {
			t.Errorf("no crime breaks the law %q", l.name)
		}
	}
}

func findLaw(t *testing.T, name string) law {
	t.Helper()
	for _, l := range laws() {
		if l.name == name {
			return l
		}
	}
	t.Fatalf("there is no law %q", name)
	return law{}
}

func TestCoreDependenciesCatchesViolation(t *testing.T) {
	pkgs := map[string]listed{
		"fmt":                   {ImportPath: "fmt", Standard: true},
		"ckt.local/circuit":     {ImportPath: "ckt.local/circuit", Imports: []string{"fmt", "golang.org/x/crypto/ssh", "ckt.local/transport"}},
		"ckt.local/transport":   {ImportPath: "ckt.local/transport", Imports: []string{"example.org/deep"}},
		"ckt.local/cmd/peerctl": {ImportPath: "ckt.local/cmd/peerctl", Imports: []string{"github.com/spf13/cobra"}},
	}
	got := strings.Join(checkCoreDeps(pkgs), "\n")
	if !strings.Contains(got, "ckt.local/circuit reaches example.org/deep through ckt.local/transport") {
		t.Errorf("found %q, want the way from circuit to example.org/deep", got)
	}
	if strings.Contains(got, "cobra") {
		t.Errorf("found %q: programs may have dependencies of their own", got)
	}
}
