package circuit

import (
	"errors"
	"fmt"
	"time"
)

const (
	// quietAfterEnd is how long the Context outlives the other side's close
	// while fragments are unread and nobody reads.
	quietAfterEnd = 5 * time.Second

	// keepUnread is how long fragments can be read after that.
	keepUnread = 2 * time.Minute

	// lingerAfterClose is how long a closed circuit tries to deliver what was
	// sent before the close to a side that does not take it.
	lingerAfterClose = 2 * time.Minute
)

// state is everything of a Circuit that changes. Circuit.mu guards it,
// Circuit.update is the only code that changes it, and settle, which update
// calls, the only code that decides what follows: docs/architecture.md draws
// the life of a circuit.
type state struct {
	out outbox
	in  inbox

	// The attachment.
	attached  bool         // the flusher may write to the stream
	handshake []byte       // frame that goes before all others
	opening   chan<- error // gets the answer to our open frame; nil once it came
	finSent   bool
	eofSent   bool // our direction of the stream has ended
	readDone  bool // the other direction has been read to its end
	lost      bool // the stream is of no more use

	// Goroutines that come and go; each ends when its work is done.
	flushing  bool // flush runs
	pumping   bool // pump runs
	iterating int  // calls of Fragments that run

	// Receiving. A cost is the sum of frameCost over all fragments so far.
	received uint64 // last serial received
	rcvCost  uint64
	took     uint64 // cost of what the user has taken
	told     uint64 // received, in the last acknowledgement
	toldCost uint64 // rcvCost then
	granted  uint64 // credit given so far
	asked    urgency

	// The end.
	closed    bool  // this side has closed
	closeWith error // the reason given; nil: none
	fin       *wireFin
	lostBy    error // why the stream is lost
	quiet     bool  // nobody has read for quietAfterEnd
	cause     error // why the circuit ended; set once
	unacked   int   // fragments not acknowledged at that time
	ended     bool  // Context has ended
	chansShut bool  // Reads and Errors are closed
	released  bool  // the link has forgotten the circuit
	finished  bool  // no goroutine will ever run for it again
	owned     bool  // the owner knows it

	poke  bool          // something that Fragments waits for has changed
	busy  bool          // counted in the link's outstanding
	room  chan struct{} // closed when a waiting Send should look again
	timer *time.Timer   // ends a close that nobody takes
	stall *time.Timer   // runs while Fragments calls take nothing of what is left after the end

	dups  int64 // fragments that came twice
	bytes struct{ sent, rcv int64 }
}

// arrivedAll reports whether nothing more will arrive.
func (s *state) arrivedAll() bool {
	return s.lost || s.fin != nil && s.received >= s.fin.Last
}

// owesFin reports whether the other side must still be told of the close. It
// need not be if it has closed itself.
func (s *state) owesFin() bool { return s.closed && !s.finSent && s.fin == nil }

// wantsEOF reports whether everything of this side has been written.
func (s *state) wantsEOF() bool {
	return s.fin != nil || s.closed && s.finSent && !s.out.unsent()
}

// endOf decides whether the circuit has ended, and why.
func (s *state) endOf() error {
	switch {
	case s.closed && s.closeWith != nil:
		return fmt.Errorf("%w: %w", ErrClosed, s.closeWith)
	case s.closed:
		return ErrClosed
	case s.fin != nil && (s.quiet || s.received >= s.fin.Last):
		return s.finCause()
	case s.lost:
		if _, ok := errors.AsType[*RefusedError](s.lostBy); ok || s.lostBy == ErrOpenTimeout {
			return s.lostBy
		}
		return &LostError{Unacked: s.out.unacked(), Cause: s.lostBy}
	}
	return nil
}

func (s *state) finCause() error {
	if s.fin.Failed {
		return &RemoteError{Reason: s.fin.Reason}
	}
	return ErrRemoteClosed
}

// sendErr returns why nothing can be sent any more.
func (s *state) sendErr() error {
	if s.cause == nil && s.fin != nil {
		return s.finCause()
	}
	return s.cause
}

// after is what remains to be done outside the mutex after an update.
type after struct {
	flush, pump bool
	cancel      error
	remove      bool
	release     bool
	finish      bool
	busy        int // +1, -1
	ask         urgency
	wakePump    bool
}

// update changes the state and lets settle decide what follows.
func (c *Circuit) update(change func(s *state)) {
	c.mu.Lock()
	change(&c.s)
	todo := c.settle(&c.s)
	c.mu.Unlock()
	c.carryOut(todo)
}

// settle derives what follows from the state as it is. It only flips flags;
// what may take time is left to carryOut.
func (c *Circuit) settle(s *state) (todo after) {
	if s.cause == nil {
		if s.cause = s.endOf(); s.cause != nil {
			s.unacked = s.out.unacked()
			todo.wakePump = s.pumping
		}
	}
	if s.lost || s.fin != nil {
		s.out.clear() // nobody takes it any more
	}
	if s.closed {
		s.took += s.dropUnread()
	}
	drained := s.in.len() == 0 && s.arrivedAll()
	if s.cause != nil && !s.ended && (s.closed || drained || s.quiet) {
		s.ended, todo.cancel = true, s.cause
		todo.remove = s.owned
	}
	if s.cause != nil && !s.pumping && !s.chansShut && (s.closed || drained) {
		s.chansShut = true
		close(c.reads)
		close(c.errs)
	}
	if s.room != nil && (s.sendErr() != nil || s.out.cost < c.link.cfg.Window) {
		close(s.room)
		s.room = nil
	}
	if s.in.len() > 0 && !s.pumping && s.iterating == 0 {
		s.pumping, todo.pump = true, true
	}
	if s.poke && s.iterating > 0 {
		signal(c.arrived)
	}
	s.poke = false
	c.settleStall(s)
	c.settleStream(s, &todo)
	c.settleAcks(s, &todo)
	c.settleRelease(s, &todo)
	return todo
}

// settleStall does for Fragments calls what pump does for readers: a user who
// does not take what is left after the end, perhaps because it waits for the
// Context, gets its end all the same.
func (c *Circuit) settleStall(s *state) {
	waits := s.iterating > 0 && s.in.len() > 0 && !s.ended && (s.fin != nil || s.lost)
	switch {
	case waits && s.stall == nil:
		s.stall = time.AfterFunc(quietAfterEnd, func() {
			c.update(func(s *state) { s.quiet = s.quiet || s.stall != nil })
		})
	case !waits && s.stall != nil:
		s.stall.Stop()
		s.stall = nil
	}
}

// settleStream decides about the flusher, and whether the other side owes an
// acknowledgement.
func (c *Circuit) settleStream(s *state, todo *after) {
	work := len(s.handshake) > 0 || s.owesFin() || s.out.canSend() || s.wantsEOF() && !s.eofSent
	if s.attached && !s.lost && !s.flushing && work {
		s.flushing, todo.flush = true, true
	}
	busy := !s.lost && (s.opening != nil || s.attached && s.fin == nil && s.out.sent > s.out.acked)
	if busy != s.busy {
		s.busy = busy
		todo.busy = -1
		if busy {
			todo.busy = 1
		}
	}
}

// An urgency says how soon the link acknowledges for a circuit.
type urgency uint8

const (
	noAck   urgency = iota
	ackSoon         // with the next batch, at most ackDelay from now
	ackAtOnce
)

// settleAcks decides whether to acknowledge, and how soon.
func (c *Circuit) settleAcks(s *state, todo *after) {
	if s.lost || s.released {
		return
	}
	quarter := max(1, uint64(c.link.cfg.Window/4)) // 0 would be due for ever
	news := s.received - s.told
	last := s.fin != nil && s.received == s.fin.Last
	credit := s.took + uint64(c.link.cfg.Window) - s.granted
	want := noAck
	switch {
	case news >= acksAtOnce, s.rcvCost-s.toldCost >= quarter, last && news > 0, !last && credit >= quarter:
		want = ackAtOnce
	case news > 0:
		want = ackSoon
	}
	if want > s.asked {
		s.asked, todo.ask = want, want
	}
}

// acknowledge returns what to tell the other side, and counts it as told.
func (s *state) acknowledge(window int) (wireAck, bool) {
	s.asked = noAck
	if s.lost || s.released {
		return wireAck{}, false
	}
	s.told, s.toldCost = s.received, s.rcvCost
	s.granted = max(s.granted, s.took+uint64(window))
	return wireAck{Received: s.told, Credit: s.granted}, true
}

// settleRelease decides when the link may forget the circuit: when both
// directions of its stream have ended and nothing is unacknowledged.
func (c *Circuit) settleRelease(s *state, todo *after) {
	quiet := s.lost || s.eofSent && s.out.cost == 0 && s.told == s.received
	if !s.released && s.readDone && quiet {
		s.released, todo.release = true, true
		if s.timer != nil {
			s.timer.Stop()
		}
	}
	if s.released && s.chansShut && !s.flushing && !s.pumping && !s.finished {
		s.finished, todo.finish = true, true
	}
}

// dropUnread empties the inbox and returns what it cost.
func (s *state) dropUnread() uint64 {
	if s.in.len() == 0 {
		return 0
	}
	s.in.clear()
	return s.rcvCost - s.took
}

// carryOut does what settle has decided.
func (c *Circuit) carryOut(todo after) {
	if todo.flush {
		go c.flush() // joined by the link: finished waits for it
	}
	if todo.pump {
		go c.pump() // likewise
	}
	if todo.wakePump {
		signal(c.wake)
	}
	if todo.busy != 0 {
		c.link.owes(todo.busy)
	}
	if todo.ask != noAck {
		c.link.askAck(c, todo.ask)
	}
	if todo.cancel != nil {
		c.cancel(todo.cancel)
		if todo.remove {
			c.owner.RemoveCircuit(c)
		}
	}
	if todo.release {
		c.link.forget(c)
	}
	if todo.finish {
		c.link.finish(c)
	}
}
