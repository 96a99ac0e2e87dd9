package circuit

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"ckt.local/transport"
	"ckt.local/transport/limit"
)

// tupleTypes are the frames there are, in the order of docs/wire.md.
func tupleTypes() []transport.FrameType {
	return []transport.FrameType{
		frameSettings, frameAck, framePing, framePong, frameResumed, frameYield, frameWant,
		frameOpen, frameAccept, frameRefuse, frameData, frameFin,
	}
}

// FuzzTuples reads a body as every frame's tuple, also as those that it is not.
// What is taken is written as it was read, and no length that it claims makes
// anybody allocate for it.
func FuzzTuples(f *testing.F) {
	for _, g := range golden() {
		f.Add(body(g.tuple, g.payload...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, typ := range tupleTypes() {
			before := allocated()
			tuple := tupleOf(typ)
			err := parse(data, tuple)
			if got, most := allocated()-before, uint64(2<<20+64*len(data)); got > most {
				t.Fatalf("frame type %#x: %d bytes made %d bytes of garbage, over %d", byte(typ), len(data), got, most)
			}
			if err != nil {
				if !isForeign(err) {
					t.Fatalf("frame type %#x: %v is not told as the other side's fault", byte(typ), err)
				}
				continue
			}
			written := body(tuple)
			again := tupleOf(typ)
			if err := parse(written, again); err != nil || !reflect.DeepEqual(tuple, again) {
				t.Fatalf("%+v was read, and written and read again is %+v, %v", tuple, again, err)
			}
			if twice := body(again); len(twice) != len(written) || typ != frameData && !bytes.Equal(twice, written) {
				t.Fatalf("%+v is written as %x and as %x", tuple, written, twice)
			}
		}
	})
}

// FuzzRefuse reads a refusal. What it says about a limit is the name of one,
// whose it is and how much, and no other text, however foreign.
func FuzzRefuse(f *testing.F) {
	for _, w := range []wireRefuse{
		{Code: uint64(RefusedUnknownService), Reason: "no such service"},
		{Code: uint64(RefusedLimit), Limit: "circuits of one node", Value: 16384},
	} {
		f.Add(body(&w))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var w wireRefuse
		if parse(data, &w) != nil {
			return
		}
		e := &RefusedError{Code: RefuseCode(w.Code), Reason: cut(w.Reason, maxReason), Service: "any", Limit: w.limit()}
		if text := e.Error(); len(text) > 5*maxReason || !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\n\r\x1b") {
			t.Fatalf("the error reads %q", text)
		}
		if told := RefuseCode(w.Code) == RefusedLimit && w.Limit != ""; told != (e.Limit != nil) {
			t.Fatalf("%+v makes the limit %+v", w, e.Limit)
		}
		if e.Limit == nil {
			return
		}
		switch le := e.Limit; {
		case !le.Remote || le.Size != 0 || le.Limit < 0:
			t.Fatalf("%+v makes the limit %+v", w, le)
		case uint64(le.Limit) != min(w.Value, math.MaxInt64):
			t.Fatalf("a value of %d makes a limit of %d", w.Value, le.Limit)
		case len(le.What) > 64 || strings.Trim(le.What, "abcdefghijklmnopqrstuvwxyz ") != "":
			t.Fatalf("the limit is called %q", le.What)
		case le.What != w.Limit && le.What != transport.RemoteLimit("", 0).What:
			t.Fatalf("%q became %q", w.Limit, le.What)
		}
	})
}

// FuzzControl reads a control stream, beside two circuits of which one is full:
// it may cost the connection, and a circuit, and no memory that is not given
// back.
func FuzzControl(f *testing.F) {
	for _, g := range golden() {
		if g.typ < frameOpen && g.typ != frameSettings {
			f.Add(g.bytes())
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			return
		}
		synctest.Test(t, func(t *testing.T) { readControlBytes(t, data) })
	})
}

func readControlBytes(t *testing.T, data []byte) {
	bounds := limit.Circuit{Window: 32 << 10, Inbox: 256 << 10, Replay: 256 << 10}
	l, err := newFakeLink(Config{Ledger: Bounded(bounds)}, wireSettings{Window: 16 << 10, MaxPayload: 1 << 20, LingerMillis: 120_000})
	if err != nil {
		t.Fatal(err)
	}
	car := l.carrier()
	synctest.Wait()
	car.conn.(*fakeConn).full = true
	var circuits []*fakeCircuit
	for range 2 {
		c, err := newFakeCircuit(l, &fakeOwner{})
		if err != nil {
			t.Fatal(err)
		}
		c.acceptFake()
		circuits = append(circuits, c)
	}
	circuits[0].fills(t, 1<<10)
	for circuits[0].SendOneWay(&Fragment{Payload: make([]byte, 1<<10)}) == nil {
	}
	synctest.Wait()
	fr := frameReader{r: newChunkReader(data, uint64(len(data))), pool: &buffers{}, limit: maxSmallFrame}
	var in controlReader
	for err == nil {
		var typ transport.FrameType
		var frame []byte
		if typ, frame, err = fr.next(); err == nil {
			err = in.take(car, typ, frame)
		}
	}
	if !isForeign(err) {
		t.Fatalf("%v is not told as the other side's fault", err)
	}
	fr.release()
	synctest.Wait()
	for _, u := range l.cfg.Ledger.Uses() {
		if u.Limit > 0 && u.Used > u.Limit {
			t.Fatalf("%d %s are used, over %d", u.Used, u.What, u.Limit)
		}
	}
	for _, c := range circuits {
		c.Close()
		c.endFake(transport.ErrClosed)
	}
	l.end(transport.ErrClosed)
	l.Wait()
	if g := l.cfg.Ledger; used(g, limit.Inbox) != 0 || used(g, limit.Replay) != 0 {
		t.Fatalf("%d and %d bytes were not given back", used(g, limit.Inbox), used(g, limit.Replay))
	}
}
