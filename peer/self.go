package peer

import "ckt.local/transport"

// isSelf tells whether the target is this node.
func (n *Node) isSelf(t target) bool {
	if t.addr != "" {
		return n.isOwnAddr(t.addr)
	}
	if t.node != n.ID() {
		return false
	}
	// Without an address, a peer that does not run here may run on another
	// machine with the same key.
	if t.peer.IsZero() || len(n.linksTo(t.node)) == 0 {
		return true
	}
	_, here := n.roster.byID(t.peer)
	return here
}

// self returns the link of the node to itself, which is made when it is first
// needed. It has two ends, and both are links of this node.
func (n *Node) self(t target) (*link, error) {
	if !t.node.IsZero() && t.node != n.ID() {
		return nil, &transport.WrongKeyError{Addr: t.addr, Want: t.node.Key(), Got: n.ID().Key()}
	}
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	if n.links.closed {
		return nil, ErrNodeClosed
	}
	for _, l := range n.links.list {
		if l.self && l.Info().Dialed && l.alive() {
			return l, nil
		}
	}
	dialer, acceptor := newLoopback(n.ID().Key(), n.endpoint.Addr(), n.nonce)
	n.loopLocked(acceptor)
	return n.loopLocked(dialer), nil
}
