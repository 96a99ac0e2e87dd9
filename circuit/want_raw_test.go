package circuit_test

import (
	"slices"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/limit"
)

func wantCredit(stream, at, next, upto uint64) []byte {
	return newTuple(4).uint(stream).uint(at).uint(next).uint(upto).in(frameWant)
}

// takes waits until the honest side has taken all control frames so far.
func (r *rawPeer) takes(nonce uint64, said transport.Stream) {
	r.t.Helper()
	write(r.t, r.control, pingFrame(nonce))
	want := newTuple(1).uint(nonce)
	said.SetReadDeadline(time.Time{}) // there may be a lot to do before
	for {
		typ, body, err := transport.ReadFrame(said, 1<<20)
		if err != nil {
			r.t.Fatal(err)
		}
		if typ == framePong && slices.Equal(body, want) {
			return
		}
	}
}

// The most that a want may ask for, asked for without end by a node that never
// yields, gets a window and no more; and what it asks for is its own affair.
func TestWantsGetNoMoreThanAWindow(t *testing.T) {
	const window = 256 << 10
	for _, tc := range []struct {
		name  string
		frame func(stream uint64, i int) []byte
		least int64 // that is booked for it then
	}{
		{"all there is", func(s uint64, _ int) []byte { return wantCredit(s, 0, 1000, 1<<63) }, window - 32<<10},
		{"all there are numbers for", func(s uint64, _ int) []byte { return wantCredit(s, 0, 1000, 1<<64-1) }, window - 32<<10},
		{"backwards", func(s uint64, i int) []byte { return wantCredit(s, 0, 16<<10-uint64(i), 16<<10-uint64(i)) }, 0},
		{"a little more each time", func(s uint64, i int) []byte { return wantCredit(s, 0, 16<<10+uint64(i), 1<<63) }, window - 32<<10},
		{"for streams unknown", func(_ uint64, i int) []byte { return wantCredit(uint64(i)<<20, 0, 1000, 1<<63) }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRaw(t, circuit.Config{Silence: time.Minute, Ledger: circuit.Bounded(limit.Circuit{Window: window})}).settle()
			said := r.next(frameSettings)
			s, c := r.open()
			const n = 16 << 10
			before := heap()
			for i := 0; i < n; {
				var b []byte
				for ; len(b) < 1000 && i < n; i++ {
					b = append(b, tc.frame(s.ID(), i)...)
				}
				write(t, r.control, b)
			}
			r.takes(1, said)
			if got := r.honest.link.Booked(); got > window || got < tc.least {
				t.Errorf("%d are booked, with a window of %d", got, window)
			}
			if after := heap(); after > before+8<<20 {
				t.Errorf("the heap has grown from %d to %d bytes", before, after)
			}
			wantAlive(t, s, c, 1)
			c.Close()
			write(t, s, finFrame(1))
			s.Close()
			<-c.Context.Done()
			s, c = r.open()
			wantAlive(t, s, c, 1)
		})
	}
}

// A want that cannot be so costs its circuit the attachment, and nothing else.
func TestWantsThatCannotBeAreFaults(t *testing.T) {
	r := newRaw(t, circuit.Config{Silence: time.Minute}).settle() // it answers no ping
	good, goodC := r.open()
	const start, longest = 16 << 10, 512 + 1<<20 + 71_424 + 64*128
	serial := uint64(0)
	for _, tc := range []struct {
		name           string
		at, next, upto uint64
	}{
		{"more was sent than there was credit for", start + 1, start + 1000, 1 << 20},
		{"the next one costs nothing", 1000, 1000, 1 << 20},
		{"the next one costs less than nothing", 1000, 999, 1 << 20},
		{"no fragment is so long", 0, longest + 1, 1 << 40},
		{"the next one alone is beyond 2⁶³", 1, 1 << 63, 1<<64 - 1},
		{"all come to less than the next one", 0, 100_000, 99_999},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := r.in(t)
			s, c := r.open()
			write(t, r.control, wantCredit(s.ID(), tc.at, tc.next, tc.upto))
			wantReset(t, s, transport.CodeProtocol)
			wantLostBy(t, c)
			serial++
			wantAlive(t, good, goodC, serial)
		})
	}
	write(t, r.control, wantCredit(good.ID(), 0, longest, longest))
	serial++
	wantAlive(t, good, goodC, serial)
}

// Whoever wants everything on all its circuits, and never yields, has what one
// node may have. Others do not notice, and it can still begin a circuit.
func TestNodeThatWantsEverythingHasItsOwnBound(t *testing.T) {
	const perNode, start, circuits = 2 << 20, 16 << 10, 40
	cfg := circuit.Config{Silence: time.Minute, Ledger: circuit.Bounded(limit.Circuit{InboxPerNode: perNode})}
	r := newRaw(t, cfg).settle()
	said := r.next(frameSettings)
	go takeAll(r.honest, func(*circuit.Circuit) {})
	open := func() transport.Stream {
		s := r.stream(newOpening().frame())
		wantFrame(t, s, frameAccept)
		return s
	}
	var streams []transport.Stream
	for range circuits {
		streams = append(streams, open())
	}
	for range 20 {
		for _, s := range streams {
			write(t, r.control, wantCredit(s.ID(), 0, 100_000, 1<<63))
		}
	}
	r.takes(1, said)
	if got := r.honest.link.Booked() + circuits*start; got > perNode || got < perNode*3/4 {
		t.Errorf("%d are booked, and a node may have %d", got, perNode)
	}
	for range 4 {
		open()
	}
}
