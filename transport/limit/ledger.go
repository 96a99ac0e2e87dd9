package limit

import (
	"bytes"
	"sync"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// A Resource is something that there is a bound on how much of it is used at
// a time.
type Resource uint8

// The resources. Those that have no key to count under yet are booked for the
// zero NodeID, and then count in all only.
const (
	Handshakes Resource = iota // QUIC handshakes of others that have not ended
	Conns                      // open connections
	Receive                    // bytes of QUIC windows beyond the first
	Circuits                   // circuits that others have opened here
	Inbox                      // bytes that may wait to be read
	Replay                     // bytes that are not acknowledged
	Peers                      // peers that others have started here
	resources
)

// A Rate is something that there is a bound on how often a node may ask for it
// in a second.
type Rate uint8

// The rates.
const (
	Hellos Rate = iota // new connections
	Opens              // openings of circuits
	Starts             // starts of peers
	rates
)

// String returns the resource's name, as in a [transport.LimitError] and in
// a list of limits.
func (r Resource) String() string {
	return [resources]string{"handshakes", "connections", "receive bytes", "circuits", "inbox bytes", "replay bytes", "started peers"}[r]
}

// bytes reports whether it is memory.
func (r Resource) bytes() bool { return r == Receive || r == Inbox || r == Replay }

// String returns the name of what there is a rate of.
func (r Rate) String() string {
	return [rates]string{"connections", "openings", "starts"}[r] + " per second"
}

const perNode = " of one node"

// A Ledger counts what other nodes use of this one. Its methods may be called
// from any goroutine, decide at once and never wait.
type Ledger struct {
	limits Limits

	mu      sync.Mutex // guards what follows, and is never held across a wait or a call to others
	all     [resources]account
	rates   [rates]struct{ most, refused int64 }
	nodes   map[identity.NodeID]*tab
	sweepAt int // so many nodes, and those that use nothing are looked for
	queues  [resources]queue
	waits   uint64 // how many Waits there were
}

// An account is one resource: what is used, how much that may be, and what
// one node may use of it.
type account struct {
	used, most, each, refused int64
}

// A tab is what one node uses.
type tab struct {
	used  [resources]int64
	rates [rates]bucket
}

// A bucket holds what is left of a rate: it fills evenly, up to a second's
// worth. Less than nothing is what has been promised by Pace.
type bucket struct {
	left float64
	at   time.Time // when left was right; zero: never used, and full
}

// NewLedger returns an empty account with these bounds.
func NewLedger(l Limits) *Ledger {
	l = l.WithDefaults()
	g := &Ledger{limits: l, nodes: make(map[identity.NodeID]*tab), sweepAt: minSweep}
	t, c, p := l.Transport, l.Circuit, l.Peer
	for r, b := range [resources][2]int64{
		Handshakes: {int64(t.Handshakes), int64(t.Handshakes)},
		Conns:      {int64(t.Conns), int64(t.ConnsPerNode)},
		Receive:    {t.Receive, t.ReceivePerNode},
		Circuits:   {int64(c.Circuits), int64(c.CircuitsPerNode)},
		Inbox:      {c.Inbox, c.InboxPerNode},
		Replay:     {c.Replay, c.ReplayPerNode},
		Peers:      {int64(p.Started), int64(p.StartedPerNode)},
	} {
		g.all[r].most, g.all[r].each = b[0], min(b[0], b[1])
	}
	for r, n := range [rates]int{Hellos: t.ConnsPerSecond, Opens: c.OpensPerSecond, Starts: p.StartsPerSecond} {
		g.rates[r].most = int64(n)
	}
	return g
}

// Limits returns the bounds, with the defaults filled in.
func (g *Ledger) Limits() Limits { return g.limits }

// Acquire books n of a resource for a node, to be given back with Release, and
// returns how much the node has then; or books nothing and returns a
// [transport.LimitError]. The last eighth of a bound on bytes in all is for
// nodes that use less than a 64th of it, if others may not use all of it.
func (g *Ledger) Acquire(r Resource, node identity.NodeID, n int64) (used int64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, t := &g.all[r], g.tab(node)
	switch {
	case t != nil && n > a.each-t.used[r]:
		a.refused++
		return t.used[r], &transport.LimitError{What: r.String() + perNode, Limit: a.each}
	case n > g.left(r, t, 0):
		a.refused++
		return 0, &transport.LimitError{What: r.String(), Limit: a.most}
	}
	return g.book(r, t, n), nil
}

// Force books n of a resource beyond all bounds, for what cannot be refused.
func (g *Ledger) Force(r Resource, node identity.NodeID, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.book(r, g.tab(node), n)
}

func (g *Ledger) book(r Resource, t *tab, n int64) (used int64) {
	g.all[r].used += n
	if t == nil {
		return 0
	}
	t.used[r] += n
	return t.used[r]
}

const (
	// share is which part of what is free one call of Take gets beyond what it
	// needs: so there is always something left for the next, and the more of
	// them there are the less each has.
	share = 4

	// reserve is which part of a bound Take leaves for Acquire, so that those
	// who grow do not keep others from beginning.
	reserve = 8

	// modest is which part of a bound on bytes in all a node may use to find
	// room in that reserve: a few nodes at their own bound do not keep the
	// others from what little they need.
	modest = 64
)

// left is how much of a resource in all there is for a node, besides a part
// that is to be kept for others.
func (g *Ledger) left(r Resource, t *tab, kept int64) int64 {
	a := &g.all[r]
	if t == nil || !r.bytes() || a.each > a.most-a.most/reserve {
		return a.most - kept - a.used
	}
	return max(a.most-a.most/reserve-a.used, min(a.most-kept/2-a.used, a.most/modest-t.used[r]))
}

// Take books at least need and at most want of a resource for a node, and
// returns how much; 0 if there is not so much. It leaves an eighth of each
// bound to Acquire (of that on all, a sixteenth, for a node that uses less than
// a 64th), and what goes beyond need is at most a quarter of the rest that is
// free.
func (g *Ledger) Take(r Resource, node identity.NodeID, need, want int64) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tab(node)
	free := g.free(r, t)
	n := max(need, min(want, free/share))
	if n <= 0 || n > free {
		g.all[r].refused++
		return 0
	}
	g.book(r, t, n)
	return n
}

// free is what Take finds for a node.
func (g *Ledger) free(r Resource, t *tab) int64 {
	a := &g.all[r]
	free := g.left(r, t, a.most/reserve)
	if t != nil {
		free = min(free, a.each-a.each/reserve-t.used[r])
	}
	return free
}

// Release gives back n of a resource, and wakes who has waited for it: no
// mutex may be held that a Waiter's wake takes.
func (g *Ledger) Release(r Resource, node identity.NodeID, n int64) {
	if n == 0 {
		return
	}
	g.mu.Lock()
	g.book(r, g.tab(node), -n)
	g.mu.Unlock()
	g.serve(r)
}

// Allow reports whether a node may do once more what there is a rate of, and
// counts it; if not, the error is a [transport.LimitError].
func (g *Ledger) Allow(r Rate, node identity.NodeID) error {
	_, err := g.spend(r, node, 0)
	return err
}

// Pace is Allow for what can wait: it counts it also if it has to wait for
// that long, which is a second at most.
func (g *Ledger) Pace(r Rate, node identity.NodeID) (wait time.Duration, err error) {
	return g.spend(r, node, 1)
}

// spend takes one from a bucket, which may come to owe so many seconds' worth,
// and returns how long it takes to make that up.
func (g *Ledger) spend(r Rate, node identity.NodeID, debt float64) (wait time.Duration, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	most := g.rates[r].most
	if most == int64(unbounded[int]()) {
		return 0, nil
	}
	t := g.tab(node)
	if t == nil {
		return 0, nil
	}
	b, rate, now := &t.rates[r], float64(most), time.Now()
	b.left, b.at = b.filled(rate, now), now
	if b.left < 1-debt*rate {
		g.rates[r].refused++
		return 0, &transport.LimitError{What: r.String() + perNode, Limit: most}
	}
	b.left--
	return time.Duration(max(0, -b.left) / rate * float64(time.Second)), nil
}

// filled returns what is left at now.
func (b *bucket) filled(rate float64, now time.Time) float64 {
	if b.at.IsZero() {
		return rate
	}
	return min(rate, b.left+rate*now.Sub(b.at).Seconds())
}

// minSweep is how many nodes are kept without looking for those to forget.
const minSweep = 256

// tab returns what a node uses, nil for the zero NodeID.
func (g *Ledger) tab(node identity.NodeID) *tab {
	if node.IsZero() {
		return nil
	}
	t := g.nodes[node]
	if t == nil {
		if len(g.nodes) >= g.sweepAt {
			g.sweep(time.Now())
		}
		t = new(tab)
		g.nodes[node] = t
	}
	return t
}

// sweep forgets the nodes that use nothing and have asked for nothing of late.
// It is due when their number has doubled, so that it costs little.
func (g *Ledger) sweep(now time.Time) {
	for id, t := range g.nodes {
		idle := t.used == [resources]int64{}
		for r := range t.rates {
			// Pace lets it be more than a second until it is full again.
			idle = idle && t.rates[r].filled(float64(g.rates[r].most), now) >= float64(g.rates[r].most)
		}
		if idle {
			delete(g.nodes, id)
		}
	}
	g.sweepAt = max(minSweep, 2*len(g.nodes))
}

// A Use is one row of an account: how much of a resource is used, against
// which bound, and by whom most.
type Use struct {
	What    string
	Used    int64
	Limit   int64
	Top     identity.NodeID // who uses most; zero: nobody
	TopUsed int64
	PerNode int64 // the bound on that
	Refused int64 // how often either bound has refused since the beginning
}

// Uses returns a row for each resource and each rate, in a fixed order. A rate
// has its bound in PerNode, and nothing in Used and Limit.
func (g *Ledger) Uses() []Use {
	g.mu.Lock()
	defer g.mu.Unlock()
	var rows []Use
	for r := range resources {
		a := g.all[r]
		rows = append(rows, Use{What: r.String(), Used: a.used, Limit: a.most, PerNode: a.each, Refused: a.refused})
	}
	for r := range rates {
		rows = append(rows, Use{What: r.String(), PerNode: g.rates[r].most, Refused: g.rates[r].refused})
	}
	now := time.Now()
	for id, t := range g.nodes {
		for r := range resources {
			rows[r].top(id, t.used[r])
		}
		// Looking is not asking: the bucket stays as it is, or a node that is
		// only looked at would never be forgotten.
		for r := range rates {
			if most := g.rates[r].most; !t.rates[r].at.IsZero() {
				rows[int(resources)+int(r)].top(id, most-int64(t.rates[r].filled(float64(most), now)))
			}
		}
	}
	return rows
}

// top keeps the one that uses most; of several the same one each time.
func (u *Use) top(id identity.NodeID, used int64) {
	if used > u.TopUsed || used > 0 && used == u.TopUsed && bytes.Compare(id[:], u.Top[:]) < 0 {
		u.Top, u.TopUsed = id, used
	}
}
