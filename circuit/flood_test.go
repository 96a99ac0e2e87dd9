package circuit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// A node that never says settings gets no circuit and none from here, and
// everybody learns so in time.
func TestNoSettings(t *testing.T) {
	r := newRaw(t, circuit.Config{OpenTimeout: 2 * time.Second}) // for the last one, which is answered
	s := r.stream(newOpening().frame())
	if _, err := r.honest.link.Open(t.Context(), r.honest.params(nil)); err != circuit.ErrOpenTimeout {
		t.Errorf("Open: %v, want ErrOpenTimeout", err)
	}
	wantRefusal(t, s, circuit.RefusedInternal)
	r.settle() // late, but then all is well
	s, c := r.open()
	wantAlive(t, s, c, 1)
}

// Half a frame costs a buffer, and its circuit can be closed like any other.
func TestHalfAFrameAndSilence(t *testing.T) {
	r := newRaw(t, circuit.Config{}).settle()
	good, goodC := r.open()
	half := dataFrame(1, make([]byte, 1<<20))[:100]
	var stuck []*circuit.Circuit
	for range 100 {
		s, c := r.open()
		write(t, s, half)
		stuck = append(stuck, c)
	}
	wantAlive(t, good, goodC, 1)
	for _, c := range stuck {
		c.Close()
		if <-c.Context.Done(); context.Cause(c.Context) != circuit.ErrClosed {
			t.Errorf("the cause is %v", context.Cause(c.Context))
		}
	}
	wantAlive(t, good, goodC, 2)
}

// 2,000 streams that say nothing, or not enough, hold up new circuits of
// their own connection until their time is over, and nobody else.
func TestSilentStreams(t *testing.T) {
	for name, start := range map[string][]byte{
		"one byte":        newOpening().frame()[:1],
		"half an open":    newOpening().frame()[:40],
		"half of 8 KiB":   frameOf(frameOpen, make([]byte, 8000))[:4000],
		"only its length": {0xff, 0x3f},
	} {
		t.Run(name, func(t *testing.T) {
			at := endpointAt(t, loopback(t))
			t.Cleanup(func() { at.Close() })
			// The time of those that are silent, and enough for the others.
			// It takes two rounds of that time, in which nobody here answers pings.
			cfg := circuit.Config{OpenTimeout: 2 * time.Second, Silence: time.Minute}
			r := connectRaw(t, at, cfg).settle()
			other := connectRaw(t, at, cfg).settle()
			s, c := r.open()
			var silent []transport.Stream
			for range 2000 {
				silent = append(silent, r.stream(start))
			}
			wantAlive(t, s, c, 1) // on the same connection
			otherS, otherC := other.open()
			wantAlive(t, otherS, otherC, 1)
			for _, s := range silent {
				wantReset(t, s, transport.CodeProtocol)
			}
			again, againC := r.open()
			wantAlive(t, again, againC, 1)
			wantAlive(t, s, c, 2)
			if n := r.honest.link.Leftover(); n != 2 {
				t.Errorf("the link knows %d circuits, want 2", n)
			}
		})
	}
}

// Streams that have begun their first frame are in the account of their node,
// and no more of them are taken than there is memory for, but a few.
func TestStreamsWithoutAnAnswerAreBooked(t *testing.T) {
	const bound = 2 << 20
	at := endpointAt(t, loopback(t))
	t.Cleanup(func() { at.Close() })
	r := connectRaw(t, at, circuit.Config{
		Ledger: circuit.Bounded(limit.Circuit{InboxPerNode: bound, Payload: 1 << 10}), OpenTimeout: time.Minute, Silence: time.Minute,
	}).settle()
	var all []transport.Stream
	for range 500 { // what the window of the connection lets through unread
		all = append(all, r.stream(frameOf(frameOpen, make([]byte, 8000))[:4000]))
	}
	used := r.honest.link.Booked
	for used() < bound-32<<10 {
		runtime.Gosched()
	}
	if n := used(); n > bound {
		t.Errorf("%d bytes are booked, want at most %d", n, bound)
	}
	for _, s := range all {
		s.Reset(0)
	}
	for used() > 0 {
		runtime.Gosched()
	}
	s, c := r.open()
	wantAlive(t, s, c, 1)
}

// heap is what is in use after garbage collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// awaitPong reads the honest side's control stream. The channel is closed when
// a pong with nonce has come, or nothing more comes.
func (r *rawPeer) awaitPong(nonce uint64) <-chan struct{} {
	r.t.Helper()
	control, err := r.conn.AcceptStream(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	want := newTuple(1).uint(nonce)
	seen := make(chan struct{})
	go func() { // ends with the connection
		defer io.Copy(io.Discard, control)
		defer close(seen)
		for {
			typ, body, err := transport.ReadFrame(control, 1<<20)
			if err != nil {
				r.t.Errorf("no pong: %v", err)
			}
			if err != nil || typ == framePong && bytes.Equal(body, want) {
				return
			}
		}
	}()
	return seen
}

// Control frames that cost their sender next to nothing cost the receiver no
// memory, and delay nobody's fragments for long.
func TestControlFloods(t *testing.T) {
	for name, frame := range map[string]func(own uint64, i int) []byte{
		"pings":                       func(_ uint64, i int) []byte { return pingFrame(uint64(i)) },
		"pongs that nobody asked for": func(_ uint64, i int) []byte { return newTuple(1).uint(uint64(i)).in(framePong) },
		"tiny acks":                   func(own uint64, _ int) []byte { return ackFrame(own, 0, 0) },
		"acks of streams unknown":     func(_ uint64, i int) []byte { return ackFrame(uint64(i)<<20, 1<<60, 1<<60) },
		"acks of nothing":             func(uint64, int) []byte { return newTuple(1).array(0).in(frameAck) },
		"frames to be skipped":        func(uint64, int) []byte { return frameOf(0x80, nil) },
		"credit without end":          func(own uint64, i int) []byte { return ackFrame(own, 0, 1<<64-1-uint64(i)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRaw(t, circuit.Config{Silence: time.Minute}).settle() // it answers no ping
			s, c := r.open()
			answered := r.awaitPong(1 << 50)
			before := heap()
			const n = 100_000
			var b []byte
			for i := range n {
				if b = append(b, frame(s.ID(), i)...); len(b) > 1000 || i == n-1 {
					write(t, r.control, b)
					b = b[:0]
				}
			}
			write(t, r.control, pingFrame(1<<50))
			<-answered // all of it has been taken
			wantAlive(t, s, c, 1)
			if after := heap(); after > before+8<<20 {
				t.Errorf("the heap has grown from %d to %d bytes", before, after)
			}
			if err := c.SendOneWay(frag(1, "back")); err != nil {
				t.Fatal(err)
			}
			if body := wantFrame(t, s, frameData); !bytes.HasSuffix(body, []byte("back")) {
				t.Errorf("the other direction gives %q", body)
			}
		})
	}
}

// A thousand refusals that the opener does not take cost nobody else
// anything.
func TestRefusalsThatNobodyReads(t *testing.T) {
	r := newRaw(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{CircuitsPerNode: 1})}).settle()
	s, c := r.open()
	var refused []transport.Stream
	for range 300 {
		refused = append(refused, r.stream(newOpening().frame()))
	}
	wantAlive(t, s, c, 1)
	for _, s := range refused {
		wantRefusal(t, s, circuit.RefusedLimit)
	}
	c.Close()
	write(t, s, finFrame(1))
	s.Close()
	for r.honest.link.Leftover() > 0 {
		runtime.Gosched()
	}
	r.open() // there is room again
}

// Knowing every ID of somebody's circuit is not enough to say a word on it:
// a stream belongs to its connection, and a connection to its key.
func TestNobodyInjectsIntoAnothersCircuit(t *testing.T) {
	at := endpointAt(t, loopback(t))
	t.Cleanup(func() { at.Close() })
	victim := connectRaw(t, at, circuit.Config{}).settle()
	o := newOpening()
	o.from = circuit.NewID()
	s := victim.stream(o.frame())
	wantFrame(t, s, frameAccept)
	c := <-victim.honest.news
	write(t, s, dataFrame(1, []byte("mine")))
	if f := <-c.Reads; string(f.Payload) != "mine" || f.FromPeerID != o.from.Peer(identity.NodeIDOf(victim.from.Key())).String() {
		t.Fatalf("got %+v", f)
	}
	if err := c.SendOneWay(frag(1, "to be acknowledged by the victim")); err != nil {
		t.Fatal(err)
	}

	thief := connectRaw(t, at, circuit.Config{}).settle()
	forged := thief.stream(o.frame()) // the same circuit ID, the same seed
	wantFrame(t, forged, frameAccept)
	stolen := <-thief.honest.news
	write(t, forged, dataFrame(2, []byte("injected"))) // the next serial of the victim's circuit, a gap in this one
	wantReset(t, forged, transport.CodeProtocol)
	wantLostBy(t, stolen)
	if stolen.RemoteNodeID() == c.RemoteNodeID() || !bytes.Equal(thief.from.Key(), keyOf(stolen)) {
		t.Error("the thief's circuit is not stamped with the thief's key")
	}
	if stolen.RemotePeerID() == c.RemotePeerID() {
		t.Error("the thief passes for the victim's peer")
	}
	if stolen.CircuitID() != c.CircuitID() {
		t.Error("the test has not used the victim's circuit ID")
	}
	write(t, thief.control, ackFrame(s.ID(), 1, 1<<40)) // the victim's stream, on the thief's connection
	direct := thief.stream(dataFrame(2, []byte("injected")))
	wantReset(t, direct, transport.CodeProtocol)
	again, againC := thief.open() // by now everything of the thief has been read
	wantAlive(t, again, againC, 1)

	if st := c.Stats(); st.FragmentsRcv != 1 || st.Unread != 0 || st.Unacked != 1 || st.Duplicates != 0 {
		t.Errorf("the victim's circuit has seen something: %+v", st)
	}
	if c.Context.Err() != nil {
		t.Errorf("the victim's circuit has ended: %v", context.Cause(c.Context))
	}
	wantAlive(t, s, c, 2)
}

func keyOf(c *circuit.Circuit) []byte {
	id := c.RemoteNodeID()
	return id[:]
}

// A node may end its connection in the middle of anything.
func TestConnectionEndsInTheMiddleOfEverything(t *testing.T) {
	for range 8 {
		r := newRaw(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: 1 << 30})}).settle() // so that nothing but the end stops them
		var circuits []*circuit.Circuit
		for range 5 {
			s, c := r.open()
			circuits = append(circuits, c)
			go func() { // ends with the connection
				for serial := uint64(1); ; serial++ {
					if _, err := s.Write(dataFrame(serial, make([]byte, 10))); err != nil {
						return
					}
				}
			}()
		}
		var wg sync.WaitGroup
		for i, c := range circuits {
			wg.Go(func() {
				for range i * 10 {
					if _, ok := <-c.Reads; !ok {
						break
					}
				}
				c.SendOneWay(frag(0, "x"))
				if i == 0 {
					r.conn.Close(transport.CodeClosed, "enough")
				}
				for range c.Reads {
				}
			})
		}
		wg.Wait()
		for _, c := range circuits {
			<-c.Context.Done()
			if !errors.Is(context.Cause(c.Context), circuit.ErrPeerLost) {
				t.Errorf("the cause is %v", context.Cause(c.Context))
			}
		}
	}
}
