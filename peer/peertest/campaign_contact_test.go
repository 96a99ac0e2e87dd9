package peertest_test

import (
	"context"
	"slices"
	"time"
)

// What is promised of a network that works again, in simulated time.
const (
	healLimit = 6 * time.Second  // the first fragment after a cut
	moveLimit = 10 * time.Second // after one side has got another address
)

// A pair is two hosts, the one with the smaller number first.
type pair struct{ a, b int }

func pairOf(i, j int) pair { return pair{min(i, j), max(i, j)} }

// A span is a time in which two hosts can talk as on a calm day.
type span struct{ from, to time.Duration }

// A contact is what two hosts have with one another. The goroutine of the run
// changes it.
type contact struct {
	w     *world
	pair  pair
	cuts  [2]int        // that hold now, from a to b and back
	bad   []fault       // bad links that hold now; the last one counts
	limit time.Duration // that a move has raised, until a span was as long as that

	clean   bool // guarded by world.mu, as are the spans
	since   time.Duration
	spans   []span
	unprobe context.CancelFunc
}

// update changes the contact and works out what follows.
func (c *contact) update(change func()) {
	change()
	a, b := c.w.hosts[c.pair.a], c.w.hosts[c.pair.b]
	for i, cut := range c.cuts {
		from, to := a.SimHost, b.SimHost
		if i == 1 {
			from, to = to, from
		}
		if cut > 0 {
			c.w.sim.Cut(from, to)
		} else {
			c.w.sim.Heal(from, to)
		}
		if n := len(c.bad); n > 0 {
			c.w.sim.Network.SetLink(from.Addr(), to.Addr(), c.bad[n-1].link)
		} else {
			c.w.sim.Network.ResetLink(from.Addr(), to.Addr())
		}
	}
	c.setClean(c.cuts == [2]int{} && len(c.bad) == 0 && a.life != nil && b.life != nil)
}

// improve ends a bad link. What waits in its queues is lost: else the good one
// would have to wait for that.
func (c *contact) improve(f fault) {
	c.bad = slices.DeleteFunc(c.bad, func(b fault) bool { return b == f })
	a, b := c.w.hosts[c.pair.a].SimHost, c.w.hosts[c.pair.b].SimHost
	c.w.sim.Partition(a, b)
	c.w.sim.Rejoin(a, b)
}

func (c *contact) setClean(clean bool) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if clean == c.clean {
		return
	}
	now := c.w.now()
	c.clean = clean
	if !clean {
		if now-c.since >= c.limit {
			c.limit = 0
		}
		c.spans = append(c.spans, span{c.since, now})
		c.unprobe()
		return
	}
	c.since = now
	ctx, cancel := context.WithCancel(c.w.ctx)
	c.unprobe = cancel
	limit := max(c.limit, healLimit)
	c.w.probes.Go(func() { c.probe(ctx, limit) })
}

// interrupt ends a span and begins the next one, because one of the two has
// another address now.
func (c *contact) interrupt() {
	was := c.clean
	c.setClean(false)
	c.limit = moveLimit
	c.setClean(was)
}

// longest returns the longest time between from and to in which the two could
// talk.
func (c *contact) longest(from, to time.Duration) time.Duration {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	spans := slices.Clone(c.spans)
	if c.clean {
		spans = append(spans, span{c.since, c.w.now()})
	}
	var most time.Duration
	for _, s := range spans {
		most = max(most, min(s.to, to)-max(s.from, from))
	}
	return most
}

// A hope is a direction of a circuit in which something has not arrived.
type hope struct {
	from, to *end
	had      int64 // what had arrived when the two could talk again
}

// probe holds the network's mending to its limit: what waits must get on.
// After that it notes from time to time what must have been acknowledged.
func (c *contact) probe(ctx context.Context, limit time.Duration) {
	began := c.w.now()
	if !sleep(ctx, 2*time.Millisecond+time.Microsecond) { // what is sent because of the mending is meant too
		return
	}
	hopes := c.hopes()
	for len(hopes) > 0 {
		if !sleep(ctx, 20*time.Millisecond+time.Microsecond) {
			return
		}
		before := len(hopes)
		hopes = slices.DeleteFunc(hopes, hope.fulfilled)
		lag := c.w.now() - began
		if len(hopes) < before {
			c.w.count(func(s *summary) { s.healed(lag, limit) })
		}
		if lag > limit && len(hopes) > 0 {
			for _, h := range hopes {
				c.w.failf("%v: nothing has arrived within %v of the network's mending: %v", h.to, limit, h.stats())
			}
			return
		}
	}
	if sleep(ctx, limit) {
		c.raiseFloors(ctx)
	}
}

// hopes returns what waits to arrive, and could: not where the reader holds it
// up, nor where a fragment may take longer than the limit by its size.
func (c *contact) hopes() []hope {
	if c.w.plan.circuit.NoResume {
		return nil
	}
	var hopes []hope
	for _, h := range c.flows() {
		from, to := h.from.c.Stats(), h.to.c.Stats()
		if plan := h.from.known(); plan == nil || plan.flows[h.from.side].size == large {
			continue
		}
		if from.FragmentsSent > to.FragmentsRcv && to.Unread == 0 {
			h.had = to.FragmentsRcv
			hopes = append(hopes, h)
		}
	}
	return hopes
}

// flows returns the directions of all circuits between the two hosts that
// nobody has closed.
func (c *contact) flows() []hope {
	var flows []hope
	for _, m := range c.w.all() {
		o, a := m.end(0), m.end(1)
		if o == nil || a == nil || pairOf(o.life.host, a.life.host) != c.pair {
			continue
		}
		if o.open() && a.open() {
			flows = append(flows, hope{from: o, to: a}, hope{from: a, to: o})
		}
	}
	return flows
}

// fulfilled reports whether there is nothing more to hope for.
func (h hope) fulfilled() bool {
	return !h.from.open() || !h.to.open() || h.to.c.Stats().FragmentsRcv > h.had
}

func (h hope) stats() string {
	return h.from.String() + " " + statsText(h.from.c) + ", " + h.to.String() + " " + statsText(h.to.c)
}

// raiseFloors notes what must have been acknowledged: what had arrived two
// seconds ago, when the two had talked for long.
func (c *contact) raiseFloors(ctx context.Context) {
	type seen struct {
		hope
		rcv int64
	}
	for {
		var arrived []seen
		for _, h := range c.flows() {
			arrived = append(arrived, seen{h, h.to.c.Stats().FragmentsRcv})
		}
		if !sleep(ctx, 2*time.Second+time.Microsecond) {
			return
		}
		for _, s := range arrived {
			s.from.mu.Lock()
			s.from.floor = max(s.from.floor, s.rcv)
			s.from.mu.Unlock()
		}
	}
}

// sleep reports false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
