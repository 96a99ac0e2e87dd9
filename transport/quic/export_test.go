package quic

import (
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// Unfinished is the number of inbound QUIC handshakes that have not ended.
func (e *Endpoint) Unfinished() int { return e.arrivals.unfinished() }

// Unopened is the number of inbound connections that are not open.
func (e *Endpoint) Unopened() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hellos + e.arrivals.unfinished()
}

// Occupy takes n places for inbound QUIC handshakes, or gives them back.
func (e *Endpoint) Occupy(n int) {
	e.arrivals.mu.Lock()
	defer e.arrivals.mu.Unlock()
	e.arrivals.shaking += n
	e.cfg.Ledger.Force(limit.Handshakes, identity.NodeID{}, int64(n))
}
