package circuit

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"ckt.local/transport"
)

const (
	// earlyData is how much an opener writes behind the open frame of a
	// resumed circuit, before it knows what the other side has already.
	earlyData = 16 << 10

	// maxEarly is how much all openers of a link write behind the open frames of
	// new circuits together, in cost. The other side reads nothing of it before
	// it has decided, and a full connection would stop acknowledgements too.
	maxEarly = 1 << 20

	// maxFaults is how many attachments in a row may end on a connection that
	// is well without having brought anything, before the circuit is given up:
	// what breaks them may be in what is replayed.
	maxFaults = 3

	// retryPause is how long the opener waits with another attachment on a
	// connection that is well.
	retryPause = 50 * time.Millisecond

	// codeGone resets the stream of a circuit that its side has given up for
	// good. Package transport leaves the codes from 256 on to circuits.
	codeGone transport.Code = 256
)

// An attachment is one stream that carries a circuit for a time.
type attachment struct {
	c      *Circuit
	car    *carrier
	stream transport.Stream
	gen    uint64      // written before the attachment is the circuit's
	fr     frameReader // owned by readLoop
	got    *catch      // likewise; nil: nothing is at hand
	block  *block      // likewise; nil: what comes is alone
	last   uint64      // likewise: the last serial that came, or was received before
	plant  plant       // empty in what ships

	// What follows is part of the circuit's state: Circuit.mu guards it, where
	// nothing else is said.
	code      transport.Code // to reset the stream with, unless clean
	handshake []byte         // frame that goes before all others
	early     int            // bytes of data written before ready
	ahead     int64          // counted in Link.early: a new circuit may send data before ready
	turn      chan struct{}  // has a token of ours until the other side has answered; nil: it has none
	credit    uint64         // the highest of acknowledgements before ready
	wroteAt   time.Duration  // when the last write was that is known of, since the carrier's start
	news      uint64         // what has come and gone when the control loop looked last
	over      bool           // it does not carry the circuit any more
	clean     bool           // it has ended in both directions
	ready     bool           // the other side has said where it stands
	bulk      bool           // the stream's priority; owned by who writes
	reading   bool           // readLoop runs, or has run
	flushing  bool           // run runs, or tryRun
	heard     bool           // a fragment has come since the last write
	finSent   bool
	eofAsked  bool // our direction of the stream is to end
	eofSent   bool // it has ended
	finCame   bool
	readDone  bool // the other direction has been read to its end
	sleep     sleep
}

func newAttachment(c *Circuit, car *carrier, s transport.Stream) *attachment {
	a := &attachment{c: c, car: car, stream: s}
	a.fr = frameReader{r: s, pool: &c.link.hub.bufs, limit: int32(c.link.cfg.limits.Payload + maxDataOverhead), admit: a.admit}
	return a
}

// attach makes s carry the circuit, at the side that has opened it. It is
// called once for each stream that car.openStream has returned, with the turn
// that came with it.
func (c *Circuit) attach(car *carrier, s transport.Stream, turn chan struct{}) {
	a := newAttachment(c, car, s)
	if !car.add(a) {
		<-turn
		s.Reset(transport.CodeClosed)
		return
	}
	done := false
	c.update(func(s *state) {
		if a.over || !s.wants(car) {
			return
		}
		if s.leave(s.at, errSuperseded, transport.CodeSuperseded); s.lost {
			return
		}
		s.gen++
		a.gen = s.gen
		a.handshake, a.turn = c.openFrame(s), turn
		s.take(a)
		c.goAhead(s)
		s.eager, done = true, true
	})
	if !done {
		<-turn
		car.remove(a)
		s.Reset(transport.CodeClosed)
	}
}

// goAhead lets a new circuit send its first fragment with the open frame, if
// not too many do so.
func (c *Circuit) goAhead(s *state) {
	n := int64(s.out.cost)
	switch {
	case s.confirmed || n == 0:
	case c.link.early.Add(n) > maxEarly:
		c.link.early.Add(-n)
	default:
		s.at.ahead = n
	}
}

// decided ends what goAhead has begun, and the turn: the other side has
// answered, or the attachment is over.
func (a *attachment) decided() {
	a.c.link.early.Add(-a.ahead)
	a.ahead = 0
	if a.turn != nil {
		<-a.turn // it is there
		a.turn = nil
	}
}

// take makes a what carries the circuit.
func (s *state) take(a *attachment) {
	s.at, s.moving, s.since = a, false, time.Now()
	if s.seq != a.car.seq {
		s.faults = 0 // what went wrong on another connection says nothing about this one
	}
	s.seq, a.last = a.car.seq, s.received // nobody reads yet
	s.asked = noAck                       // the list that it may be on is that of another attachment
	s.want, s.wantTold, s.wantDue = wireWant{}, 0, false
	s.attachments++
	s.announce = true
}

// leave ends an attachment, for the circuit to go on without one if it is a
// that carries it. err is why, code what the other side is told.
func (s *state) leave(a *attachment, err error, code transport.Code) {
	if a == nil || a.over {
		return
	}
	a.over, a.code = true, code
	if a.sleep == dozeOffer {
		a.sleep = awake
		s.readers-- // nobody has to see its end
	}
	a.decided()
	if s.at != a {
		return
	}
	s.at, s.gone, s.announce = nil, a, true
	s.lostBy, s.since = err, time.Now()
	if !planted(bugNoReplay) {
		s.out.seek(s.out.acked)
	}
	s.countFault(a, err)
	switch r, ok := errors.AsType[*transport.RemoteError](err); {
	case s.faults >= maxFaults, a.c.link.linger() == 0 && !s.moving:
		s.lost = true
	case ok && r.Code == codeGone:
		s.lost, s.lostBy = true, errGone
	}
	a.c.answer(s)
}

// countFault counts attachments that end while their connection is well, by a
// fault or because the other side has reset them, and nothing new comes or goes.
func (s *state) countFault(a *attachment, err error) {
	if err == errSuperseded || a.car.conn.Context().Err() != nil || a.car.ctx.Err() != nil {
		return
	}
	if news := s.received + s.out.acked; news > s.news || s.faults == 0 {
		s.faults, s.news = 0, news
	}
	s.faults++
}

// answer tells Open that there will be no circuit, if that is so.
func (c *Circuit) answer(s *state) {
	if s.lost && s.opening != nil {
		s.opening <- s.endOf() // has room for the one answer
		s.opening = nil
	}
}

// end takes the circuit off a.
func (a *attachment) end(err error, code transport.Code) {
	a.c.update(func(s *state) { s.leave(a, err, code) })
}

// abandon gives the stream up after leave, or after it has ended.
func (a *attachment) abandon() {
	a.car.remove(a)
	a.unrouse()
	if !a.clean && a.car.ctx.Err() == nil { // else the stream ends with the connection, and nobody takes that for a fault
		a.stream.Reset(a.code)
	}
}

// reattach asks for another attachment on car, if the connection is well: else
// the next carrier takes the circuit up.
func (c *Circuit) reattach(car *carrier) {
	if car.ctx.Err() != nil {
		return
	}
	c.update(func(s *state) {
		if s.released || s.lost {
			return
		}
		pause := retryPause << min(s.faults, maxFaults)
		s.retry = time.AfterFunc(pause, func() {
			if car := c.link.carrier(); car != nil {
				car.attachSoon(c)
			}
		})
	})
}

// fault ends the attachment because the other side broke the protocol.
func (a *attachment) fault(err error) {
	a.c.logFault(err)
	a.end(err, transport.CodeProtocol)
}

func (c *Circuit) logFault(err error) {
	c.link.cfg.Logger.Warn("circuit: protocol fault", "node", c.RemoteNodeID(), "circuit", c.id.String(), "error", err)
}

// lose ends the circuit for good, if nothing else has.
func (c *Circuit) lose(err error) {
	c.update(func(s *state) {
		if s.lost || s.released {
			return
		}
		s.leave(s.at, err, codeGone)
		s.lost, s.lostBy, s.since, s.poke, s.announce = true, err, time.Now(), true, true
		c.answer(s)
	})
}

// resumable reports whether the next carrier has to take the circuit up.
func (c *Circuit) resumable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.accepted && !c.s.lost && !c.s.released
}

// unknownThere is called when the other side, which has opened the circuit,
// does not name it among those that it has, on the link's carrier seq.
func (c *Circuit) unknownThere(seq int32) {
	c.mu.Lock()
	old := c.s.seq < seq
	c.mu.Unlock()
	if old {
		c.lose(errGone)
	}
}

// readLoop reads the frames of the attachment's stream until its end. It never
// waits for the user: what the other side may send always has room in the
// inbox.
func (a *attachment) readLoop() {
	for grown := false; ; {
		typ, body, err := a.fr.next()
		if err == nil {
			err = a.onFrame(typ, body)
			if !grown {
				grown = true
				a.rouse()
			}
		}
		if err == nil || a.interrupted(err) && !a.retire() {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return // somebody else reads
		}
		// What came before the fault counts.
		if fault := a.handOn(); fault != nil {
			err = fault
		}
		a.endBlock()
		a.fr.release()
		a.readEnded(err)
		return
	}
}

// errStale ends the reader of an attachment that carries the circuit no
// longer.
var errStale = errors.New("circuit: the attachment is over")

// readEnded is called once, when nothing more comes from the stream.
func (a *attachment) readEnded(err error) {
	c := a.c
	if gone := context.Cause(a.car.conn.Context()); gone != nil && err != io.EOF {
		err = gone
	} else if r, ok := errors.AsType[*transport.RemoteError](err); ok && r.Code == transport.CodeSuperseded && !c.accepted {
		err = faultf("superseded by the other side, which may not do that") // only if a is not over
	}
	faulty := false
	c.update(func(s *state) {
		s.readers--
		switch {
		case a.over:
		case err == io.EOF && s.takesEOF():
			a.readDone = true
			if s.closed && s.fin == nil {
				s.out.ack(s.out.last) // it would not have ended without having everything
			}
		case isForeign(err):
			faulty = true
			s.leave(a, err, transport.CodeProtocol)
		default:
			s.leave(a, err, transport.CodeClosed)
		}
	})
	if faulty {
		c.logFault(err)
	}
}

// acknowledge returns what to tell the other side, and counts it as told.
func (a *attachment) acknowledge() (ack wireAck, ok bool) {
	a.c.update(func(s *state) {
		if s.at != a || !a.ready {
			return
		}
		ack.Stream, ack.Credit = a.stream.ID(), s.grant()
		ack.Received = s.told
		ok = true
	})
	return ack, ok
}

// onAck learns what the other side has, and reports whether it is more than
// before.
func (a *attachment) onAck(ack wireAck) (progress bool, err error) {
	a.c.update(func(s *state) {
		if s.at != a || s.fin != nil {
			return
		}
		before := s.out.acked
		if !s.out.ack(ack.Received) {
			err = faultf("acknowledgement of fragment %d, which was not sent", ack.Received)
			return
		}
		s.out.credit = max(s.out.credit, ack.Credit)
		if !a.ready {
			a.credit = max(a.credit, ack.Credit) // it has overtaken the accept frame
		}
		s.keep = s.keep || a.c.rich(s)
		progress = s.out.acked > before
	})
	return progress, err
}
