package peer

import (
	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// maxVisits is how many circuits to ckt.node one node may have open, of all its
// processes together: each has a goroutine, and a line's max-circuits does not
// count them.
const maxVisits = 1024

// A visitor is the owner of a circuit to the node's own service that another
// node has opened.
type visitor struct{ owner }

// AddCircuit fails if the other node has too many already.
func (v visitor) AddCircuit(c *circuit.Circuit) error {
	p, who := v.p, v.l.Account()
	p.mu.Lock()
	n := p.visits[who]
	if n < maxVisits {
		if p.visits == nil {
			p.visits = make(map[identity.NodeID]int)
		}
		p.visits[who]++
	}
	p.mu.Unlock()
	if n >= maxVisits {
		return refuseLimit(&transport.LimitError{What: "circuits to " + nodeService + " of one node", Limit: maxVisits})
	}
	err := v.owner.AddCircuit(c)
	if err != nil {
		v.leave()
	}
	return err
}

// RemoveCircuit forgets a circuit that has ended.
func (v visitor) RemoveCircuit(c *circuit.Circuit) {
	v.owner.RemoveCircuit(c)
	v.leave()
}

func (v visitor) leave() {
	p, who := v.p, v.l.Account()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.visits[who]--; p.visits[who] == 0 {
		delete(p.visits, who)
	}
}
