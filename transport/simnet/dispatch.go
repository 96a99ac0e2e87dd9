package simnet

import (
	"cmp"
	"container/heap"
	"net/netip"
	"slices"
	"time"
)

// A flight is a packet on its way. It does not change until it lands.
type flight struct {
	sent, due time.Duration
	sender    *Host
	lane      *lane
	serial    uint64         // orders the lane's flights that are due together
	from, to  netip.AddrPort // as they are on the lane
	payload   []byte         // shared with the packet's other copy, and never written to
	damaged   bool
}

// maxLanded is how many flights are kept for reuse.
const maxLanded = 1024

// compare orders flights by arrival. No two flights are equal, so the order
// of deliveries does not depend on the order of the sends.
func (f *flight) compare(g *flight) int {
	return cmp.Or(
		cmp.Compare(f.due, g.due),
		f.lane.From.Compare(g.lane.From),
		f.lane.To.Compare(g.lane.To),
		cmp.Compare(f.lane.area.number, g.lane.area.number),
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
func (n *Network) launch(plan flight) {
	var f *flight
	if last := len(n.landed) - 1; last >= 0 {
		f, n.landed = n.landed[last], n.landed[:last]
	} else {
		f = new(flight)
	}
	*f = plan
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

// ground drops the flights that match. The caller holds n.mu.
func (n *Network) ground(fate Fate, match func(*flight) bool) {
	var kept, lost flights
	for _, f := range n.flights {
		if match(f) {
			lost = append(lost, f)
		} else {
			kept = append(kept, f)
		}
	}
	heap.Init(&kept)
	n.flights = kept
	slices.SortFunc(lost, (*flight).compare) // for the trace
	for _, f := range lost {
		n.land(f, fate)
	}
}

// land ends a flight, and may use its memory for another one from then on. The
// caller holds n.mu.
func (n *Network) land(f *flight, fate Fate) {
	f.lane.count.InFlight--
	n.settle(f, fate)
	if *f = (flight{}); len(n.landed) < maxLanded {
		n.landed = append(n.landed, f)
	}
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
