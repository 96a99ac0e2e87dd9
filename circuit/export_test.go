package circuit

import "ckt.local/transport"

// Leftover is how many circuits the link still knows, closed ones included.
func (l *Link) Leftover() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.circuits)
}

// NewLink returns a link with a hub of its own that does not dial.
func NewLink(conn transport.Conn, acc Acceptor, cfg Config) *Link {
	return NewHub(acc, cfg).Link(conn, nil)
}
