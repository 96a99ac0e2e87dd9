package identity

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// testKey returns the key whose seed is 32 times seed, so that failures look
// the same each time.
func testKey(t testing.TB, seed byte) *Key {
	t.Helper()
	var b [ed25519.SeedSize]byte
	for i := range b {
		b[i] = seed
	}
	k, err := NewKey(ed25519.NewKeyFromSeed(b[:]))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestNodeIDText(t *testing.T) {
	for seed := range byte(50) {
		id := testKey(t, seed).ID()
		s := id.String()
		if len(s) != 52 || s != strings.ToLower(s) {
			t.Fatalf("%q is not 52 characters in lower case", s)
		}
		back, err := ParseNodeID(s)
		if err != nil || back != id {
			t.Fatalf("ParseNodeID(%q) = %v, %v", s, back, err)
		}
		if NodeIDOf(id.Key()) != id {
			t.Fatalf("%v does not survive Key and NodeIDOf", id)
		}
	}
	// The vector of the z-base-32 specification: bytes f0 bf c7 are 6n9hq.
	if got := EncodeID([]byte{0xf0, 0xbf, 0xc7}); got != "6n9hq" {
		t.Errorf("EncodeID = %q", got)
	}
}

func TestParseNodeIDRefuses(t *testing.T) {
	good := testKey(t, 1).ID().String()
	// The last character carries one bit of the ID and four that must be 0.
	stray := good[:51] + "b"
	if good[51] == 'o' {
		stray = good[:51] + "t"
	}
	for name, s := range map[string]string{
		"empty":               "",
		"short":               good[:51],
		"long":                good + "y",
		"capitals":            strings.ToUpper(good),
		"foreign alphabet":    "l" + good[1:],
		"stray trailing bits": stray,
		"line end":            good[:20] + "\n" + good[21:],
		"line end at the end": good[:51] + "\n",
		"padding":             good[:51] + "=",
		"zero":                strings.Repeat("y", 52),
		"not ASCII":           good[:50] + "é",
	} {
		id, err := ParseNodeID(s)
		if _, ok := errors.AsType[*IDError](err); !ok || !id.IsZero() {
			t.Errorf("%s: got %v, %v", name, id, err)
		}
	}
	if _, err := ParseNodeID(strings.Repeat("x", 1<<20)); err == nil || len(err.Error()) > 500 {
		t.Errorf("an error repeats foreign text without bound, or is missing")
	}
}

func TestDecodeIDLeavesBufferOnError(t *testing.T) {
	b := []byte{1, 2}
	for _, s := range []string{"....", "yyyb", "y"} {
		if DecodeID(s, b) == nil || !slices.Equal(b, []byte{1, 2}) {
			t.Errorf("%q: buffer is %v", s, b)
		}
	}
}

func TestNodeIDInJSON(t *testing.T) {
	type doc struct{ A, B NodeID }
	in := doc{A: testKey(t, 3).ID()}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out doc
	if err := json.Unmarshal(text, &out); err != nil || out != in {
		t.Fatalf("%s came back as %v, %v", text, out, err)
	}
	if err := out.A.UnmarshalText([]byte("nonsense")); err == nil || out != in {
		t.Errorf("a text that is no ID changed the NodeID or was taken")
	}
}

func TestNodeIDOfBrokenKey(t *testing.T) {
	if !NodeIDOf(nil).IsZero() || !NodeIDOf(make([]byte, 31)).IsZero() {
		t.Error("a key of the wrong length has an ID")
	}
}

func FuzzParseNodeID(f *testing.F) {
	f.Add(testKey(f, 1).ID().String())
	f.Add(strings.Repeat("y", 52))
	f.Add("ybndrfg8ejkmcpqxot1uwisza345h769")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseNodeID(s)
		if err == nil && id.String() != s {
			t.Fatalf("%q is taken for %v", s, id)
		}
	})
}
