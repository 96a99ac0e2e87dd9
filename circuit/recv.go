package circuit

import (
	"errors"
	"fmt"
	"io"

	"github.com/tinylib/msgp/msgp"

	"ckt.local/transport"
)

// A protocolError says how the other side broke the protocol.
type protocolError struct{ what string }

func (e *protocolError) Error() string { return "circuit: protocol error: " + e.what }

func faultf(format string, args ...any) error {
	return &protocolError{what: fmt.Sprintf(format, args...)}
}

// isForeign reports whether err is about what the other side has sent.
func isForeign(err error) bool {
	if _, ok := errors.AsType[*protocolError](err); ok {
		return true
	}
	_, ok := errors.AsType[*transport.FrameError](err)
	return ok || err == io.EOF || err == io.ErrUnexpectedEOF
}

// onFrame takes one frame. body is only valid during the call.
func (a *attachment) onFrame(typ transport.FrameType, body []byte) error {
	if typ == frameData {
		return a.onData(body)
	}
	if err := a.handOn(); err != nil {
		return err
	}
	if len(body) >= maxSmallFrame && !typ.Optional() {
		return &transport.FrameError{Len: len(body) + 1, Limit: maxSmallFrame}
	}
	switch typ {
	case frameFin:
		return a.onFin(body)
	case frameAccept:
		return a.onAccept(body)
	case frameRefuse:
		return a.onRefuse(body)
	}
	if typ.Optional() {
		return nil
	}
	return faultf("frame type %#x on a circuit's stream", byte(typ))
}

// unmarshaler is the part of the generated code that reads a body.
type unmarshaler interface {
	UnmarshalMsg(b []byte) ([]byte, error)
}

// parse reads a body that is one tuple and nothing else.
func parse(body []byte, m unmarshaler) error {
	rest, err := m.UnmarshalMsg(body)
	if err != nil {
		return faultf("%T: %v", m, err)
	}
	if len(rest) > 0 {
		return faultf("%T: %d bytes too many", m, len(rest))
	}
	return nil
}

// onData takes a fragment, and hands on what was taken once no other whole one
// is at hand: so many share one change of the state, and one wake-up.
func (a *attachment) onData(body []byte) error {
	var w wireFragment
	payload, err := w.parse(body)
	if err != nil {
		return faultf("fragment: %v", err)
	}
	if w.Serial <= a.last && !planted(bugNoDedup) {
		return a.again(w.Serial)
	}
	a.last = w.Serial
	f, err := a.fragment(&w, payload)
	if err != nil {
		return err
	}
	it := item{f: f, cost: frameCost(frameSize(len(body)), len(w.Args))}
	more := a.fr.ahead(1)
	if a.got == nil {
		if !more { // a lone one, as most are on a quiet circuit
			a.c.update(func(s *state) { err = a.receive(s, it) })
			return err
		}
		a.got = a.fr.pool.catches.get()
	}
	a.got.items[a.got.n] = it
	a.got.n++
	if !more || a.got.n == len(a.got.items) {
		err = a.handOn()
	}
	return err
}

// again counts a fragment that has come before, unless it is a fault. Nothing is
// made of it: it costs its sender no credit, so it must not take a place in a
// block, which would stay in use with others.
func (a *attachment) again(serial uint64) error {
	if err := a.handOn(); err != nil {
		return err
	}
	var err error
	a.c.update(func(s *state) { _, err = a.judge(s, serial, 0) })
	return err
}

// handOn takes what the reader has at hand into the circuit.
func (a *attachment) handOn() (err error) {
	got := a.got
	if got == nil {
		return nil
	}
	a.c.update(func(s *state) {
		for i := range got.items[:got.n] {
			if err = a.receive(s, got.items[i]); err != nil {
				return
			}
		}
	})
	clear(got.items[:got.n])
	got.n, a.got = 0, nil
	a.fr.pool.catches.put(got)
	return err
}

// frameSize is the size of a frame whose body has n bytes.
func frameSize(n int) int {
	var head [transport.MaxFrameHeader]byte
	return len(transport.AppendFrameHeader(head[:0], 0, n)) + n
}

// admit decides about a long frame when only its beginning is here: there is
// memory for it only if there is credit. What has come before, and what nobody
// knows, is skipped.
func (a *attachment) admit(head []byte, size int) (skip bool, err error) {
	typ, body := transport.FrameStart(head)
	if typ != frameData {
		if typ.Optional() {
			return true, nil
		}
		return false, &transport.FrameError{Len: size, Limit: maxSmallFrame}
	}
	_, body, err = msgp.ReadArrayHeaderBytes(body)
	var serial uint64
	if err == nil {
		serial, _, err = msgp.ReadUint64Bytes(body)
	}
	if err != nil {
		return false, faultf("fragment: %v", err)
	}
	a.c.update(func(s *state) { skip, err = a.judge(s, serial, frameCost(size, 0)) })
	return skip, err
}

// judge decides whether a fragment may come now. One that has come before is
// counted, and dropped.
func (a *attachment) judge(s *state, serial uint64, cost int) (again bool, err error) {
	switch {
	case s.at != a:
		return false, errStale // the reader had it in hand already; Reads may be closed
	case !s.confirmed || !a.ready:
		return false, faultf("fragment before the answer to the opening")
	case serial == 0:
		return false, faultf("fragment without a serial")
	case serial <= s.received && !planted(bugNoDedup):
		s.dups++
		return true, nil
	case serial > s.received+1:
		return false, faultf("fragment %d after %d", serial, s.received)
	case s.fin != nil && serial > s.fin.Last:
		return false, faultf("fragment %d after the last one, %d", serial, s.fin.Last)
	case s.rcvCost+uint64(cost) > s.granted:
		return false, faultf("fragment %d without credit", serial)
	}
	return false, nil
}

// receive takes a fragment into the inbox, or hands it to a reader that waits.
// What is received and which attachment it came by change together: so what
// the next attachment is told is neither too little nor too much.
func (a *attachment) receive(s *state, it item) error {
	serial := uint64(it.f.Serial)
	if again, err := a.judge(s, serial, it.cost); again || err != nil {
		it.f.Release()
		return err
	}
	s.received, a.heard = serial, true
	s.rcvCost += uint64(it.cost)
	s.bytes.rcv += int64(len(it.f.Payload))
	a.c.growInbox(s, it.cost)
	if planted(bugAckBeforeDelivery) {
		if it = a.plant.hold(it); it.f == nil {
			return nil
		}
	}
	return a.c.deliver(s, it)
}

// deliver gives a fragment to the user, or keeps it for the user.
func (c *Circuit) deliver(s *state, it item) error {
	if s.closed {
		s.took += uint64(it.cost)
		it.f.Release()
		return nil
	}
	if s.in.len() == 0 && !s.pumping && s.iterating == 0 && c.handOver(it.f) {
		s.took += uint64(it.cost)
		return nil
	}
	s.in.add(it)
	s.poke = true
	if s.pumping && (s.in.len() == 1 || s.hasAll()) || it.f.Err != "" {
		signal(c.wake)
	}
	return nil
}

// handOver gives f to a reader if one waits just now. It does not wait.
func (c *Circuit) handOver(f *Fragment) bool {
	ch := c.reads
	if f.Err != "" {
		ch = c.errs
	}
	select {
	case ch <- f:
		return true
	default:
		return false
	}
}

func (a *attachment) onFin(body []byte) (err error) {
	c, fin := a.c, &wireFin{}
	if err := parse(body, fin); err != nil {
		return err
	}
	fin.Reason = cut(fin.Reason, maxReason)
	c.update(func(s *state) {
		if planted(bugFinWithoutLast) {
			fin.Last = s.received
		}
		switch {
		case s.at != a:
			err = errStale
		case a.finCame:
			err = faultf("second fin")
		case s.fin != nil && s.fin.Last != fin.Last:
			err = faultf("fin after %d, and before it was after %d", fin.Last, s.fin.Last)
		case !s.confirmed || !a.ready:
			err = faultf("fin before the answer to the opening")
		case fin.Last < s.received:
			err = faultf("fin after %d, but %d has come", fin.Last, s.received)
		default:
			a.finCame = true
			if s.fin == nil {
				s.fin = fin
			}
			s.poke = true
			if s.pumping {
				signal(c.wake)
			}
		}
	})
	return err
}

// onAccept learns that the other side has taken the circuit, or takes it up
// again, and what it has of it.
func (a *attachment) onAccept(body []byte) (err error) {
	var w wireAccept
	if err := parse(body, &w); err != nil {
		return err
	}
	c := a.c
	peer := ID(w.Seed).Peer(c.link.node)
	c.update(func(s *state) {
		switch {
		case s.at != a:
			err = errStale
		case c.accepted || a.ready:
			err = faultf("accept without an opening")
		case w.Generation != a.gen:
			err = faultf("accept of generation %d, not %d", w.Generation, a.gen)
		case ID(w.Seed).IsZero() || !c.remote.peer.IsZero() && c.remote.peer != peer:
			err = faultf("accept by another peer")
		case s.fin == nil && !s.out.ack(w.Received):
			err = faultf("accept with fragment %d, which was not sent", w.Received)
		default:
			s.open(a, w.Credit)
			if s.opening != nil {
				c.ends = c.link.ends(c.local, end{peer, c.remote.service}, c.seed)
				s.opening <- nil
				s.opening = nil
			}
		}
	})
	return err
}

// open begins the exchange on an attachment, when the other side has said what
// it has received and what it can take.
func (s *state) open(a *attachment, credit uint64) {
	a.ready, s.confirmed = true, true
	a.decided()
	if s.fin == nil {
		s.out.credit = max(credit, a.credit) // what was given before, and lost with the connection, is in it
	}
}

// onRefuse learns that the other side does not take the circuit.
func (a *attachment) onRefuse(body []byte) error {
	var r wireRefuse
	if err := parse(body, &r); err != nil {
		return err
	}
	c := a.c
	c.mu.Lock()
	ours := c.s.at == a && !c.accepted && !a.ready
	confirmed := c.s.confirmed
	c.mu.Unlock()
	switch code := RefuseCode(r.Code); {
	case !ours:
		return faultf("refuse without an opening")
	case code == refusedGone:
		c.lose(errGone)
	case confirmed || code == refusedStale:
		return faultf("resumption refused: %v", code) // of this attachment, not of the circuit
	default:
		c.lose(&RefusedError{
			Code:    RefuseCode(r.Code),
			Reason:  cut(r.Reason, maxReason),
			Node:    c.RemoteNodeID(),
			Service: c.remote.service,
			Limit:   r.limit(),
		})
	}
	return nil
}
