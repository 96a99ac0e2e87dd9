package circuit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// A machine drives one circuit with steps that bytes stand for, and checks
// after each what must hold always. It plays the other side, the user and the
// link; one goroutine plays them all, so that a sequence can be repeated.
type machine struct {
	t      *testing.T
	c      *fakeCircuit
	owner  *fakeOwner
	answer chan error // of the opening, if this side has opened
	data   []byte     // the steps not taken yet

	readEnded bool        // the stream has ended: no more frames
	old       *attachment // the one before
	oldReads  bool        // its reader may have frames in hand
	sent      [][]byte    // payloads, the first one with serial 1
	base      uint64      // what was acknowledged when the attachment began
	costs     []uint64    // what they cost in sum, the first entry 0
	lasting   bool        // it outlives its connections
	paced     bool        // whatever comes is fast
	other     booker
	wants     wants
	seen      *observer
	now       watermarks
	told      told
	received  uint64
	cause     error
	largest   int   // cost of the largest fragment handed in
	lastRead  int64 // serial of the last fragment from Reads or Fragments
	lastErr   int64 // likewise from Errors
}

const machineWindow = 8 << 10

func newMachine(t *testing.T, data []byte) *machine {
	m := &machine{t: t, owner: &fakeOwner{}, data: data, seen: newObserver()}
	how := m.byte()
	settings := wireSettings{Window: machineWindow, MaxPayload: 2 << 10}
	if m.lasting = how&8 != 0; m.lasting {
		settings.LingerMillis = 120_000
	}
	l, err := newFakeLink(Config{Ledger: machineLedger(how)}, settings)
	if err != nil {
		t.Fatal(err)
	}
	m.other = booker{g: l.cfg.Ledger, node: identity.NodeID{99}}
	if m.c, err = newFakeCircuit(l, m.owner); err != nil {
		t.Fatal(err)
	}
	m.paced = how&16 != 0
	synctest.Wait() // the control stream is open
	m.wants.record(l.carrier())
	m.ownStreams()
	m.costs = []uint64{0}
	if how&1 != 0 { // this side opens
		m.answer = make(chan error, 1)
		if how&2 != 0 {
			m.c.first = true
			m.sent = append(m.sent, []byte("first"))
			if err := m.c.s.queue(&wireFragment{}, m.sent[0]); err != nil {
				t.Fatal(err)
			}
			m.costs = append(m.costs, uint64(m.c.s.out.cost))
		}
		m.c.openFake(m.answer)
	} else {
		m.c.acceptFake()
	}
	if how&4 != 0 {
		m.c.pipe.block()
	}
	return m
}

// byte takes one byte of the input, 0 when there are none left.
func (m *machine) byte() byte {
	if len(m.data) == 0 {
		return 0
	}
	b := m.data[0]
	m.data = m.data[1:]
	return b
}

// steps is what bytes stand for.
func (m *machine) steps() []func(arg byte) {
	return []func(arg byte){
		m.nextData, m.anyData, m.fin, m.accept, m.refuse, m.unknown, m.raw, m.eof,
		m.send, m.close, m.ack, m.read, m.rangeOver, m.lose, m.wait, m.settle,
		m.detach, m.resume, m.yield, m.late, m.want, m.book,
	}
}

func (m *machine) run() {
	m.check()
	steps := m.steps()
	for len(m.data) > 0 {
		b := m.byte()
		steps[int(b)%len(steps)](m.byte())
		m.check()
	}
	m.end()
}

// frame hands the circuit one frame, as its readLoop would.
func (m *machine) frame(typ transport.FrameType, body []byte) {
	if m.readEnded {
		return
	}
	if err := m.c.at.onFrame(typ, body); err != nil {
		m.readEnded = true
		m.c.at.readEnded(err)
	}
}

func (m *machine) nextData(arg byte) {
	m.fragment(m.received+1, int(arg)*16, arg&7 == 7)
}

func (m *machine) anyData(arg byte) {
	serial := uint64(arg)
	if arg > 99 {
		serial %= m.received + 1 // has come before, or is 0
	}
	m.fragment(serial, 0, false)
}

func (m *machine) fragment(serial uint64, size int, isErr bool) {
	w := &wireFragment{Serial: serial}
	if isErr {
		w.Err = "error"
	}
	b := body(w, make([]byte, size)...)
	m.largest = max(m.largest, frameCost(frameSize(len(b)), 0))
	m.frame(frameData, b)
}

func (m *machine) fin(arg byte) {
	fin := body(&wireFin{Last: m.received + uint64(arg>>1)%4 - uint64(arg>>4&1), Failed: arg&1 != 0, Reason: "reason"})
	m.told.note(frameFin, fin)
	m.frame(frameFin, fin)
}

func (m *machine) accept(arg byte) {
	a := &wireAccept{Generation: m.c.at.gen, Seed: fakeSeed, Received: m.has(arg >> 3), Credit: uint64(arg) << 6}
	switch arg % 8 {
	case 0:
		a.Generation++
	case 1:
		a.Seed = ID{}
	case 2:
		a.Seed[3]++
	}
	m.told.note(frameAccept, body(a))
	m.frame(frameAccept, body(a))
}

func (m *machine) refuse(arg byte) {
	m.frame(frameRefuse, body(&wireRefuse{Code: uint64(arg), Reason: "no"}))
}

func (m *machine) unknown(arg byte) { m.frame(transport.FrameType(arg), []byte{arg}) }

// raw hands in bytes of the input as they are.
func (m *machine) raw(arg byte) {
	n := min(int(arg)%64, len(m.data))
	b := m.data[:n]
	m.data = m.data[n:]
	m.largest = max(m.largest, frameCost(frameSize(n), 0))
	m.told.note(frameOpen+transport.FrameType(arg)%8, b)
	m.frame(frameOpen+transport.FrameType(arg)%8, b)
}

func (m *machine) eof(arg byte) {
	if !m.readEnded {
		m.readEnded = true
		m.c.at.readEnded([]error{
			errors.New("the stream has ended"), io.EOF, io.EOF,
			&transport.RemoteError{Code: codeGone}, &transport.RemoteError{Code: transport.CodeProtocol},
		}[arg%5])
	}
}

func (m *machine) send(arg byte) {
	before := m.c.Stats()
	payload := bytes.Repeat([]byte{byte(len(m.sent))}, int(arg)*8)
	err := m.c.SendOneWay(&Fragment{Payload: payload})
	if sent := m.c.Stats().FragmentsSent - before.FragmentsSent; (err == nil) != (sent == 1) {
		m.t.Fatalf("SendOneWay: %v, and %d were taken", err, sent)
	}
	if err == nil {
		m.sent = append(m.sent, payload)
		m.c.mu.Lock()
		m.costs = append(m.costs, m.c.s.out.freed+uint64(m.c.s.out.cost))
		m.c.mu.Unlock()
	}
}

func (m *machine) close(arg byte) {
	m.c.mu.Lock()
	unanswered := !m.c.s.confirmed
	m.c.mu.Unlock()
	if unanswered {
		m.c.lose(ErrOpenTimeout) // as Open does: nobody else has the circuit by then
	}
	var reason error
	if arg&1 != 0 {
		reason = errors.New("reason")
	}
	m.c.CloseWith(reason)
}

func (m *machine) ack(arg byte) {
	received := uint64(arg >> 2)
	if arg&3 == 0 {
		m.c.mu.Lock()
		received = m.c.s.out.most
		m.c.mu.Unlock()
	}
	m.told.received = max(m.told.received, received)
	m.c.at.car.onAcks([]wireAck{{Stream: m.c.at.stream.ID(), Received: received, Credit: uint64(arg) << 8}})
}

// took checks the order of what the user gets.
func (m *machine) took(f *Fragment, last *int64) {
	if f == nil {
		return
	}
	if f.Serial <= *last {
		m.t.Fatalf("fragment %d was read after %d", f.Serial, *last)
	}
	*last = f.Serial
}

func (m *machine) read(arg byte) {
	select {
	case f := <-m.c.Reads:
		m.took(f, &m.lastRead)
	default:
	}
	if arg&1 != 0 {
		select {
		case f := <-m.c.Errors:
			m.took(f, &m.lastErr)
		default:
		}
	}
}

func (m *machine) rangeOver(arg byte) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(arg)*time.Millisecond)
	defer cancel()
	n := byte(0)
	for f := range m.c.Fragments(ctx) {
		if f != nil && f.Err != "" {
			m.took(f, &m.lastErr)
		} else {
			m.took(f, &m.lastRead)
		}
		if n++; n > arg&3 {
			break
		}
	}
}

// lose is the link's end as a circuit sees it: its reader may have frames in
// hand.
func (m *machine) lose(byte) { m.c.lose(errors.New("the link has ended")) }

func (m *machine) wait(arg byte) {
	time.Sleep(time.Duration(arg) * 10 * time.Millisecond * (1 + time.Duration(arg&8)*100))
	m.hear()
}

// settle lets everybody do what there is to do. The control loop may be late,
// and what is written from then on may get stuck.
func (m *machine) settle(arg byte) {
	if synctest.Wait(); arg&3 != 3 {
		m.hear()
		m.checkSettled()
	}
	if arg&0xf8 == 0xf8 {
		m.c.pipe.block()
	}
}

// check holds the state against what must be true whatever has happened.
func (m *machine) check() {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	s := &m.c.s
	inbox := 0
	for _, q := range []*queue{&s.in.reads, &s.in.errs} {
		for b := q.first; b != nil; b = b.next {
			for _, it := range b.items[b.at:b.n] {
				inbox += it.cost
			}
		}
	}
	switch {
	case s.received < m.received:
		m.t.Fatalf("received went from %d to %d", m.received, s.received)
	case inbox > s.window+m.largest:
		m.t.Fatalf("the inbox costs %d, over the window of %d and a fragment", inbox, s.window)
	case s.took+uint64(inbox) != s.rcvCost:
		m.t.Fatalf("of %d, %d are taken and %d in the inbox", s.rcvCost, s.took, inbox)
	case m.cause != nil && s.cause != m.cause:
		m.t.Fatalf("the cause was %v and is %v", m.cause, s.cause)
	case s.ended && context.Cause(m.c.Context) == nil && s.cause == nil:
		m.t.Fatal("ended without a cause")
	}
	m.checkSender(s)
	m.checkWindows(s)
	m.checkMemory(s)
	m.now.check(m.t, s)
	m.told.check(m.t, s)
	if err := m.seen.look(s, m.old, m.c.at); err != nil {
		m.t.Fatal(err)
	}
	m.received, m.cause = s.received, s.cause
}

// end closes the circuit and its link, after which nothing may be left.
func (m *machine) end() {
	m.close(0)
	m.check()
	m.eof(0)
	m.endOld()
	m.c.link.Shutdown(context.Background(), nil)
	m.other.end()
	m.check()
	if m.owner.added != 1 || m.owner.removed != 1 {
		m.t.Fatalf("the owner was told of %d circuits and of the end of %d", m.owner.added, m.owner.removed)
	}
	if _, open := <-m.c.Reads; open {
		m.t.Fatal("Reads gives something after Close")
	}
	if g := m.c.link.cfg.Ledger; used(g, limit.Inbox) != 0 || used(g, limit.Replay) != 0 {
		m.t.Fatalf("%d and %d bytes were not given back", used(g, limit.Inbox), used(g, limit.Replay))
	}
	if context.Cause(m.c.Context) != m.cause || !m.c.s.finished {
		m.t.Fatalf("cause is %v, was %v; finished %v", context.Cause(m.c.Context), m.cause, m.c.s.finished)
	}
}

func FuzzCircuit(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 2, 15, 0, 11, 0, 2, 0, 15, 0})                                      // data, read, fin
	f.Add([]byte{1, 3, 7, 8, 9, 15, 0, 10, 0, 0, 200})                                           // open, accept, send, ack
	f.Add([]byte{3, 4, 2, 8, 1})                                                                 // open, refuse
	f.Add([]byte{0, 0, 255, 0, 255, 0, 255, 15, 0, 0, 255})                                      // over the credit
	f.Add([]byte{0, 1, 0, 1, 2})                                                                 // serial 0, then a gap
	f.Add([]byte{0, 0, 1, 0, 1, 2, 8, 2, 8, 0, 1})                                               // data, fin, second fin
	f.Add([]byte{4, 8, 100, 8, 100, 15, 0, 9, 0, 7, 0})                                          // a blocked writer
	f.Add([]byte{0, 0, 1, 13, 0, 0, 1, 0, 1})                                                    // frames in hand after a loss
	f.Add([]byte{0, 0, 7, 0, 1, 0, 7, 15, 0, 11, 1, 12, 255})                                    // errors and reads, then a range
	f.Add([]byte{0, 0, 1, 0, 1, 2, 0, 15, 0, 14, 255, 14, 255})                                  // fin with unread fragments, and time
	f.Add([]byte{0, 9, 1, 0, 1, 0, 255, 0, 255, 0, 255, 14, 90})                                 // data after our close
	f.Add([]byte{0, 2, 0, 9, 0, 15, 0, 14, 255, 7, 0})                                           // both close
	f.Add([]byte{8, 8, 9, 8, 9, 15, 0, 16, 0, 17, 0, 15, 0, 10, 0, 0, 1})                        // sent, lost, resumed
	f.Add([]byte{9, 3, 7, 8, 9, 8, 9, 15, 0, 16, 1, 17, 0, 3, 7, 15, 0, 10, 0})                  // the same at the opener
	f.Add([]byte{8, 0, 1, 0, 1, 16, 0, 17, 9, 17, 33, 17, 1, 0, 1, 19, 0, 19, 9, 15, 0})         // generations, frames in hand
	f.Add([]byte{8, 8, 9, 16, 2, 8, 3, 17, 0, 8, 4, 0, 1, 15, 0, 16, 3, 17, 24})                 // on another connection
	f.Add([]byte{8, 9, 0, 15, 0, 16, 0, 17, 0, 7, 1, 15, 0})                                     // closed, lost, resumed, EOF
	f.Add([]byte{8, 0, 0, 18, 0, 18, 9, 0, 0, 16, 0, 14, 255, 14, 255})                          // yields, and linger is over
	f.Add([]byte{24, 0, 255, 0, 255, 11, 0, 0, 255, 11, 0, 0, 255, 0, 255, 18, 1, 15, 0})        // a window that grows
	f.Add([]byte("0x\xff vvv0x 0x\xff 0xvv\xff7"))                                               // a yield of nothing
	f.Add([]byte{40, 0, 90, 0, 90, 20, 64, 15, 0, 21, 255, 20, 1, 15, 0, 21, 4, 15, 0, 11, 0})   // memory that is wanted, scarce, given back
	f.Add([]byte{40, 8, 255, 8, 255, 8, 255, 15, 0, 21, 3, 8, 255, 21, 6, 15, 0, 10, 60, 15, 0}) // the same of the sender
	f.Add([]byte{8, 20, 105, 17, 53})                                                            // memory for a long one, and the opening comes again
	f.Add([]byte{104, 20, 2, 0, 1, 20, 3, 17, 0, 20, 5, 17, 0, 20, 7, 15, 0})                    // wants that break the rules
	f.Add([]byte{8, 7, 4, 17, 0, 7, 4, 17, 0, 7, 4, 15, 0})                                      // three faults
	f.Add([]byte{0, 6, 27, 147, 1, 194, 160, 5, 170, 6, 3})                                      // raw frames, optional and unknown ones
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 400 {
			return // nothing new comes of it
		}
		synctest.Test(t, func(t *testing.T) { newMachine(t, data).run() })
	})
}
