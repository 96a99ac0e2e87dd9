package limit

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// setAll sets each number of l.
func setAll(l *Limits, n int64) {
	for _, layer := range reflect.ValueOf(l).Elem().Fields() {
		for _, v := range layer.Fields() {
			v.SetInt(n)
		}
	}
}

func TestWithDefaults(t *testing.T) {
	var all struct{ zero, none, one, most Limits }
	setAll(&all.none, -1)
	setAll(&all.one, 1)
	setAll(&all.most, math.MaxInt32)
	const open = math.MaxInt
	for name, c := range map[string]struct{ in, want Limits }{
		"defaults": {all.zero, Limits{
			Transport{512, 64, 16, 4096, 64, 64, 65536, 512 << 20, 128 << 20},
			Circuit{131072, 16384, 16384, 1 << 20, 64, 64 << 10, 4 << 10, 16 << 10, 1 << 20, 16 << 20, 2 << 30, 512 << 20, 2 << 30, 512 << 20},
			Peer{4096, 256, 256, 64, 512},
		}},
		"no bounds but those of the wire": {all.none, Limits{
			Transport{open, open, open, open, open, open, 1 << 20, math.MaxInt64, math.MaxInt64},
			Circuit{open, open, open, 64 << 20, 64, 64 << 10, 4 << 10, 1 << 30, 1 << 30, 1 << 30, math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64},
			Peer{open, open, open, 64, 512},
		}},
		"one of each, but no window too small for a fragment": {all.one, Limits{
			Transport{1, 1, 1, 1, 1, 1, 1, 1, 1},
			Circuit{1, 1, 1, 1, 1, 1, 1, 1 << 10, 1 << 10, 1 << 10, 1, 1, 1, 1},
			Peer{1, 1, 1, 1, 1},
		}},
		"too much of each": {all.most, Limits{
			Transport{math.MaxInt32, math.MaxInt32, math.MaxInt32, math.MaxInt32, math.MaxInt32, math.MaxInt32, 1 << 20, math.MaxInt32, math.MaxInt32},
			Circuit{math.MaxInt32, math.MaxInt32, math.MaxInt32, 64 << 20, 64, 64 << 10, 4 << 10, 1 << 30, 1 << 30, 1 << 30, math.MaxInt32, math.MaxInt32, math.MaxInt32, math.MaxInt32},
			Peer{math.MaxInt32, math.MaxInt32, math.MaxInt32, 64, 512},
		}},
	} {
		got := c.in.WithDefaults()
		if got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
		if again := got.WithDefaults(); again != got {
			t.Errorf("%s: filled in twice it is %+v", name, again)
		}
	}
}

func TestWindowsFitIntoOneAnother(t *testing.T) {
	for _, c := range []struct {
		why                string
		start, window, max int
		want               [3]int
	}{
		{"a small window holds the start down", 0, 2 << 10, 0, [3]int{2 << 10, 2 << 10, 32 << 10}},
		{"a start is no larger than its window", 1 << 20, 1 << 16, 0, [3]int{1 << 16, 1 << 16, 1 << 20}},
		{"16 times a large window is too large", 0, 1 << 28, 0, [3]int{16 << 10, 1 << 28, 1 << 30}},
		{"and that of the largest one", 0, 1 << 30, 0, [3]int{16 << 10, 1 << 30, 1 << 30}},
		{"no growth", 0, 1 << 20, 1, [3]int{16 << 10, 1 << 20, 1 << 20}},
		{"a negative one is no growth, too", 0, 1 << 20, -1, [3]int{16 << 10, 1 << 20, 1 << 20}},
	} {
		l := Limits{Circuit: Circuit{Start: c.start, Window: c.window, MaxWindow: c.max}}.WithDefaults().Circuit
		if got := [3]int{l.Start, l.Window, l.MaxWindow}; got != c.want {
			t.Errorf("%s: %v, want %v", c.why, got, c.want)
		}
	}
}

func TestRead(t *testing.T) {
	l, err := Read(strings.NewReader(`{"circuit":{"circuits_per_node":100,"inbox":-1},"peer":{"started":7}}`))
	if want := (Limits{Circuit: Circuit{CircuitsPerNode: 100, Inbox: -1}, Peer: Peer{Started: 7}}); err != nil || l != want {
		t.Errorf("read as %+v, %v", l, err)
	}
	for name, text := range map[string]string{
		"nothing":            "",
		"a slip of the pen":  `{"circuit":{"circuit_per_node":1}}`,
		"an unknown layer":   `{"circuits":{}}`,
		"a list":             `[]`,
		"a fraction":         `{"peer":{"started":1.5}}`,
		"a text":             `{"peer":{"started":"1"}}`,
		"too large a number": `{"peer":{"started":9223372036854775808}}`,
		"cut":                `{"peer":{"started":1}`,
		"two objects":        `{} {}`,
		"something behind":   `{} x`,
		"too long":           `{}` + strings.Repeat(" ", maxFile),
		"null":               `null`,
		"a layer of null":    `{"peer":null}`,
		"a bound of null":    `{"peer":{"started":null}}`,
		"a layer twice":      `{"peer":{"started":1},"peer":{}}`,
		"a bound twice":      `{"peer":{"started":1,"started":2}}`,
		"a capital layer":    `{"Peer":{"started":1}}`,
		"a capital bound":    `{"peer":{"Started":1}}`,
		"its Go name":        `{"peer":{"StartedPerNode":1}}`,
		"a twin of s":        `{"peer":{"\u017ftarted":1}}`,
		"a number for layer": `{"peer":1}`,
		"an exponent":        `{"peer":{"started":1e3}}`,
		"a bad text":         "{\"peer\":{\"\x01\":1}}",
		"deep":               strings.Repeat("[", maxFile),
	} {
		if l, err := Read(strings.NewReader(text)); err == nil || l != (Limits{}) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	for text, want := range map[string]string{
		`{"peer":{"started":"two"}}`: `limit: peer.started is the text "two", and must be a whole number`,
		`{"peer":{"started":1.5}}`:   `limit: peer.started is 1.5, and must be a whole number`,
		`{"peer":[]}`:                `limit: peer is a list, and must be an object, as in {}`,
		`{"peer":{"Started":1}}`:     `limit: unknown field "Started" in peer`,
		`{"peer":`:                   `limit: not JSON: it ends too early`,
	} {
		if _, err := Read(strings.NewReader(text)); err == nil || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Read(iotest.ErrReader(iotest.ErrTimeout)); err == nil {
		t.Error("an error of the reader is lost")
	}
}

func FuzzRead(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Read(strings.NewReader(text))
		if err != nil {
			if l != (Limits{}) {
				t.Fatalf("limits beside an error: %+v", l)
			}
			return
		}
		out, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Read(strings.NewReader(string(out))); err != nil || back != l {
			t.Fatalf("%+v is written as %s and read as %+v, %v", l, out, back, err)
		}
		full := l.WithDefaults()
		if again := full.WithDefaults(); again != full {
			t.Fatalf("%+v is filled in once as %+v, twice as %+v", l, full, again)
		}
		for _, layer := range reflect.ValueOf(full).Fields() {
			for f, v := range layer.Fields() {
				if n := v.Int(); n < 1 {
					t.Fatalf("%s of %+v is %d", f.Name, l, n)
				}
			}
		}
		if c := full.Circuit; c.Start > c.Window || c.Window > c.MaxWindow || c.MaxWindow > mostWindow {
			t.Fatalf("windows of %d, %d, %d", c.Start, c.Window, c.MaxWindow)
		}
	})
}

func TestCheckWantsRoomForTheLongestFragment(t *testing.T) {
	for _, tc := range []struct {
		name string
		c    Circuit
		ok   bool
	}{
		{"the defaults", Circuit{}, true},
		{"no bounds", Circuit{Inbox: -1, InboxPerNode: -1, Replay: -1, ReplayPerNode: -1, Payload: -1}, true},
		{"1 MiB for 1 MiB", Circuit{InboxPerNode: 1 << 20}, false},
		{"2 MiB for 1 MiB", Circuit{Inbox: 2 << 20, Replay: 2 << 20}, true},
		{"256 KiB for 1 KiB", Circuit{Payload: 1 << 10, Replay: 256 << 10}, false},
		{"512 KiB for 1 KiB", Circuit{Payload: 1 << 10, Replay: 512 << 10}, true},
		{"128 KiB for 1 KiB and circuits of 1 KiB", Circuit{Payload: 1 << 10, Start: 1 << 10, Replay: 128 << 10}, true},
		{"in all less than for one", Circuit{Replay: 1 << 10}, false},
	} {
		if err := (Limits{Circuit: tc.c}).Check(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
