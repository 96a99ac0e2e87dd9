package circuit

import (
	"context"
	"errors"
	"fmt"
	"io"

	"ckt.local/transport"
)

// readLoop reads the frames of the circuit's stream until its end. It never
// waits for the user: what the other side may send always has room in the
// inbox. One runs per circuit, from its opening until the stream ends.
func (c *Circuit) readLoop() {
	for {
		typ, body, err := c.fr.next()
		if err == nil {
			err = c.onFrame(typ, body)
		}
		if err == nil {
			continue
		}
		c.fr.release()
		c.readEnded(err)
		return
	}
}

// readEnded is called once, when nothing more comes from the stream.
func (c *Circuit) readEnded(err error) {
	c.mu.Lock()
	clean := c.s.lost || err == io.EOF && (c.s.finSent || c.s.fin != nil && c.s.received == c.s.fin.Last)
	c.mu.Unlock()
	if !clean {
		if gone := context.Cause(c.link.conn.Context()); gone != nil {
			err = gone
		}
		if isForeign(err) {
			c.fault(err)
		} else {
			c.stream.Reset(transport.CodeClosed) // or a blocked write would wait for a side that has gone
			c.lose(err)
		}
	}
	c.update(func(s *state) { s.readDone = true })
}

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
func (c *Circuit) onFrame(typ transport.FrameType, body []byte) error {
	if typ == frameData {
		return c.onData(body)
	}
	if len(body) >= maxSmallFrame && !typ.Optional() {
		return &transport.FrameError{Len: len(body) + 1, Limit: maxSmallFrame}
	}
	switch typ {
	case frameFin:
		return c.onFin(body)
	case frameAccept:
		return c.onAccept(body)
	case frameRefuse:
		return c.onRefuse(body)
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

func (c *Circuit) onData(body []byte) error {
	var w wireFragment
	payload, err := w.UnmarshalMsg(body)
	if err != nil {
		return faultf("fragment: %v", err)
	}
	if len(payload) > c.link.cfg.MaxPayload {
		return faultf("%v", &LimitError{What: "payload", Size: len(payload), Limit: c.link.cfg.MaxPayload})
	}
	if err := checkTexts(w.Subject, w.Err, w.Args); err != nil {
		return faultf("%v", err)
	}
	if !c.fr.owned() {
		payload = append([]byte(nil), payload...)
	}
	it := item{f: c.fragment(&w, payload), cost: frameCost(frameSize(len(body)), len(w.Args))}
	c.update(func(s *state) { err = c.receive(s, it) })
	return err
}

// frameSize is the size of a frame whose body has n bytes.
func frameSize(n int) int {
	var head [transport.MaxFrameHeader]byte
	return len(transport.AppendFrameHeader(head[:0], 0, n)) + n
}

// fragment makes what the user gets: the sender's part as it came, the rest
// from what this side knows.
func (c *Circuit) fragment(w *wireFragment, payload []byte) *Fragment {
	f := &Fragment{
		FromPeerID:  c.names.remote,
		ToPeerID:    c.names.local,
		CircuitID:   c.names.circuit,
		Serial:      int64(w.Serial),
		ServiceName: c.remote.service,
		FragOp:      int(w.Op),
		FragSubject: w.Subject,
		FragPart:    w.Part,
		Args:        w.Args,
		Payload:     payload,
		Err:         w.Err,
	}
	switch {
	case f.Err != "":
		f.Typ = CallError
	case c.first && f.Serial == 1:
		f.Typ = CallFirst
	}
	return f
}

// receive takes a fragment into the inbox, or hands it to a reader that waits.
func (c *Circuit) receive(s *state, it item) error {
	serial := uint64(it.f.Serial)
	switch {
	case s.lost:
		return transport.ErrClosed // the reader had it in hand already; Reads may be closed
	case s.opening != nil:
		return faultf("fragment before the answer to the opening")
	case serial == 0:
		return faultf("fragment without a serial")
	case serial <= s.received:
		s.dups++
		return nil
	case serial > s.received+1:
		return faultf("fragment %d after %d", serial, s.received)
	case s.fin != nil && serial > s.fin.Last:
		return faultf("fragment %d after the last one, %d", serial, s.fin.Last)
	case s.rcvCost >= s.granted:
		return faultf("fragment %d without credit", serial)
	}
	s.received = serial
	s.rcvCost += uint64(it.cost)
	s.bytes.rcv += int64(len(it.f.Payload))
	if s.closed {
		s.took += uint64(it.cost)
		return nil
	}
	if s.in.len() == 0 && !s.pumping && s.iterating == 0 && c.handOver(it.f) {
		s.took += uint64(it.cost)
		return nil
	}
	s.in.add(it)
	s.poke = true
	if s.pumping && s.in.len() == 1 || it.f.Err != "" {
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

func (c *Circuit) onFin(body []byte) (err error) {
	fin := &wireFin{}
	if err := parse(body, fin); err != nil {
		return err
	}
	fin.Reason = cut(fin.Reason, MaxReason)
	c.update(func(s *state) {
		switch {
		case s.fin != nil:
			err = faultf("second fin")
		case s.opening != nil:
			err = faultf("fin before the answer to the opening")
		case fin.Last < s.received:
			err = faultf("fin after %d, but %d has come", fin.Last, s.received)
		default:
			s.fin, s.poke = fin, true
			if s.pumping {
				signal(c.wake)
			}
		}
	})
	return err
}

func (c *Circuit) onAccept(body []byte) (err error) {
	var a wireAccept
	if err := parse(body, &a); err != nil {
		return err
	}
	peer := ID(a.Seed).Peer(c.link.node)
	c.update(func(s *state) {
		switch {
		case s.opening == nil:
			err = faultf("accept without an opening")
		case a.Generation != 1 || a.Received != 0:
			err = faultf("accept of generation %d", a.Generation)
		case ID(a.Seed).IsZero() || !c.remote.peer.IsZero() && c.remote.peer != peer:
			err = faultf("accept by another peer")
		default:
			c.remote.peer = peer
			c.setNames()
			s.opening <- nil
			s.opening = nil
		}
	})
	return err
}

func (c *Circuit) onRefuse(body []byte) error {
	var r wireRefuse
	if err := parse(body, &r); err != nil {
		return err
	}
	c.mu.Lock()
	opening := c.s.opening != nil
	c.mu.Unlock()
	if !opening {
		return faultf("refuse without an opening")
	}
	c.lose(&RefusedError{
		Code:    RefuseCode(r.Code),
		Reason:  cut(r.Reason, MaxReason),
		Node:    c.RemoteNodeID(),
		Service: c.remote.service,
	})
	c.stream.Reset(transport.CodeClosed)
	return nil
}
