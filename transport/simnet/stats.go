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
	Dropped        Drops
}

// Drops counts dropped packets by cause.
type Drops struct {
	Cut      uint64 // the direction was cut when it was sent, or while it was on the way
	MTU      uint64 // too large
	Queue    uint64 // no room to wait for the bandwidth
	Loss     uint64 // lost by chance
	Vanished uint64 // on the way when one of the hosts vanished
	NoSocket uint64 // nobody listens on the port, or there is no such host
	Buffer   uint64 // the socket's receive buffer was full
	Closed   uint64 // on the way when the network was closed
}

// Total is the sum over all causes.
func (d Drops) Total() uint64 {
	return d.Cut + d.MTU + d.Queue + d.Loss + d.Vanished + d.NoSocket + d.Buffer + d.Closed
}

// Stats returns the counters of every direction that was used or set, as they
// are now. The map is the caller's. It can be read after Close.
func (n *Network) Stats() map[Direction]Counters {
	n.mu.Lock()
	defer n.mu.Unlock()
	stats := make(map[Direction]Counters, len(n.lanes))
	for dir, l := range n.lanes {
		stats[dir] = l.count
	}
	return stats
}
