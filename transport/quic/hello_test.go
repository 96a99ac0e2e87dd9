package quic

import (
	"bytes"
	"encoding/hex"
	"flag"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/tinylib/msgp/msgp"

	"ckt.local/transport"
)

var update = flag.Bool("update", false, "write the golden files")

// frames are one of each frame, with values that show in the bytes.
func frames() map[string]struct {
	typ transport.FrameType
	m   msgp.Marshaler
} {
	return map[string]struct {
		typ transport.FrameType
		m   msgp.Marshaler
	}{
		"hello":         {typeHello, &hello{Minor: 0, Features: 0, BootNonce: 0x1122334455667788, Serial: 1}},
		"hello_replace": {typeHello, &hello{Minor: 1, Features: 6, BootNonce: 1, Serial: 9, Replace: 300}},
		"hello_proofs":  {typeHello, &hello{BootNonce: 2, Serial: 3, Proofs: [][]byte{bytes.Repeat([]byte{0xab}, proofLen), bytes.Repeat([]byte{0xcd}, proofLen)}}},
		"welcome":       {typeWelcome, &welcome{Minor: 0, Features: 0, BootNonce: 0x8877665544332211, Floor: 12}},
		"welcome_proof": {typeWelcome, &welcome{BootNonce: 4, Floor: 5, Proof: bytes.Repeat([]byte{0xef}, proofLen)}},
		"refused":       {typeRefusal, &refusal{Code: uint64(transport.CodeRefused), Reason: "this key is not authorised"}},
		"duplicate":     {typeRefusal, &refusal{Code: uint64(transport.CodeDuplicate), Reason: "there is a connection already", BootNonce: 7, Holds: 3, Yours: 2}},
		"limit":         {typeRefusal, &refusal{Code: uint64(transport.CodeLimit), Reason: "too many connections of one node", Limit: "connections of one node", Value: 64}},
	}
}

func TestGoldenFrames(t *testing.T) {
	for name, frame := range frames() {
		got, err := transport.AppendFrame(nil, frame.typ, frame.m)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSpace(string(text)); hex.EncodeToString(got) != want {
			t.Errorf("%s: the bytes are\n%x, the golden file has\n%s", name, got, want)
		}
	}
}

func TestLongestFrameFits(t *testing.T) {
	for _, m := range []msgp.Marshaler{
		&hello{Minor: math.MaxUint, Features: math.MaxUint64, BootNonce: math.MaxUint64, Serial: math.MaxUint64, Replace: math.MaxUint64,
			Proofs: [][]byte{make([]byte, proofLen), make([]byte, proofLen)}},
		&refusal{Code: math.MaxUint64, Reason: strings.Repeat("r", transport.MaxReason), BootNonce: math.MaxUint64, Holds: math.MaxUint64, Yours: math.MaxUint64,
			Limit: strings.Repeat("l", 64), Value: math.MaxUint64},
	} {
		b, err := transport.AppendFrame(nil, 1, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, size, err := transport.ParseFrame(b, helloLimit); err != nil || size != len(b) {
			t.Errorf("a frame of %d bytes does not fit: %v", len(b), err)
		}
	}
}

func TestNewerMinor(t *testing.T) {
	// A newer minor appends elements of any kind: what is known is read.
	b := msgp.AppendArrayHeader(nil, helloLen+2)
	for i := range uint64(helloLen - 1) {
		b = msgp.AppendUint64(b, i+1)
	}
	b = msgp.AppendArrayHeader(b, 0)
	b = msgp.AppendString(b, "new")
	b = msgp.AppendMapHeader(b, 1<<30)
	h, err := parseHello(b)
	if want := (hello{Minor: 1, Features: 2, BootNonce: 3, Serial: 4, Replace: 5}); err != nil || !same(h, want) {
		t.Errorf("read %+v, %v; want %+v", h, err, want)
	}
}

// same compares what is written, so that no list and an empty one are the same.
func same[T any, P interface {
	*T
	msgp.Marshaler
}](a, b T) bool {
	ab, errA := P(&a).MarshalMsg(nil)
	bb, errB := P(&b).MarshalMsg(nil)
	return errA == nil && errB == nil && bytes.Equal(ab, bb)
}

func TestBrokenHello(t *testing.T) {
	ok, err := (&hello{Minor: 1, Features: 2, BootNonce: 3, Serial: 4, Replace: 5}).MarshalMsg(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseHello(ok); err != nil {
		t.Fatal(err)
	}
	proofs := func(lens ...int) []byte {
		h := hello{Serial: 4}
		for _, n := range lens {
			h.Proofs = append(h.Proofs, make([]byte, n))
		}
		b, err := h.MarshalMsg(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"empty":                {},
		"no array":             {0xc0},
		"too few elements":     {0x92, 1, 2},
		"those of before":      {0x95, 1, 2, 3, 4, 5},
		"wrong kind":           {0x96, 1, 2, 0xa1, 'x', 4, 5, 0x90},
		"negative":             {0x96, 1, 2, 0xff, 4, 5, 0x90},
		"cut short":            ok[:len(ok)-1],
		"bytes after it":       append(bytes.Clone(ok), 0),
		"array of 2³²−1":       {0xdd, 0xff, 0xff, 0xff, 0xff},
		"only the newer end":   {0x97},
		"three proofs":         proofs(proofLen, proofLen, proofLen),
		"a short proof":        proofs(proofLen, proofLen-1),
		"a long proof":         proofs(proofLen + 1),
		"an empty proof":       proofs(0),
		"2³²−1 proofs":         {0x96, 1, 2, 3, 4, 5, 0xdd, 0xff, 0xff, 0xff, 0xff},
		"a proof of 2³²−1":     {0x96, 1, 2, 3, 4, 5, 0x91, 0xc6, 0xff, 0xff, 0xff, 0xff},
		"a text for the proof": {0x96, 1, 2, 3, 4, 5, 0x91, 0xa1, 'x'},
	} {
		if h, err := parseHello(b); err == nil {
			t.Errorf("%s: read as %+v", name, h)
		}
	}
	for n := range ok {
		if h, err := parseHello(ok[:n]); err == nil {
			t.Errorf("%d of %d bytes: read as %+v", n, len(ok), h)
		}
	}
	for _, n := range []int{1, proofLen - 1, proofLen + 1} {
		b, err := (&welcome{Proof: make([]byte, n)}).MarshalMsg(nil)
		if err != nil {
			t.Fatal(err)
		}
		if w, err := parseWelcome(b); err == nil {
			t.Errorf("a welcome with a proof of %d bytes: read as %+v", n, w)
		}
	}
}

func FuzzHello(f *testing.F)   { fuzzTuple[hello](f, helloLen, parseHello) }
func FuzzWelcome(f *testing.F) { fuzzTuple[welcome](f, welcomeLen, parseWelcome) }
func FuzzRefusal(f *testing.F) { fuzzTuple[refusal](f, refusalLen, parseRefusal) }

// fuzzTuple checks that what parses is the same after another round, and that
// it reads the same from a newer minor, with more elements.
func fuzzTuple[T any, P interface {
	*T
	msgp.Marshaler
}](f *testing.F, elements uint32, parse func([]byte) (T, error)) {
	for _, frame := range frames() {
		b, err := frame.m.MarshalMsg(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x97, 1, 0xdb, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > helloLimit {
			return
		}
		v, err := parse(b)
		if err != nil {
			return
		}
		out, err := P(&v).MarshalMsg(nil)
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", v, err)
		}
		if again, err := parse(out); err != nil || !same[T, P](again, v) {
			t.Fatalf("%+v was read again as %+v, %v", v, again, err)
		}
		newer := msgp.AppendArrayHeader(nil, elements+3)
		_, rest, err := msgp.ReadArrayHeaderBytes(out)
		if err != nil {
			t.Fatal(err)
		}
		newer = append(append(newer, rest...), b...) // anything may follow
		if again, err := parse(newer); err != nil || !same[T, P](again, v) {
			t.Fatalf("%+v was read from a newer minor as %+v, %v", v, again, err)
		}
	})
}

func TestHelloAllocations(t *testing.T) {
	// Whatever the bytes claim, reading them costs about as much as they are long.
	for _, b := range [][]byte{
		{0xdd, 0xff, 0xff, 0xff, 0xff},
		{0x97, 1, 0xdb, 0xff, 0xff, 0xff, 0xff},
		{0x97, 1, 0xdf, 0xff, 0xff, 0xff, 0xff},
		{0x96, 1, 2, 3, 4, 5, 0xdd, 0xff, 0xff, 0xff, 0xff},
		{0x96, 1, 2, 3, 4, 5, 0x91, 0xc6, 0xff, 0xff, 0xff, 0xff},
	} {
		const runs = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			parseHello(b)
			parseRefusal(b)
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / runs; n > 4096 {
			t.Errorf("%x: %d bytes are allocated", b, n)
		}
	}
}
