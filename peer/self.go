package peer

// isSelf tells whether the target is this node.
func (n *Node) isSelf(t target) bool {
	if !t.node.IsZero() && t.node != n.ID() {
		return false
	}
	if t.addr != "" {
		return n.isOwnAddr(t.addr)
	}
	// Without an address, a peer that does not run here may run on another
	// machine with the same key.
	if t.peer.IsZero() || len(n.linksTo(t.node)) == 0 {
		return true
	}
	return n.roster.has(t.peer)
}

func (n *Node) self(t target) (*link, error) { panic("not yet") }
