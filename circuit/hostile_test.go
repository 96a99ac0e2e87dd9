package circuit_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// Frames on one circuit's stream that break the protocol: that circuit is
// lost, and everything else on the connection goes on.
func TestFaultOfACircuitEndsThatCircuitOnly(t *testing.T) {
	cfg := circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: 16 << 10, Payload: 4 << 10})}
	r := newRaw(t, cfg).settle()
	good, goodC := r.open()
	serial := uint64(0)
	big := dataFrame(1, make([]byte, 4<<10))
	full := func() (frames []byte) { // the window, and one fragment more than may exceed it
		for i := range uint64(5) {
			frames = append(frames, dataFrame(1+i, make([]byte, 4<<10))...)
		}
		return frames
	}
	for _, tc := range []struct {
		name   string
		frames []byte
	}{
		{"unknown type", frameOf(0x30, nil)},
		{"settings", settingsFrame(1<<20, 1<<20)},
		{"ack", ackFrame(good.ID(), 0, 0)},
		{"ping", pingFrame(1)},
		{"second open", newOpening().frame()},
		{"accept at the acceptor", acceptFrame(circuit.NewID())},
		{"refuse at the acceptor", refuseFrame(1)},
		{"empty frame", []byte{0}},
		{"length of five bytes", []byte{0x80, 0x80, 0x80, 0x80, 0x01}},
		{"length over the limit", []byte{0xff, 0xff, 0xff, 0x7f, byte(frameData)}},
		{"data that is no tuple", frameOf(frameData, []byte{0xc0})},
		{"data of five elements", newTuple(5).uint(1).int(0).str("").int(0).null().in(frameData)},
		{"too many args", newTuple(6).uint(1).int(0).str("").int(0).args(65, "k").str("").in(frameData)},
		{"long arg key", newTuple(6).uint(1).int(0).str("").int(0).args(1, strings.Repeat("k", 127)).str("").in(frameData)},
		{"long subject", newTuple(6).uint(1).int(0).str(strings.Repeat("s", 1025)).int(0).null().str("").in(frameData)},
		{"long err", newTuple(6).uint(1).int(0).str("").int(0).null().str(strings.Repeat("e", 4097)).in(frameData)},
		{"payload over the limit", dataFrame(1, make([]byte, 4<<10+1))},
		{"gap", slices.Concat(dataFrame(1, nil), dataFrame(3, nil))},
		{"first serial is two", dataFrame(2, nil)},
		{"highest serial", dataFrame(1<<64-1, nil)},
		{"beyond the credit", full()},
		{"second fin", slices.Concat(finFrame(9), finFrame(9))},
		{"fin below what has come", slices.Concat(big, dataFrame(2, nil), finFrame(1))},
		{"fin with bytes behind it", frameOf(frameFin, append(newTuple(3).uint(9).bool(false).str(""), 0))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := r.in(t)
			s, c := r.open()
			s.Write(tc.frames) // the stream may be given up before all is written
			wantReset(t, s, transport.CodeProtocol)
			wantLostBy(t, c)
			serial++
			wantAlive(t, good, goodC, serial)
		})
	}
	brokenStreams(t, r)
	serial++
	wantAlive(t, good, goodC, serial)
}

// brokenStreams ends circuits' streams in ways that are no close.
func brokenStreams(t *testing.T, r *rawPeer) {
	half := dataFrame(1, make([]byte, 4<<10))[:100]
	t.Run("end without fin", func(t *testing.T) {
		r := r.in(t)
		s, c := r.open()
		s.Close()
		wantLostBy(t, c)
	})
	t.Run("end in the middle of a frame", func(t *testing.T) {
		r := r.in(t)
		s, c := r.open()
		write(t, s, half)
		s.Close()
		wantLostBy(t, c)
	})
	t.Run("reset in the middle of a frame", func(t *testing.T) {
		r := r.in(t)
		s, c := r.open()
		write(t, s, half)
		s.Reset(transport.CodeClosed)
		wantLostBy(t, c)
	})
	t.Run("ack of what was not sent", func(t *testing.T) {
		r := r.in(t)
		s, c := r.open()
		write(t, r.control, ackFrame(s.ID(), 7, 1<<30))
		wantReset(t, s, transport.CodeProtocol)
		wantLostBy(t, c)
	})
}

// What comes after a complete fin finds a circuit that has ended well.
func TestDataAfterFinChangesNothing(t *testing.T) {
	r := newRaw(t, circuit.Config{}).settle()
	s, c := r.open()
	write(t, s, slices.Concat(dataFrame(1, []byte("x")), finFrame(1)))
	if f := <-c.Reads; f.Serial != 1 {
		t.Errorf("got %+v", f)
	}
	<-c.Context.Done()
	var err error
	for err == nil { // until the honest side gives the stream up
		_, err = s.Write(dataFrame(2, []byte("y")))
	}
	if re, ok := errors.AsType[*transport.RemoteError](err); !ok || re.Code != transport.CodeProtocol {
		t.Errorf("the stream ends with %v", err)
	}
	if f, ok := <-c.Reads; ok {
		t.Errorf("after the end came %+v", f)
	}
	if cause := context.Cause(c.Context); cause != circuit.ErrRemoteClosed {
		t.Errorf("the cause is %v", cause)
	}
}

func TestUnknownOptionalFramesAreSkipped(t *testing.T) {
	r := newRaw(t, circuit.Config{}).settle()
	s, c := r.open()
	write(t, s, frameOf(0x80, []byte("what is this")))
	write(t, s, frameOf(0xff, make([]byte, 100_000))) // as long as data may be
	write(t, r.control, frameOf(0x99, nil))
	wantAlive(t, s, c, 1)
}

func TestDuplicatesAreDroppedAndCounted(t *testing.T) {
	r := newRaw(t, circuit.Config{}).settle()
	s, c := r.open()
	for serial := range uint64(3) {
		for range 2 {
			write(t, s, dataFrame(serial+1, []byte{byte(serial)}))
		}
	}
	write(t, s, dataFrame(1, []byte("again")))
	for want := int64(1); want <= 3; want++ {
		if f := <-c.Reads; f.Serial != want || len(f.Payload) != 1 {
			t.Errorf("got %+v, want fragment %d", f, want)
		}
	}
	wantAlive(t, s, c, 4)
	if st := c.Stats(); st.Duplicates != 4 || st.FragmentsRcv != 4 {
		t.Errorf("%d fragments and %d duplicates are counted, want 4 and 4", st.FragmentsRcv, st.Duplicates)
	}
}

// A stream that begins with anything but settings or a good open.
func TestBadFirstFrames(t *testing.T) {
	r := newRaw(t, circuit.Config{}).settle()
	good, goodC := r.open()
	open := newOpening()
	long := open
	long.toService = strings.Repeat("x", 9<<10)
	cut := frameOf(frameOpen, open.frame()[2:60])
	for _, tc := range []struct {
		name  string
		bytes []byte
	}{
		{"unknown type", frameOf(0x30, nil)},
		{"unknown optional type", frameOf(0x80, nil)},
		{"data before open", dataFrame(1, nil)},
		{"fin before open", finFrame(0)},
		{"accept", acceptFrame(circuit.NewID())},
		{"refuse", refuseFrame(0)},
		{"ack", ackFrame(0, 0, 0)},
		{"hello", frameOf(0x01, nil)},
		{"no frame", []byte{0}},
		{"9 KiB of open", long.frame()},
		{"open that is no tuple", frameOf(frameOpen, []byte("no tuple"))},
		{"open of one element", newTuple(1).uint(1).in(frameOpen)},
		{"open that is cut", cut},
		{"open with bytes behind it", frameOf(frameOpen, append(open.frame()[2:], 0))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := r.in(t).stream(tc.bytes[:1])
			s.Write(tc.bytes[1:]) // it may be given up before all is written
			wantReset(t, s, transport.CodeProtocol)
		})
	}
	for _, tc := range []struct {
		name   string
		change func(o *opening)
		code   circuit.RefuseCode
	}{
		{"no circuit ID", func(o *opening) { o.id = circuit.ID{} }, circuit.RefusedBadRequest},
		{"resumed, and unknown", func(o *opening) { o.resume = true }, refusedGone},
		{"no peer", func(o *opening) { o.from = circuit.ID{} }, circuit.RefusedBadRequest},
		{"generation 0", func(o *opening) { o.generation = 0 }, circuit.RefusedBadRequest},
		{"received something", func(o *opening) { o.received = 1 }, circuit.RefusedBadRequest},
		{"bad name", func(o *opening) { o.fromService = "a b" }, circuit.RefusedBadRequest},
		{"long name", func(o *opening) { o.fromService = strings.Repeat("x", 65) }, circuit.RefusedBadRequest},
		{"no such service", func(o *opening) { o.toService = "none" }, circuit.RefusedUnknownService},
		{"endless service", func(o *opening) { o.toService = strings.Repeat("x", 8000) }, circuit.RefusedUnknownService},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOpening()
			tc.change(&o)
			wantRefusal(t, r.in(t).stream(o.frame()), tc.code)
		})
	}
	wantAlive(t, good, goodC, 1)
	if n := r.honest.count(); n != 1 {
		t.Errorf("%d circuits were handed over, want 1", n)
	}
}

// Faults on the control stream cost the connection and all its circuits.
func TestControlFaultsEndTheLink(t *testing.T) {
	settings := settingsFrame(1<<20, 1<<20)
	many := newTuple(1).array(129)
	for range 129 {
		many = many.array(3).uint(0).uint(0).uint(0)
	}
	for _, tc := range []struct {
		name  string
		bytes []byte
	}{
		{"garbage", []byte("\x07garbage")},
		{"settings twice", settings},
		{"unknown type", frameOf(0x30, nil)},
		{"open", newOpening().frame()},
		{"data", dataFrame(1, nil)},
		{"9 KiB", frameOf(0x80, make([]byte, 9<<10))},
		{"129 acks", many.in(frameAck)},
		{"claims 2³² acks", frameOf(frameAck, []byte{0x91, 0xdd, 0xff, 0xff, 0xff, 0xff})},
		{"ping that is no tuple", frameOf(framePing, []byte{1})},
		{"ping with bytes behind it", frameOf(framePing, append(newTuple(2).uint(1).data(nil), 0))},
		{"ping with long padding", newTuple(2).uint(1).data(make([]byte, 257)).in(framePing)},
		{"no frame", []byte{0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRaw(t, circuit.Config{}).settle()
			_, c := r.open()
			r.control.Write(tc.bytes) // the connection may be given up before all is written
			r.wantLinkFault()
			wantLostBy(t, c)
		})
	}
	t.Run("second control stream", func(t *testing.T) {
		r := newRaw(t, circuit.Config{}).settle()
		_, c := r.open()
		r.stream(settings)
		r.wantLinkFault()
		wantLostBy(t, c)
	})
	t.Run("end of the stream", func(t *testing.T) {
		r := newRaw(t, circuit.Config{}).settle()
		r.control.Close()
		r.wantLinkFault()
	})
	t.Run("reset of the stream", func(t *testing.T) {
		r := newRaw(t, circuit.Config{}).settle()
		_, c := r.open()
		r.control.Reset(transport.CodeClosed)
		r.wantLinkFault()
		wantLostBy(t, c)
	})
	for name, first := range map[string][]byte{
		"settings of no window":  settingsFrame(0, 1),
		"settings of no payload": settingsFrame(1, 0),
		"settings of two":        newTuple(2).uint(1).uint(1).in(frameSettings),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRaw(t, circuit.Config{})
			r.stream(first)
			r.wantLinkFault()
		})
	}
}

// Settings beyond all bounds count as the bounds of docs/wire.md.
func TestLargestSettingsAreTaken(t *testing.T) {
	r := newRaw(t, circuit.Config{})
	r.control = r.stream(settingsFrame(1<<64-1, 1<<64-1))
	s, c := r.open()
	if err := c.SendOneWay(frag(1, "x")); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, s, frameData)
	wantAlive(t, s, c, 1)
}

// Answers at the opener's end that are wrong or come at the wrong time.
func TestBadAnswers(t *testing.T) {
	r := newRaw(t, circuit.Config{}).settle()
	good, goodC := r.open()
	control, err := r.conn.AcceptStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantFrame(t, control, frameSettings)
	seed := circuit.NewID()
	for _, tc := range []struct {
		name   string
		answer []byte
	}{
		{"data before the answer", dataFrame(1, nil)},
		{"fin before the answer", finFrame(0)},
		{"accept by nobody", acceptFrame(circuit.ID{})},
		{"accept by somebody else", acceptFrame(circuit.NewID())},
		{"accept of generation 2", newTuple(4).bin(seed).uint(2).uint(0).uint(0).in(frameAccept)},
		{"accept with received", newTuple(4).bin(seed).uint(1).uint(1).uint(0).in(frameAccept)},
		{"refuse that is no tuple", frameOf(frameRefuse, []byte{1})},
		{"open", newOpening().frame()},
		{"no frame", []byte{0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, s := r.in(t).answer(seed, tc.answer)
			wantReset(t, s, transport.CodeProtocol)
		})
	}
	t.Run("end", func(t *testing.T) {
		_, s := r.in(t).answer(seed, nil)
		s.Close()
	})
	t.Run("accept twice", func(t *testing.T) {
		c, s := r.in(t).answer(seed, slices.Concat(acceptFrame(seed), acceptFrame(seed)))
		wantReset(t, s, transport.CodeProtocol)
		wantLostBy(t, <-c)
	})
	t.Run("refuse after accept", func(t *testing.T) {
		c, s := r.in(t).answer(seed, slices.Concat(acceptFrame(seed), refuseFrame(1)))
		wantReset(t, s, transport.CodeProtocol)
		wantLostBy(t, <-c)
	})
	t.Run("refuse with a code of the future", func(t *testing.T) {
		_, s := r.in(t).answer(seed, refuseFrame(77))
		wantReset(t, s, codeGone)
	})
	wantAlive(t, good, goodC, 1)
}

// answer has the honest side open a circuit to the peer of
// seed and answers with bytes.
// The channel gives the circuit if Open was content; otherwise Open's error
// must be a definite one.
func (r *rawPeer) answer(seed circuit.ID, bytes []byte) (<-chan *circuit.Circuit, transport.Stream) {
	r.t.Helper()
	got := make(chan *circuit.Circuit, 1)
	params := r.honest.params(nil)
	params.ToPeerID = seed.Peer(identity.NodeIDOf(r.from.Key()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := r.honest.link.Open(r.t.Context(), params)
		if err != nil && (errors.Is(err, circuit.ErrOpenTimeout) || c != nil) {
			r.t.Errorf("Open: %v, %v; want a definite error", c, err)
		}
		got <- c
	}()
	r.t.Cleanup(func() { <-done })
	s, err := r.conn.AcceptStream(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	wantFrame(r.t, s, frameOpen)
	if len(bytes) > 0 {
		write(r.t, s, bytes)
	}
	return got, s
}
