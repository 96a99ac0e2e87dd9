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

// Booked is what the circuits of the link's node have booked in memory beyond
// their Start.
func (l *Link) Booked() int64 {
	l.mu.Lock()
	n := int64(len(l.circuits) * l.cfg.limits.Start)
	l.mu.Unlock()
	return used(l.cfg.Ledger, limit.Inbox) + used(l.cfg.Ledger, limit.Replay) - 2*n
}

// used is how much of a resource is booked.
func used(g *limit.Ledger, r limit.Resource) int64 { return g.Uses()[r].Used }

// NewLink returns a link with a hub of its own that does not dial.
func NewLink(conn transport.Conn, acc Acceptor, cfg Config) *Link {
	return NewHub(acc, Apart(cfg)).Link(conn, nil)
}

// GiveUp ends the circuit at this side as the end of its linger does.
func (c *Circuit) GiveUp(err error) { c.lose(err) }

// Apart returns cfg with an account of its own, and the bounds of the one that
// cfg has.
func Apart(cfg Config) Config {
	if cfg.Ledger != nil {
		cfg.Ledger = limit.NewLedger(cfg.Ledger.Limits())
	}
	return cfg
}

// Turns is how many streams of this side wait for their answer.
func (l *Link) Turns() int {
	if car := l.carrier(); car != nil {
		return len(car.lanes[laneNew].turns) + len(car.lanes[laneResume].turns)
	}
	return 0
}

// Lent reports whether a Fragments call reads the circuit's stream.
func (c *Circuit) Lent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.s.at != nil && c.s.at.sleep == dozeLent
}
