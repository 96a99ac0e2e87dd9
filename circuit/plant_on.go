//go:build plant

package circuit

import "os"

// planted reports whether the environment asks for a bug, so that the
// simulation campaign can show that it would find it.
func planted(b bug) bool { return os.Getenv("CKT_PLANT") == string(b) }

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
