package circuit

import (
	"errors"
	"fmt"
	"time"
)

const (
	// quietAfterEnd is how long the Context outlives the other side's close
	// while fragments are unread and nobody reads. It does so only once all of
	// them are here: until then nobody knows whether the close is a clean one.
	quietAfterEnd = 5 * time.Second

	// keepUnread is how long fragments can be read after that.
	keepUnread = 2 * time.Minute

	// lingerAfterClose is how long a closed circuit tries to deliver what was
	// sent before the close to a side that takes nothing of it.
	lingerAfterClose = 2 * time.Minute
)

// state is everything of a Circuit that changes. Circuit.mu guards it,
// Circuit.update is the only code that changes it (but for takeNext and sendNext), and settle, which update
// calls, the only code that decides what follows: docs/states.md draws it.
type state struct {
	out outbox
	in  inbox

	// The attachment.
	at          *attachment  // nil: detached
	gen         uint64       // of the latest attachment, also when it is gone
	seq         int32        // its carrier
	opening     chan<- error // gets the answer to our open frame; nil once it came
	lostBy      error        // why there is none, or why there was none last
	since       time.Time    // when that came to be
	attachments int
	news        uint64      // received + out.acked at the last fault
	retry       *time.Timer // asks for another attachment
	gone        *attachment // ended in this update
	watchers    chan struct{}

	// Receiving. A cost is the sum of frameCost over all fragments so far.
	received uint64 // last serial received
	rcvCost  uint64
	took     uint64 // cost of what the user has taken
	told     uint64 // received, in the last acknowledgement
	toldCost uint64 // rcvCost then
	granted  uint64 // credit given so far
	window   int    // how far it may run ahead of what is taken
	inBooked int    // how far it does: what is booked in limit.Inbox
	want     wireWant
	inScarce int    // there was not so much memory; a Waiter is to say when there is
	paceCost uint64 // rcvCost when half a window had come last
	paceAt   time.Time

	// Sending.
	most      int           // what the outbox may hold before one more fragment
	outBooked int           // what it does, at the most: booked in limit.Replay
	outScarce int           // as inScarce
	wantTold  uint64        // Next of the last want on this attachment
	need      int           // the least that a waiting Send has not found room for
	keptSent  uint64        // out.sent at the last of them
	senders   *sender       // the calls that wait
	acks      chan struct{} // closed when a waiting Flush should
	acksFrom  uint64        // out.acked when acks was made

	// The end.
	closeWith error  // the reason given; nil: none
	closeNews uint64 // received + out.acked when timer was set last
	fin       *wireFin
	cause     error       // why the circuit ended; set once
	unacked   int         // fragments not acknowledged at that time
	over      time.Time   // that time
	timer     *time.Timer // ends a close that nobody takes, or that its side never completes
	stall     *time.Timer // runs while Fragments calls take nothing of what is left after the end

	dups  int64                     // fragments that came twice
	bytes struct{ sent, rcv int64 } // of payloads

	// Flags and small numbers, together because a circuit has 20 of them.
	faults    int32 // attachments in a row that ended by a fault and brought nothing
	readers   int32 // of attachments
	flushers  int32 // of attachments
	iterating int32 // calls of Fragments that run
	waiting   int32 // those of them that wait
	telling   int32 // calls of update that are about to tell the owner, or the link, of an end
	idle      int32 // calls of keep since the last fragment was sent
	confirmed bool  // the other side has accepted the circuit
	moving    bool  // at is to be replaced though it is well
	lost      bool  // there will be no attachment any more
	announce  bool  // States has something to tell
	pumping   bool  // pump runs
	offering  bool  // and holds out the head of the inbox
	asked     urgency
	wantDue   bool // another one is to be told
	eager     bool // who changes the state may write as well
	keep      bool // the link's keep is to look after the circuit
	closed    bool // this side has closed
	finTold   bool // the other side has been told, on some attachment
	quiet     bool // nobody has read for quietAfterEnd
	ended     bool // Context has ended
	chansShut bool // Reads and Errors are closed
	released  bool // the link has forgotten the circuit
	finished  bool // no goroutine will ever run for it again
	owned     bool // the owner knows it
	poke      bool // something that Fragments waits for has changed
}

// arrivedAll reports whether nothing more will arrive.
func (s *state) arrivedAll() bool { return s.lost || s.hasAll() }

// hasAll reports whether the other side has closed and all of it is here.
func (s *state) hasAll() bool { return s.fin != nil && s.received >= s.fin.Last }

// owesFin reports whether the other side must still be told of the close. It
// need not be if it has closed itself and this side has taken all.
func (s *state) owesFin() bool { return s.closed && !s.at.finSent && !s.hasAll() }

// wantsEOF reports whether this side is to end its direction of the stream: it
// has been told of the close and has everything, or it has closed and the
// other side has said so in the same way.
func (s *state) wantsEOF() bool {
	return !s.at.eofAsked && !s.owesFin() && (s.at.readDone || s.fin != nil && (s.closed || s.hasAll()))
}

// takesEOF reports whether the other side may end its direction now.
func (s *state) takesEOF() bool {
	return s.closed && (s.finTold || s.fin != nil) || s.fin != nil && s.at.eofAsked
}

// mayData reports whether data may be written now: before the other side has
// said where it stands only a little, because it may have that already.
func (s *state) mayData() bool {
	return s.out.canSend() && (s.at.ready || s.at.ahead > 0 || s.confirmed && s.at.early < earlyData)
}

// endOf decides whether the circuit has ended, and why.
func (s *state) endOf() error {
	switch {
	case s.closed && s.closeWith != nil:
		return fmt.Errorf("%w: %w", ErrClosed, s.closeWith)
	case s.closed:
		return ErrClosed
	case s.hasAll():
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

// update changes the state, and settle decides what follows.
func (c *Circuit) update(change func(s *state)) {
	c.mu.Lock()
	change(&c.s)
	todo := c.settle(&c.s)
	c.mu.Unlock()
	c.carryOut(&todo)
}

// settle derives what follows from the state as it is. It only flips flags;
// what may take time is left to carryOut.
func (c *Circuit) settle(s *state) (todo after) {
	if s.cause == nil {
		if s.cause = s.endOf(); s.cause != nil {
			s.unacked, s.over, s.announce, s.poke = s.out.unacked(), time.Now(), true, true
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
		s.ended, todo.remove = true, s.owned
		c.cancel(s.cause) // here, so that who sees Reads closed finds the cause; it runs nobody's code
	}
	if s.cause != nil && !s.pumping && !s.chansShut && (s.closed || drained) {
		s.chansShut = true
		close(c.reads)
		close(c.errs)
	}
	if s.senders != nil && (s.sendErr() != nil || c.hasRoom(s, s.need)) {
		s.callSenders()
	}
	if s.in.len() > 0 && !s.pumping && s.iterating == 0 {
		c.startPump(s, &todo)
	}
	if s.poke && s.iterating > 0 {
		signal(c.arrived)
	}
	s.settleSleep(&todo)
	s.poke = false
	c.settleStall(s)
	if s.timer == nil && !s.released && (s.closed || s.hasAll()) {
		s.closeNews = s.received + s.out.acked
		s.timer = time.AfterFunc(lingerAfterClose, c.giveUp)
	}
	c.settleAttachment(s, &todo)
	s.eager = false
	c.settleWindow(s, &todo)
	c.settleWant(s, &todo)
	c.settleAcks(s, &todo)
	c.settleRelease(s, &todo)
	if s.announce && s.watchers != nil {
		close(s.watchers)
		s.watchers = nil
	}
	s.announce = false
	return todo
}

// settleAttachment decides about the flusher and the reader, and about another
// attachment.
func (c *Circuit) settleAttachment(s *state, todo *after) {
	todo.gone, s.gone = s.gone, nil
	a := s.at
	if a == nil {
		if todo.gone != nil && !s.lost {
			todo.keep = true
			todo.reattach = !c.accepted
		}
		return
	}
	if !a.reading {
		a.reading, todo.read = true, a
		s.readers++
	}
	work := len(a.handshake) > 0 || s.owesFin() || s.mayData() || s.wantsEOF()
	if !a.flushing && work {
		a.flushing, todo.flush = true, a
		s.flushers++
		if todo.direct = a.direct(s); todo.direct {
			todo.job = a.nextWrite(s)
		}
	}
	if s.keep {
		todo.keep, s.keep = true, false
	}
}

// An urgency says how soon the link acknowledges for a circuit.
type urgency uint8

const (
	noAck   urgency = iota
	ackSoon         // with the next batch, at most ackDelay from now
	ackAtOnce
)

// quarter is how much of a window is worth an acknowledgement; 0 would be due
// for ever.
func (s *state) quarter() uint64 { return max(1, uint64(s.inBooked/4)) }

// settleAcks decides whether to acknowledge, and how soon.
func (c *Circuit) settleAcks(s *state, todo *after) {
	if s.at == nil || !s.at.ready { // what is due by then is asked for then
		return
	}
	quarter := s.quarter()
	news := s.received - s.told
	last := s.hasAll()
	credit := int64(s.took + uint64(s.inBooked) - s.granted) // below 0 when the window has shrunk
	want := noAck
	switch {
	case news >= acksAtOnce, s.rcvCost-s.toldCost >= quarter, last && news > 0, !last && credit >= int64(quarter), s.owesWanted():
		want = ackAtOnce
	case news > 0:
		want = ackSoon
	}
	if want > s.asked {
		s.asked, todo.ask, todo.ack = want, want, s.at
	}
}

// grant returns the credit to give now, and counts what it says about received
// as told.
func (s *state) grant() (credit uint64) {
	s.asked = noAck
	s.told, s.toldCost = s.received, s.rcvCost
	s.granted = max(s.granted, s.took+uint64(s.inBooked))
	return s.granted
}

// settleRelease decides when the link may forget the circuit: when both
// directions of its stream have ended, by which each side knows that the other
// knows, or when it is lost.
func (c *Circuit) settleRelease(s *state, todo *after) {
	if !s.released && (s.lost || s.at != nil && s.at.readDone && s.at.eofSent) {
		s.released, todo.release, s.announce = true, true, true
		if s.closed && s.fin == nil {
			todo.dropped = s.out.unacked()
		}
		todo.freeOut += s.outBooked
		s.outBooked = 0
		if s.at != nil {
			s.at.decided() // a side may end its direction without an answer
			s.at.over, s.at.clean = true, true
			todo.gone, s.at = s.at, nil
		}
		for _, t := range []*time.Timer{s.timer, s.retry} {
			if t != nil {
				t.Stop()
			}
		}
	}
	if s.acks != nil && (s.released || !s.closed && s.sendErr() != nil || s.fin != nil || s.out.acked > s.acksFrom) {
		close(s.acks)
		s.acks = nil
	}
	if todo.remove || todo.release {
		s.telling++ // or the link would be done with it, and Wait return, before they know
	}
	if s.released && s.chansShut && s.flushers+s.readers+s.telling == 0 && !s.pumping && !s.finished {
		s.finished, todo.finish = true, true
		todo.freeIn += s.inBooked
		s.inBooked = 0
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
