package circuit

import (
	"time"
)

// idleTicks is for how many calls of keep, one a second, a circuit sends
// nothing before it gives up what its windows have grown.
const idleTicks = 5

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
		s.window += c.grow(s, s.window)
	}
}

// growOutbox makes room for more that is sent and not acknowledged, when it is
// the room for that which holds the sender up: little waits to be written, and
// the other side would take more. It reports whether there is room now.
func (c *Circuit) growOutbox(s *state) bool {
	if s.at == nil || s.out.unsentCost() > s.most/4 || s.out.sentCost >= s.out.credit {
		return false
	}
	s.most += c.grow(s, s.most)
	return s.out.cost < s.most
}

// grow returns how much a window of a size may grow now.
func (c *Circuit) grow(s *state, size int) int {
	more := min(size, c.link.cfg.limits.MaxWindow-size)
	if more <= 0 || !c.link.hub.reserve(more) {
		return 0
	}
	s.grown += more
	s.keep = true
	return more
}

// shrink gives back what a window has grown over a size, or over its first.
func (c *Circuit) shrink(s *state, window *int, size int) {
	more := *window - max(size, c.link.cfg.limits.Window)
	if more <= 0 {
		return
	}
	*window -= more
	s.grown -= more
	c.link.hub.release(more)
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
	var at *attachment
	var yield wireYield
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
		base := c.link.cfg.limits.Window
		rich := c.rich(s)
		if again = rich || s.most > base || s.window > base; !again {
			return
		}
		if s.out.last != s.keptLast || s.out.unacked() > 0 {
			s.keptLast, s.idle = s.out.last, 0
			return
		}
		if s.idle++; s.idle < idleTicks || s.at == nil || !s.at.ready {
			return
		}
		c.shrink(s, &s.most, 0)
		if rich {
			at = s.at
			yield = wireYield{Stream: at.stream.ID(), From: s.out.credit, To: s.out.sentCost + c.link.remote.Window}
			s.out.credit = yield.To
		}
	})
	if expired != nil {
		c.lose(expired)
	}
	if at != nil {
		at.car.control.say(func(buf []byte) []byte { return appendSmall(buf, frameYield, &yield) })
	}
	return again
}

// onYield takes credit back. The sender has promised to send no more than To
// allows; if more was given meanwhile, it does not count.
func (a *attachment) onYield(y *wireYield) (err error) {
	c := a.c
	c.update(func(s *state) {
		switch {
		case s.at != a || y.From != s.granted:
		case y.To > y.From || y.To < s.rcvCost:
			err = faultf("yields credit from %d to %d, having sent %d", y.From, y.To, s.rcvCost)
		default:
			s.granted = y.To
			c.shrink(s, &s.window, int(s.granted-s.took)) // what may still come stays reserved
		}
	})
	return err
}
