package circuit

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/limit"
)

// ownStreams sees to it that all streams come from the machine: those that the
// circuit asks for itself are refused, and nobody expects pings to be answered.
func (m *machine) ownStreams() {
	car := m.c.link.carrier()
	conn := car.conn.(*fakeConn)
	conn.mu.Lock()
	conn.full = true
	conn.mu.Unlock()
	car.mu.Lock()
	car.streams[1<<60] = &attachment{c: m.c.Circuit, over: true} // never alone, so never watched
	car.mu.Unlock()
	if m.paced {
		car.control.least.Store(int64(time.Hour)) // everything comes within a round trip
	}
}

// carrier returns what carries the link just now, after a loss another one;
// nil when the link has ended.
func (m *machine) carrier() *carrier {
	l := m.c.link
	if l.carrier() == nil && l.ctx.Err() == nil {
		conn := newFakeConn()
		conn.full = true
		l.Attach(conn)
		m.ownStreams()
	}
	return l.carrier()
}

// watermarks are what never falls.
type watermarks struct{ gen, acked, most, attachments, cost uint64 }

func (w *watermarks) check(t *testing.T, s *state) {
	now := watermarks{s.gen, s.out.acked, s.out.most, uint64(s.attachments), s.rcvCost}
	if now.gen < w.gen || now.acked < w.acked || now.most < w.most || now.attachments < w.attachments || now.cost < w.cost {
		t.Fatalf("%+v is less than %+v", now, *w)
	}
	*w = now
}

// told is what the other side has said: that it has so much, and that so much
// is all there is.
type told struct {
	received uint64
	lasts    map[uint64]bool
}

func (w *told) note(typ transport.FrameType, body []byte) {
	var fin wireFin
	var accept wireAccept
	switch {
	case typ == frameFin && parse(body, &fin) == nil:
		if w.lasts == nil {
			w.lasts = map[uint64]bool{}
		}
		w.lasts[fin.Last] = true
	case typ == frameAccept && parse(body, &accept) == nil:
		w.received = max(w.received, accept.Received)
	}
}

// check sees to it that nothing else is believed.
func (w *told) check(t *testing.T, s *state) {
	if s.released || s.at != nil && s.at.readDone {
		w.received = s.out.last // the end of the stream has said that all is there
	}
	switch {
	case s.out.acked > w.received:
		t.Fatalf("%d are acknowledged, and the other side has said %d", s.out.acked, w.received)
	case s.fin != nil && !w.lasts[s.fin.Last]:
		t.Fatalf("%d are all there is, and the other side has said %v", s.fin.Last, w.lasts)
	}
}

// has is a number of fragments that the other side may say it has: mostly one
// that is possible.
func (m *machine) has(arg byte) uint64 {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	o := &m.c.s.out
	switch {
	case arg == 31:
		return o.most + 1
	case arg >= 28:
		return 0
	}
	return o.acked + uint64(arg)%(o.most-o.acked+1)
}

// says is has, of what the other side then does say.
func (m *machine) says(arg byte) uint64 {
	n := m.has(arg)
	m.told.received = max(m.told.received, n)
	return n
}

// detach is the end of the attachment, or of its connection. The reader may
// have frames in hand.
func (m *machine) detach(arg byte) {
	if car := m.c.link.carrier(); arg&2 != 0 && car != nil {
		car.fail(transport.CodeLost, transport.ErrLost)
	} else {
		m.c.at.end(transport.ErrLost, transport.CodeClosed)
	}
	if arg&1 != 0 && !m.readEnded {
		m.readEnded = true
		m.c.at.readEnded(transport.ErrLost)
	}
}

// endOld ends the reader of the attachment before.
func (m *machine) endOld() {
	if m.oldReads {
		m.oldReads = false
		m.old.readEnded(transport.ErrClosed)
	}
}

// resume attaches the circuit once more, whether it is detached or not. As the
// acceptor the machine's other side says how.
func (m *machine) resume(arg byte) {
	car := m.carrier()
	m.c.mu.Lock()
	over := m.c.s.released || m.c.s.lost || car == nil
	gen := m.c.s.gen
	base := m.c.s.out.acked
	m.c.mu.Unlock()
	if over {
		return
	}
	was, reads, pipe := m.c.at, !m.readEnded, m.c.pipe
	if m.c.accepted {
		open := &wireOpen{
			CircuitID: m.c.id, FromSeed: fakeSeed, Resume: true,
			Generation: gen + 1, Received: m.says(arg >> 3), Credit: uint64(arg) << 6,
		}
		switch arg & 7 {
		case 1:
			open.Generation = gen
		case 2:
			open.Generation = 0
		case 3:
			open.FromSeed = ID{9}
		case 4:
			open.Generation += 5
		case 5:
			open.Resume = false
		}
		if !m.reopen(open) {
			m.c.at, m.c.pipe = was, pipe
			return
		}
	} else {
		m.c.attachFake(func(s *state, a *attachment) {
			if s.leave(s.at, errSuperseded, transport.CodeSuperseded); s.lost {
				a.over = true
				s.readers--
				return
			}
			a.handshake = m.c.openFrame(s)
			s.take(a)
		})
		if m.c.at.over {
			m.c.at, m.c.pipe = was, pipe
			return
		}
	}
	m.endOld()
	m.base, m.old, m.oldReads, m.readEnded = base, was, reads, false
}

// reopen is an open frame of the other side, and reports whether it was taken.
func (m *machine) reopen(open *wireOpen) bool {
	car := m.carrier()
	m.c.pipe = car.conn.(*fakeConn).stream()
	m.c.pipe.record = []byte{}
	m.c.at = newAttachment(m.c.Circuit, car, m.c.pipe)
	m.c.at.reading = true
	m.c.mu.Lock()
	m.c.s.readers++
	m.c.mu.Unlock()
	err := m.c.Circuit.resume(m.c.at, open)
	if err == nil {
		return true
	}
	m.c.update(func(s *state) { s.readers-- })
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.c.s.at == m.c.at {
		m.t.Fatalf("refused with %v, and attached", err)
	}
	return false
}

func (m *machine) yield(arg byte) {
	m.c.mu.Lock()
	y := wireYield{Stream: m.c.pipe.id, From: m.c.s.granted, To: m.c.s.rcvCost + uint64(arg)*32}
	m.c.mu.Unlock()
	switch arg & 7 {
	case 1:
		y.From--
	case 2:
		y.To = 0
	case 3:
		y.Stream += 4
	}
	if car := m.c.link.carrier(); car != nil {
		car.tell(y.Stream, func(a *attachment) error { return a.onYield(&y) })
	}
}

// late is what comes by the attachment before.
func (m *machine) late(arg byte) {
	if m.old == nil {
		return
	}
	m.c.mu.Lock()
	acked, credit, received := m.c.s.out.acked, m.c.s.out.credit, m.c.s.received
	m.c.mu.Unlock()
	m.old.onAck(wireAck{Received: m.has(arg >> 3), Credit: 1 << 50})
	m.old.car.onAcks([]wireAck{{Stream: m.old.stream.ID(), Received: m.has(arg >> 3), Credit: 1 << 50}})
	if m.oldReads {
		if err := m.old.onFrame(frameData, body(&wireFragment{Serial: received + 1})); err == nil {
			m.t.Fatal("a fragment by an attachment that is over was taken")
		}
		m.endOld()
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if s := &m.c.s; s.out.acked != acked || s.out.credit != credit || s.received != received {
		m.t.Fatalf("what came late has changed %d, %d, %d to %d, %d, %d", acked, credit, received, s.out.acked, s.out.credit, s.received)
	}
}

// checkSender holds what is kept, and what was written, against what was sent.
func (m *machine) checkSender(s *state) {
	o := &s.out
	cost, next := 0, uint64(0)
	for _, c := range o.chunks {
		cost += c.cost
		if !m.lasting {
			continue // what is written is not kept
		}
		for rest := c.buf; len(rest) > 0; {
			serial, size := m.frameIs(rest)
			if next != 0 && serial != next {
				m.t.Fatalf("fragment %d is kept after %d", serial, next-1)
			}
			next = serial + 1
			rest = rest[size:]
			if c == o.chunks[0] && len(rest)+size == len(c.buf) && serial > o.acked+1 {
				m.t.Fatalf("fragment %d is the first that is kept, and %d are acknowledged", serial, o.acked)
			}
		}
	}
	switch {
	case cost != o.cost || cost > s.most+frameCost(frameSize(3<<10), 0):
		m.t.Fatalf("the outbox costs %d, and counts %d, with room for %d", cost, o.cost, s.most)
	case o.sent > o.most || o.most > o.last || o.acked > o.most:
		m.t.Fatalf("acknowledged %d, sent %d and %d, taken %d", o.acked, o.sent, o.most, o.last)
	case m.lasting && !s.lost && s.fin == nil && o.unacked() > 0 && next != o.last+1:
		m.t.Fatalf("%d are sent, %d acknowledged, and %d is the last that is kept", o.last, o.acked, next-1)
	}
	m.checkWritten(s)
}

// frameIs checks a data frame against what was sent.
func (m *machine) frameIs(b []byte) (serial uint64, size int) {
	typ, frame, n, err := transport.ParseFrame(b, 1<<20)
	var w wireFragment
	var payload []byte
	if err == nil && n > 0 && typ == frameData {
		payload, err = w.UnmarshalMsg(frame)
	}
	if err != nil || n == 0 || w.Serial == 0 || w.Serial > uint64(len(m.sent)) || !bytes.Equal(payload, m.sent[w.Serial-1]) {
		m.t.Fatalf("frame type %#x of fragment %d with %d bytes, %v: not what was sent", byte(typ), w.Serial, len(payload), err)
	}
	return w.Serial, n
}

// checkWritten looks at what went over the attachment: what comes after that
// which the other side has, in order; what it has got may be left out.
func (m *machine) checkWritten(s *state) {
	m.c.pipe.mu.Lock()
	written := bytes.Clone(m.c.pipe.record)
	m.c.pipe.mu.Unlock()
	if m.c.at.gen == 0 {
		return
	}
	last := m.base
	for len(written) > 0 {
		typ, _, n, err := transport.ParseFrame(written, 1<<20)
		if err != nil || n == 0 {
			m.t.Fatalf("what was written is no frame: %v", err)
		}
		if typ == frameData {
			serial, _ := m.frameIs(written)
			if serial <= last || serial > last+1 && serial > s.out.acked+1 {
				m.t.Fatalf("fragment %d was written after %d, and %d are acknowledged", serial, last, s.out.acked)
			}
			last = serial
		}
		written = written[n:]
	}
}

// checkWindows holds credit and memory against the windows.
func (m *machine) checkWindows(s *state) {
	g := m.c.link.cfg.Ledger
	switch {
	case !s.arrivedAll() && !s.released && s.granted > s.took+uint64(s.inBooked):
		m.t.Fatalf("credit of %d with %d taken and %d booked", s.granted, s.took, s.inBooked)
	case s.granted < s.rcvCost:
		m.t.Fatalf("credit of %d, and %d have come", s.granted, s.rcvCost)
	case !s.finished && s.rcvCost-s.took > uint64(s.inBooked):
		m.t.Fatalf("%d are unread, and %d booked", s.rcvCost-s.took, s.inBooked)
	case !s.released && s.out.cost > s.outBooked:
		m.t.Fatalf("the outbox has %d, and %d booked", s.out.cost, s.outBooked)
	case used(g, limit.Inbox) < int64(s.inBooked) || used(g, limit.Replay) < int64(s.outBooked): // the pump may be about to give back
		m.t.Fatalf("booked are %d and %d, and the account has %d and %d", s.inBooked, s.outBooked, used(g, limit.Inbox), used(g, limit.Replay))
	}
}

// The fuzzer needs a long time to find its way to the deeper states; sequences
// of likely steps get there at once.
func TestMachinesAtRandom(t *testing.T) {
	likely := []byte{0, 0, 0, 8, 8, 8, 15, 15, 10, 10, 11, 16, 17, 17, 3, 18, 19, 1, 2, 7, 9, 12, 14, 20, 20, 21, 21}
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		data := []byte{byte(rnd.Uint32()) | 8}
		if data[0]&1 != 0 {
			data = append(data, 3, 7|byte(rnd.Uint32())<<3) // the yes
		}
		for range 10 + rnd.IntN(80) {
			step := likely[rnd.IntN(len(likely))]
			arg := byte(rnd.Uint32())
			if step == 17 && rnd.IntN(4) > 0 {
				arg &^= 7 // mostly as it should be
			}
			switch {
			case step == 14:
				arg &= 15 // not longer than the linger
			case step == 20 && rnd.IntN(4) > 0:
				arg |= 7 // likewise as it should be
			}
			data = append(data, step, arg)
		}
		synctest.Test(t, func(t *testing.T) { newMachine(t, data).run() })
		if t.Failed() {
			t.Fatalf("seed %d: %v", seed, data)
		}
	}
}
