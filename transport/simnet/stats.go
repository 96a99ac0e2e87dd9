package simnet

// Counters tell what has become of the packets in one [Direction]. At any time
//
//	Sent + Duplicated == Delivered + InFlight + Dropped.Total()
type Counters struct {
	Sent           uint64 // packets that sockets have written
	SentBytes      uint64
	Delivered      uint64 // packets, counting copies, put into a socket's receive buffer
	DeliveredBytes uint64
	InFlight       uint64 // packets, counting copies, on the way just now
	Duplicated     uint64 // second copies made
	Corrupted      uint64 // packets, counting copies, damaged
	HeldBack       uint64 // packets, counting copies, held back to be overtaken
	Dropped        Drops
	Trace          uint64 // the direction's share of [Network.Fingerprint]
}

// Drops counts dropped packets by cause.
type Drops struct {
	Cut      uint64 // the direction was cut when it was sent, or while it was on the way
	MTU      uint64 // too large
	Queue    uint64 // no room to wait for the bandwidth
	Loss     uint64 // lost by chance
	Burst    uint64 // lost in a burst
	Vanished uint64 // on the way when one of the hosts vanished
	Moved    uint64 // on the way to an address when its host, or its NAT, left it
	NAT      uint64 // a NAT had no mapping for it, did not let it in, or had no port left
	NoSocket uint64 // nobody listens on the port, or there is no such host
	Buffer   uint64 // the socket's receive buffer was full
	Closed   uint64 // on the way when the network was closed
}

// Total is the sum over all causes.
func (d Drops) Total() uint64 {
	return d.Cut + d.MTU + d.Queue + d.Loss + d.Burst + d.Vanished + d.Moved + d.NAT + d.NoSocket + d.Buffer + d.Closed
}

// settle counts one packet whose fate is known.
func (c *Counters) settle(fate Fate, size int) {
	d := &c.Dropped
	switch fate {
	case Delivered:
		c.Delivered++
		c.DeliveredBytes += uint64(size)
	case DroppedCut:
		d.Cut++
	case DroppedMTU:
		d.MTU++
	case DroppedQueue:
		d.Queue++
	case DroppedLoss:
		d.Loss++
	case DroppedBurst:
		d.Burst++
	case DroppedVanished:
		d.Vanished++
	case DroppedMoved:
		d.Moved++
	case DroppedNAT:
		d.NAT++
	case DroppedNoSocket:
		d.NoSocket++
	case DroppedBuffer:
		d.Buffer++
	case DroppedClosed:
		d.Closed++
	}
}

// Stats returns the counters of every direction that was used or set, as they
// are now. The map is the caller's. It can be read after Close. What stays
// within the private network of a [NAT] is not in it.
func (n *Network) Stats() map[Direction]Counters {
	n.mu.Lock()
	defer n.mu.Unlock()
	stats := make(map[Direction]Counters, len(n.outside().lanes))
	for dir, l := range n.outside().lanes {
		stats[dir] = l.count
	}
	return stats
}
