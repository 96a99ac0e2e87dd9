package simnet

import (
	"cmp"
	"container/heap"
	"net/netip"
	"time"
)

// A flight is a packet on its way. It does not change once launched.
type flight struct {
	due      time.Duration
	lane     *lane
	serial   uint64 // orders the lane's flights that are due together
	from, to netip.AddrPort
	payload  []byte // shared with the packet's other copy, and never written to
}

// compare orders flights by arrival. No two flights are equal, so the order
// of deliveries does not depend on the order of the sends.
func (f *flight) compare(g *flight) int {
	return cmp.Or(
		cmp.Compare(f.due, g.due),
		f.lane.From.Compare(g.lane.From),
		f.lane.To.Compare(g.lane.To),
		cmp.Compare(f.serial, g.serial),
	)
}

// flights is a heap, the next arrival first. Network.mu guards it.
type flights []*flight

// Len, Less, Swap, Push and Pop are those of [heap.Interface].
func (q flights) Len() int           { return len(q) }
func (q flights) Less(i, j int) bool { return q[i].compare(q[j]) < 0 }
func (q flights) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *flights) Push(x any)        { *q = append(*q, x.(*flight)) }
func (q *flights) Pop() any {
	last := len(*q) - 1
	f := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return f
}

// launch sends a flight off. The caller holds n.mu.
func (n *Network) launch(f *flight) {
	f.lane.count.InFlight++
	heap.Push(&n.flights, f)
	if n.flights[0] != f {
		return // the dispatcher wakes earlier than that
	}
	select {
	case n.wake <- struct{}{}:
	default: // it has been told already
	}
}

// ground drops the flights that match, and counts them. The caller holds n.mu.
func (n *Network) ground(match func(*flight) bool, count func(*Drops)) {
	var kept flights
	for _, f := range n.flights {
		if !match(f) {
			kept = append(kept, f)
			continue
		}
		f.lane.count.InFlight--
		count(&f.lane.count.Dropped)
	}
	heap.Init(&kept)
	n.flights = kept
}

// dispatch delivers packets until the network is closed.
func (n *Network) dispatch() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if wait, ok := n.deliver(); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-n.quit:
			return
		case <-n.wake:
		case <-timer.C:
		}
	}
}

// deliver hands over all that is due and returns the time until the next
// arrival, or false if nothing is in flight.
func (n *Network) deliver() (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	for len(n.flights) > 0 {
		if wait := n.flights[0].due - now; wait > 0 {
			return wait, true
		}
		n.arrive(heap.Pop(&n.flights).(*flight))
	}
	return 0, false
}
