//go:build plant

package circuit

import (
	"os"

	"ckt.local/transport"
)

// planted reports whether the environment asks for a bug, so that the
// simulation campaign can show that it would find it.
func planted(b bug) bool { return os.Getenv("CKT_PLANT") == string(b) }

// A plant is what planted bugs keep with an attachment.
type plant struct{ held item }

// hold gives what has just come, and is acknowledged, to the user only when the
// next fragment comes by the same attachment.
func (p *plant) hold(it item) item {
	p.held, it = it, p.held
	return it
}

// Supersede moves the circuit to another stream of its connection, at the side
// that has opened it. Nothing in the product does that while a connection is
// well; the campaign does it to have attachments race.
func (c *Circuit) Supersede() {
	car := c.link.carrier()
	if car == nil || c.accepted {
		return
	}
	c.update(func(s *state) { s.moving = true })
	car.attachSoon(c)
}

// OpenAgain sends the open frame of the present attachment once more on a
// stream of its own, as if it had been on its way all the time: at the side
// that has opened the circuit. The other side must not take it.
func (c *Circuit) OpenAgain() {
	car := c.link.carrier()
	if car == nil || c.accepted {
		return
	}
	s, err := car.conn.OpenStream(car.ctx)
	if err != nil {
		return
	}
	c.mu.Lock()
	ready := c.s.at != nil && c.s.at.ready // else the copy may come first, and is rightly taken
	old := wireOpen{
		CircuitID: c.id, Generation: c.s.gen, Resume: true, Received: c.s.received, Credit: c.s.granted,
		FromSeed: c.seed, FromService: c.local.service, ToPeer: c.remote.peer, ToService: c.remote.service,
	}
	c.mu.Unlock()
	if !ready {
		s.Reset(transport.CodeClosed)
		return
	}
	s.Write(appendSmall(nil, frameOpen, &old))
	s.Close()
}
