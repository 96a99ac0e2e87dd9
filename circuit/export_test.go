package circuit

import (
	"ckt.local/transport"
	"ckt.local/transport/limit"
)

// Bounded returns an account with bounds on circuits.
func Bounded(c limit.Circuit) *limit.Ledger { return limit.NewLedger(limit.Limits{Circuit: c}) }

// Leftover is how many circuits the link still knows, closed ones included.
func (l *Link) Leftover() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.circuits)
}

// Spare is how much of the hub's budget is left, and Budget what it has been.
func (l *Link) Spare() int64  { return l.hub.spare.Load() }
func (l *Link) Budget() int64 { return l.hub.cfg.limits.Inbox }

// NewLink returns a link with a hub of its own that does not dial.
func NewLink(conn transport.Conn, acc Acceptor, cfg Config) *Link {
	return NewHub(acc, cfg).Link(conn, nil)
}

// GiveUp ends the circuit at this side as the end of its linger does.
func (c *Circuit) GiveUp(err error) { c.lose(err) }
