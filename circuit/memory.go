package circuit

import (
	"ckt.local/transport/limit"
)

// bookStart books what a new circuit has for certain: what the other side may
// send before this one has said more, and room for as much to it.
func (l *Link) bookStart() error {
	g, n := l.cfg.Ledger, int64(l.cfg.limits.Start)
	if _, err := g.Acquire(limit.Inbox, l.account, n); err != nil {
		return err
	}
	if _, err := g.Acquire(limit.Replay, l.account, n); err != nil {
		g.Release(limit.Inbox, l.account, n)
		return err
	}
	return nil
}

// giveBack returns memory to the account. It may wake other circuits, so it is
// called with no mutex held.
func (c *Circuit) giveBack(in, out int) {
	g := c.link.cfg.Ledger
	g.Release(limit.Inbox, c.link.account, int64(in))
	g.Release(limit.Replay, c.link.account, int64(out))
}

// leaveQueues ends the waiting for memory of a circuit that needs none any
// more.
func (c *Circuit) leaveQueues() {
	for _, w := range []*limit.Waiter{c.inWaiter, c.outWaiter} {
		if w != nil {
			c.link.cfg.Ledger.Leave(w)
		}
	}
}

// book takes need bytes, or up to want if there are so many, and returns how
// many. Without success the circuit is looked at again once others have given
// memory back; until then scarce is what it needed, and no less than that is
// asked for again.
func (c *Circuit) book(r limit.Resource, w **limit.Waiter, scarce *int, need, want int) int {
	if *scarce > 0 && need >= *scarce {
		return 0
	}
	g := c.link.cfg.Ledger
	n := g.Take(r, c.link.account, int64(need), int64(want))
	if n == 0 {
		if *w == nil {
			*w = limit.NewWaiter(r, c.link.account, func() { c.update(func(*state) { *scarce = 0 }) })
		}
		*scarce = need
		g.Wait(*w, int64(need))
		n = g.Take(r, c.link.account, int64(need), int64(want)) // it may have come just before Wait
	}
	if n > 0 && *scarce > 0 {
		g.Leave(*w)
		*scarce = 0
	}
	return int(n)
}

func (c *Circuit) bookIn(s *state, need, want int) bool {
	n := c.book(limit.Inbox, &c.inWaiter, &s.inScarce, need, want)
	s.inBooked += n
	return n > 0
}

func (c *Circuit) bookOut(s *state, need, want int) bool {
	n := c.book(limit.Replay, &c.outWaiter, &s.outScarce, need, want)
	s.outBooked += n
	return n > 0
}
