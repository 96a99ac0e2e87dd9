package simnet

import (
	"net/netip"
	"time"
)

// DefaultQueue is the queue of a [Link] whose Bandwidth is limited and whose
// Queue is zero, in bytes: what a small router buffers.
const DefaultQueue = 256 << 10

// A Link says what happens to packets in one [Direction]. The zero Link is
// perfect: it delivers everything, at once and in order. Sizes are those of the
// UDP payload; headers are not counted.
//
// A packet passes the fields in this order: MTU, Queue and Bandwidth, Loss,
// Burst, Duplicate, and then, each copy for itself, Corrupt, Latency, Jitter and
// Reorder. So a lost packet has used bandwidth, and a duplicate has not.
type Link struct {
	// Latency is how long a packet takes once its last byte has left.
	Latency time.Duration

	// Jitter is the most that is added to Latency; each packet takes a
	// uniform share of it. Packets overtake one another where their gap is
	// shorter than the difference.
	Jitter time.Duration

	// Reorder is the probability that a packet is held back by ReorderDelay,
	// so that those behind it overtake it.
	Reorder      float64
	ReorderDelay time.Duration

	// Loss is the probability that a packet is lost on the way, by itself.
	Loss float64

	// Burst loses packets that follow one another.
	Burst Burst

	// Duplicate is the probability that a packet arrives twice.
	Duplicate float64

	// Corrupt is the probability that a packet arrives with one to eight
	// flipped bits, all in the same byte.
	Corrupt float64

	// Bandwidth is the number of bytes that leave in a second. Zero and less
	// stand for no limit.
	Bandwidth int64

	// Queue is how many bytes may wait while others leave; a packet that
	// finds no room is dropped. Zero stands for [DefaultQueue], less for no
	// bound. A queue of one byte holds nothing: only an idle link takes a
	// packet then.
	Queue int

	// MTU is the size of the largest packet that passes; larger ones are
	// dropped silently. Zero and less stand for no limit.
	MTU int
}

// DefaultBurstLimit is how long a [Burst] lasts at most if its Limit is zero.
const DefaultBurstLimit = time.Second

// A Burst makes losses come together, after the model of Gilbert and Elliott:
// the link is good or bad, each packet may turn it, and the bad link loses what
// the good one does not. The zero Burst never comes.
type Burst struct {
	// Enter is the probability that a packet on the good link begins a burst.
	Enter float64

	// Length is how many packets a burst meets on average, the first one
	// included. It is one at least.
	Length float64

	// Loss is the probability that a packet is lost while the burst lasts.
	// Zero stands for all of them.
	Loss float64

	// Limit ends a burst after a time, as packets that come one by one, with
	// a sender that backs off, would make it last for minutes. Zero stands for
	// [DefaultBurstLimit], less for no limit.
	Limit time.Duration
}

// A Direction is one way between two addresses, or from one to itself. The
// address of a host behind a [NAT] is the NAT's.
type Direction struct {
	From, To netip.Addr
}

func direction(from, to netip.Addr) Direction {
	return Direction{From: from.Unmap(), To: to.Unmap()}
}

// SetDefault sets the link of all directions that [Network.SetLink] has not
// set. It holds for packets sent from now on.
func (n *Network) SetDefault(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = l
}

// SetLink sets the link in one direction. It holds for packets sent from now
// on; those that wait in the old link's queue leave as they would have.
func (n *Network) SetLink(from, to netip.Addr, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outside().lane(from, to).link = &l
}

// ResetLink undoes [Network.SetLink]: the direction is the default link again.
func (n *Network) ResetLink(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outside().lane(from, to).link = nil
}

// Link returns the link in force in one direction.
func (n *Network) Link(from, to netip.Addr) Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.linkOf(n.outside().lanes[direction(from, to)])
}

// linkOf returns the link in force on a lane, nil for one that was not used
// yet. The caller holds n.mu.
func (n *Network) linkOf(l *lane) Link {
	switch {
	case l == nil:
		return n.links
	case l.area.nat != nil:
		return Link{}
	case l.link != nil:
		return *l.link
	}
	return n.links
}
