package simnet

import "net/netip"

// Cut cuts one direction: what is sent in it is dropped, and what is on the
// way in it already is lost. [Network.Heal] mends it.
func (n *Network) Cut(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.outside().lane(from, to)
	l.cut = true
	l.drain()
	n.ground(DroppedCut, func(f *flight) bool { return f.lane == l })
}

// Heal undoes [Network.Cut] for what is sent from now on.
func (n *Network) Heal(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outside().lane(from, to).cut = false
}

// HealAll undoes every [Network.Cut] and [Network.Partition].
func (n *Network) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.outside().lanes {
		l.cut = false
	}
}

// Partition cuts both directions between two hosts.
func (n *Network) Partition(a, b netip.Addr) {
	n.Cut(a, b)
	n.Cut(b, a)
}

// Rejoin heals both directions between two hosts.
func (n *Network) Rejoin(a, b netip.Addr) {
	n.Heal(a, b)
	n.Heal(b, a)
}

// Vanish takes the host away without a word, as a power cut does: what is in
// flight to it or from it is dropped, and its ports are free.
//
// The sockets that were open see nothing of that, for a program that is gone
// must not get a chance to react: writes succeed and go nowhere, reads wait,
// and deadlines and Close work as ever. So whoever simulates the program closes
// it in the ordinary way afterwards, and its farewells reach nobody. (quic-go's
// Transport.Close sets a deadline to stop its reader, and so ends here too.)
//
// [Host.Listen] brings the host back; Vanish may then be called again.
func (h *Host) Vanish() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for _, s := range h.sockets {
		s.state = socketGhost
		s.in.discard()
		h.ghosts = append(h.ghosts, s)
	}
	clear(h.sockets)

	for dir, l := range h.area.lanes {
		if dir.From == h.addr || dir.To == h.addr {
			l.drain()
		}
	}
	h.net.ground(DroppedVanished, func(f *flight) bool { return f.sender == h || h.net.receiver(f) == h })
}
