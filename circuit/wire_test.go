package circuit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"ckt.local/transport"
)

var update = flag.Bool("update", false, "write the golden files anew; docs/wire.md has to change with them")

// wire is what the generated code gives each frame's tuple.
type wire interface {
	smallFrame
	unmarshaler
}

// A goldenFrame is one frame and the file in testdata that holds its bytes.
type goldenFrame struct {
	name    string
	typ     transport.FrameType
	tuple   wire
	payload []byte // data frames only
}

func golden() []goldenFrame {
	id := func(first byte) (id [16]byte) {
		for i := range id {
			id[i] = first + byte(i)
		}
		return id
	}
	const most = 1<<64 - 1
	return []goldenFrame{
		{"settings", frameSettings, &wireSettings{
			Window: 8 << 10, MaxPayload: 1 << 20, LingerMillis: 120_000, MaxArgs: 64, MaxArgBytes: 64 << 10, MaxText: 4 << 10,
		}, nil},
		{"settings_largest", frameSettings, &wireSettings{Window: most, MaxPayload: most, Features: most, LingerMillis: most, MaxArgs: most, MaxArgBytes: most, MaxText: most}, nil},
		{"ack", frameAck, &wireAcks{Acks: []wireAck{{Stream: 4, Received: 32, Credit: 1<<20 + 20000}, {Stream: 9, Received: 1, Credit: 1 << 20}}}, nil},
		{"ack_none", frameAck, &wireAcks{}, nil},
		{"ping", framePing, &wirePing{Nonce: 1 << 61, Padding: make([]byte, pingPadding)}, nil},
		{"pong", framePong, &wirePong{Nonce: 1 << 61}, nil},
		{"resumed", frameResumed, &wireResumed{IDs: [][16]byte{id(0x10), id(0x40)}, More: true}, nil},
		{"resumed_none", frameResumed, &wireResumed{}, nil},
		{"yield", frameYield, &wireYield{Stream: 4, From: 16 << 20, To: 1 << 20}, nil},
		{"want", frameWant, &wireWant{Stream: 4, At: 8000, Next: 73_000, Upto: 1 << 20}, nil},
		{"open", frameOpen, &wireOpen{
			CircuitID: id(0x10), Generation: 1, FromSeed: id(0x20), FromService: "asker",
			ToPeer: id(0x30), ToService: "echo", HasFirst: true, Credit: 700, WaitMillis: 10_000,
		}, nil},
		{"open_any_instance", frameOpen, &wireOpen{
			CircuitID: id(0x10), Generation: 1, FromSeed: id(0x20), FromService: "asker", ToService: "echo",
		}, nil},
		{"open_resume", frameOpen, &wireOpen{
			CircuitID: id(0x10), Generation: 3, Resume: true, Received: 300, Credit: 2 << 20, FromSeed: id(0x20), FromService: "asker",
			ToPeer: id(0x30), ToService: "echo",
		}, nil},
		{"accept", frameAccept, &wireAccept{Generation: 1, Seed: id(0x30), Credit: 1 << 20}, nil},
		{"accept_resumed", frameAccept, &wireAccept{Generation: 3, Seed: id(0x30), Received: 299, Credit: 2 << 20}, nil},
		{"refuse", frameRefuse, &wireRefuse{Code: uint64(RefusedUnknownService), Reason: "no such service"}, nil},
		{"refuse_limit", frameRefuse, &wireRefuse{
			Code: uint64(RefusedLimit), Reason: "the limit is 16384 circuits of one node", Limit: "circuits of one node", Value: 16384,
		}, nil},
		{"data_small", frameData, &wireFragment{Serial: 1}, bytes.Repeat([]byte{0xa5}, 64)},
		{"data_full", frameData, &wireFragment{
			Serial: 1 << 40, Op: -1, Subject: "subject", Part: -1 << 40, Args: map[string]string{"key": "välue"}, Err: "error",
		}, []byte("payload")},
		{"fin", frameFin, &wireFin{Last: 300}, nil},
		{"fin_failed", frameFin, &wireFin{Failed: true, Reason: "out of cheese"}, nil},
	}
}

func (g goldenFrame) bytes() []byte {
	b := body(g.tuple, g.payload...)
	return frameBytes(g.typ, b)
}

// readGolden returns the bytes of a golden file and the size that it states.
// The file is one line that states the size and lines of hex.
func readGolden(t *testing.T, name string) (b []byte, size int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	head, digits, _ := strings.Cut(string(text), "\n")
	if _, err := fmt.Sscanf(head, "# %d bytes", &size); err != nil {
		t.Fatalf("%s: first line %q: %v", name, head, err)
	}
	if b, err = hex.DecodeString(strings.Join(strings.Fields(digits), "")); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return b, size
}

func writeGolden(t *testing.T, name string, b []byte) {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "# %d bytes\n", len(b))
	for ; len(b) > 32; b = b[32:] {
		fmt.Fprintf(&text, "%x\n", b[:32])
	}
	fmt.Fprintf(&text, "%x\n", b)
	if err := os.WriteFile(filepath.Join("testdata", name+".hex"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFramesAreGolden(t *testing.T) {
	for _, g := range golden() {
		t.Run(g.name, func(t *testing.T) {
			if *update {
				writeGolden(t, g.name, g.bytes())
			}
			want, size := readGolden(t, g.name)
			if got := g.bytes(); !bytes.Equal(got, want) || size != len(want) {
				t.Errorf("the frame is no longer what it was: %d bytes\n%x\nwant %d bytes\n%x", len(got), got, size, want)
			}
			typ, tuple, took, err := transport.ParseFrame(want, len(want))
			if err != nil || typ != g.typ || took != len(want) {
				t.Fatalf("the frame does not parse: type %#x, %d bytes, %v", byte(typ), took, err)
			}
			again := reflect.New(reflect.TypeOf(g.tuple).Elem()).Interface().(wire)
			rest, err := again.UnmarshalMsg(tuple)
			if err != nil || !reflect.DeepEqual(again, g.tuple) || !bytes.Equal(rest, g.payload) {
				t.Errorf("the bytes decode as %+v, payload %x, %v; want %+v, payload %x", again, rest, err, g.tuple, g.payload)
			}
			if g.typ != frameData {
				if small := appendSmall(nil, g.typ, g.tuple); !bytes.Equal(small, want) {
					t.Errorf("appendSmall writes %x", small)
				}
			}
		})
	}
}

// A golden file that belongs to no frame would hold nothing in place.
func TestEveryGoldenFileIsUsed(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.hex"))
	if err != nil || len(files) != len(golden()) {
		t.Errorf("%d golden files for %d frames: %v", len(files), len(golden()), err)
	}
	types := map[transport.FrameType]bool{}
	for _, g := range golden() {
		types[g.typ] = true
	}
	for _, typ := range []transport.FrameType{
		frameSettings, frameAck, framePing, framePong, frameResumed, frameYield, frameWant, frameOpen, frameAccept, frameRefuse, frameData, frameFin,
	} {
		if !types[typ] {
			t.Errorf("frame type %#x has no golden file", byte(typ))
		}
	}
}

// Peers, circuit and service travel once, in the opening: a fragment costs its
// payload and a few bytes.
func TestConstantsOfTheCircuitAreElided(t *testing.T) {
	frame := func(serial uint64, size int) int {
		o := outbox{pool: &buffers{}, last: serial - 1}
		if err := o.add(&wireFragment{}, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		return len(o.chunks[0].buf)
	}
	for _, tc := range []struct {
		serial     uint64
		size, want int
	}{
		{1, 64, 64 + 9}, // as docs/wire.md says
		{1000, 64, 64 + 11},
		{1 << 40, 64, 64 + 17},
		{1, 1 << 20, 1<<20 + 11},
	} {
		if got := frame(tc.serial, tc.size); got != tc.want {
			t.Errorf("fragment %d with a payload of %d bytes is a frame of %d bytes, want %d", tc.serial, tc.size, got, tc.want)
		}
	}
	if size := frame(1, 64); size != 73 {
		t.Errorf("a frame with 64 bytes of payload has %d bytes, and docs/wire.md says 73", size)
	}
}

// The limits of docs/wire.md hold the largest frames there can be.
func TestLargestFramesFitTheirLimits(t *testing.T) {
	const most = 1<<64 - 1
	acks := &wireAcks{Acks: make([]wireAck, maxAcks)}
	for i := range acks.Acks {
		acks.Acks[i] = wireAck{most, most, most}
	}
	long := strings.Repeat("x", maxReason)
	for _, m := range []transport.Marshaler{acks, &wireFin{Last: most, Failed: true, Reason: long}, &wireRefuse{Code: most, Reason: long}} {
		if n := len(body(m)) + 1; n > maxSmallFrame {
			t.Errorf("%T has %d bytes, over the limit of %d", m, n, maxSmallFrame)
		}
	}
	args := map[string]string{}
	for i := range maxArgs {
		args[fmt.Sprintf("%0*d", maxArgKey, i)] = strings.Repeat("v", maxArgsTotal/maxArgs-maxArgKey)
	}
	w := &wireFragment{
		Serial: most, Op: -1 << 63, Part: -1 << 63, Args: args,
		Subject: strings.Repeat("s", maxSubject), Err: strings.Repeat("e", maxErr),
	}
	if err := (sizes{0, maxArgs, maxArgsTotal, maxErr}).check(w, 0); err != nil {
		t.Fatalf("this is meant to be the largest: %v", err)
	}
	if n := len(body(w)) + 1; n > maxDataOverhead {
		t.Errorf("a fragment has %d bytes besides its payload, over the limit of %d", n, maxDataOverhead)
	}
	if maxDataOverhead != 71_424 {
		t.Errorf("maxDataOverhead is %d, and docs/wire.md says 71,424", maxDataOverhead)
	}
}

func TestBrokenTuplesAreForeignFaults(t *testing.T) {
	for _, g := range golden() {
		if g.typ == frameData {
			continue // what follows its tuple is payload
		}
		whole := body(g.tuple)
		fresh := func() wire { return reflect.New(reflect.TypeOf(g.tuple).Elem()).Interface().(wire) }
		for n := range whole {
			if err := parse(whole[:n], fresh()); !isForeign(err) {
				t.Errorf("%s cut to %d of %d bytes: %v, want a protocol error", g.name, n, len(whole), err)
			}
		}
		if err := parse(append(whole, 0xc0), fresh()); !isForeign(err) {
			t.Errorf("%s with a byte too many: %v, want a protocol error", g.name, err)
		}
		if err := parse([]byte{0x90}, fresh()); !isForeign(err) {
			t.Errorf("%s as an empty tuple: %v, want a protocol error", g.name, err)
		}
	}
	if isForeign(errors.New("of this side")) || isForeign(transport.ErrClosed) {
		t.Error("this side's error counts as the other side's fault")
	}
}

func TestReasonsAreCutBetweenCharacters(t *testing.T) {
	for _, tc := range []struct {
		s, want string
		n       int
	}{
		{"short", "short", 10},
		{"exact", "exact", 5},
		{"longer", "long", 4},
		{"añb", "a", 2},
		{"añb", "añ", 3},
		{"世界", "", 2},
		{"\xff\xfe\xfd", "", 2}, // not text at all
	} {
		if got := cut(tc.s, tc.n); got != tc.want {
			t.Errorf("cut(%q, %d) is %q, want %q", tc.s, tc.n, got, tc.want)
		}
	}
}
