package circuit

import (
	"time"

	"ckt.local/transport/limit"
)

// idleTicks is for how many calls of keep, one a second, a circuit sends
// nothing before it gives up what it has beyond limit.Circuit.Start.
const idleTicks = 5

// onWant learns that the other side waits for credit. at is what it has sent,
// next what the next fragment takes that to, upto what all that it has takes
// it to; each in the sum of costs.
func (a *attachment) onWant(w *wireWant) (err error) {
	c := a.c
	c.update(func(s *state) {
		switch longest := uint64(longestCost(c.link.cfg.limits.Payload)); {
		case s.at != a || w.Upto <= s.granted: // or it has been given meanwhile
		case w.At > s.granted || w.Next <= w.At || w.Next-w.At > longest || w.Upto < w.Next:
			err = faultf("wants credit from %d to %d and %d, and has %d", w.At, w.Next, w.Upto, s.granted)
		default:
			s.want = *w
		}
	})
	return err
}

// longestCost is the most that a fragment can cost.
func longestCost(payload int) int {
	return frameCost(payload+maxDataOverhead, maxArgs)
}

// settleWindow gives the other side the memory that it waits for: a window's
// worth, and beyond that what the fragment needs that is the first to exceed
// it.
func (c *Circuit) settleWindow(s *state, todo *after) {
	if s.arrivedAll() || s.released {
		todo.freeIn += s.keepIn(0)
		return
	}
	if over := s.inBooked - s.window; over > 0 {
		// The fragment that needed more is through, unless it is still wanted.
		todo.freeIn += s.keepIn(max(s.window, int(int64(s.want.Next-s.took))))
	}
	w := &s.want
	if w.Upto == 0 || int64(w.At-s.took) >= int64(s.window) {
		return
	}
	need := int(int64(w.Next-s.took)) - s.inBooked
	most := min(max(int(int64(w.Upto-s.took)), 4*s.inBooked), s.window) - s.inBooked
	switch {
	case need > 0:
		c.bookIn(s, need, most)
	case w.Upto > w.Next && most > 0: // it may go on, and has more: once for each want
		w.Upto = w.Next
		// Less than a quarter would not be told, and so never be given back.
		s.inBooked += int(c.link.cfg.Ledger.Take(limit.Inbox, c.link.account, int64(min(most, s.inBooked/4)), int64(most)))
	}
}

// owesWanted reports whether the other side waits for credit that there is,
// and might not be told of it for something else: all that it has sent is
// here, and Reads is empty. (While that is read, credit comes by the quarter,
// and not for each small fragment. Errors may be left unread for ever.)
func (s *state) owesWanted() bool {
	return s.want.Next > s.granted && s.took+uint64(s.inBooked) >= s.want.Next &&
		s.in.reads.n == 0 && s.rcvCost >= s.want.At
}

// keepIn keeps n of what is booked, and what may still come or is unread, and
// returns how much is to be given back.
func (s *state) keepIn(n int) (free int) {
	used := s.granted
	if s.arrivedAll() || s.released {
		used = s.rcvCost
	}
	free = max(0, s.inBooked-max(n, int(used-s.took)))
	s.inBooked -= free
	return free
}

// growInbox gives the sender a larger window when it is the window that holds
// it up: a good part of one comes within a round trip, while the reader here
// keeps up. It looks each time that half a window has come.
func (c *Circuit) growInbox(s *state, cost int) {
	if s.rcvCost-s.paceCost < uint64(s.window/2) {
		return
	}
	now := time.Now()
	took := now.Sub(s.paceAt)
	s.paceCost, s.paceAt = s.rcvCost, now
	rtt, known := s.at.car.control.leastRTT()
	switch {
	case !known:
		s.at.car.control.ping()
	case took < rtt && s.rcvCost-s.took <= uint64(cost+s.window/4):
		before := s.inBooked
		if more := c.growth(s.window); more > 0 && c.bookIn(s, min(more, s.inBooked/4), more) {
			s.window += s.inBooked - before
			s.keep = true
		}
	}
}

// growth is how much a window of a size may grow at once.
func (c *Circuit) growth(size int) int {
	return min(size, c.link.cfg.limits.MaxWindow-size)
}

// hasRoom reports whether the outbox takes a fragment that costs need, and
// books the memory. The window is for what is there before it.
func (c *Circuit) hasRoom(s *state, need int) bool {
	if s.out.cost >= s.most && !c.growOutbox(s) {
		return false
	}
	least := s.out.cost + need - s.outBooked
	if least <= 0 {
		return true
	}
	s.keep = true
	return c.bookOut(s, least, min(s.most, 2*s.outBooked)-s.outBooked)
}

// growOutbox makes room for more that is sent and not acknowledged, when it is
// the room for that which holds the sender up: little waits to be written, and
// the other side would take more.
func (c *Circuit) growOutbox(s *state) bool {
	if s.at == nil || s.out.unsentCost() > s.most/4 || s.out.unsent() && !s.out.canSend() {
		return false
	}
	before := s.outBooked
	if more := c.growth(s.most); more <= 0 || !c.bookOut(s, 1, more) {
		return false
	}
	s.most += s.outBooked - before
	s.keep = true
	return true
}

// settleWant decides whether to tell the other side that this one waits for
// credit.
func (c *Circuit) settleWant(s *state, todo *after) {
	if s.at != nil && s.at.ready && !s.wantDue && s.out.unsent() && !s.out.canSend() && s.out.next() > s.wantTold {
		s.wantDue, todo.want = true, s.at
	}
}

// appendWant appends what the circuit waits for by now, if it does.
func (a *attachment) appendWant(buf []byte) []byte {
	var w wireWant
	a.c.update(func(s *state) {
		if s.at != a {
			return
		}
		if s.wantDue = false; s.out.unsent() && !s.out.canSend() {
			s.wantTold = s.out.next()
			w = wireWant{
				Stream: a.stream.ID(), At: s.out.sentCost, Next: s.wantTold,
				Upto: s.out.sentCost + uint64(s.out.unsentCost()),
			}
		}
	})
	if w.Next == 0 {
		return buf
	}
	return appendSmall(buf, frameWant, &w)
}

// rich reports whether the circuit has more credit than an idle one needs.
func (c *Circuit) rich(s *state) bool {
	return s.out.credit > s.out.sentCost+c.link.remote.Window
}

// keep is called every second while the link has something to look after. It
// ends the circuit if it has lingered long enough, gives back credit that it
// does not use, and reports whether it is to be called again for it.
func (c *Circuit) keep(now time.Time, linger time.Duration, tried error) (again bool) {
	var expired error
	free := 0
	c.update(func(s *state) {
		if s.released {
			return
		}
		if s.at == nil && !s.since.IsZero() {
			if now.Sub(s.since) >= linger {
				expired = &lingerError{linger, s.lostBy, tried}
			}
			again = true
			return
		}
		rich, start := c.rich(s), c.link.cfg.limits.Start
		if again = rich || s.outBooked > start || s.window > c.link.cfg.limits.Window; !again {
			return
		}
		// Who waits for more credit has no use for what is too little either, and
		// others may wait for that: two that each keep some would wait for ever.
		if s.out.sent != s.keptSent || s.out.acked < s.out.sent || s.out.canSend() {
			s.keptSent, s.idle = s.out.sent, 0
			return
		}
		if s.idle++; s.idle < idleTicks || s.at == nil || !s.at.ready {
			return
		}
		if s.out.unacked() == 0 {
			free = s.outBooked - max(start, s.out.cost)
			s.most, s.outBooked = c.link.cfg.limits.Window, s.outBooked-free
		}
		if rich {
			yield := wireYield{Stream: s.at.stream.ID(), From: s.out.credit, To: s.out.sentCost + c.link.remote.Window}
			s.out.credit = yield.To
			s.wantTold = 0 // what waits is wanted anew
			// Here, so that it goes before a want for what is yielded.
			s.at.car.control.say(func(buf []byte) []byte { return appendSmall(buf, frameYield, &yield) })
		}
	})
	c.giveBack(0, free)
	if expired != nil {
		c.lose(expired)
	}
	return again
}

// onYield takes credit back. The sender has promised to send no more than To
// allows; if more was given meanwhile, it does not count.
func (a *attachment) onYield(y *wireYield) (err error) {
	c, free := a.c, 0
	c.update(func(s *state) {
		switch {
		case s.at != a || y.From != s.granted:
		case y.To > y.From || y.To < s.rcvCost:
			err = faultf("yields credit from %d to %d, having sent %d", y.From, y.To, s.rcvCost)
		default:
			s.granted, s.window = y.To, max(c.link.cfg.limits.Window, int(y.To-s.took))
			free = s.keepIn(c.link.cfg.limits.Start) // what may still come stays booked
		}
	})
	c.giveBack(free, 0)
	return err
}
