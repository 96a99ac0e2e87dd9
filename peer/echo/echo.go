// Package echo is the built-in service that sends back what it gets. It is
// what one tries a new path with.
package echo

import (
	"context"
	"sync"

	"ckt.local/circuit"
	"ckt.local/peer"
)

// Name is the name under which the service is registered by convention.
const Name = "echo"

// Serve sends every fragment back on the circuit it came on, in order, with
// the same operation, subject, part, arguments, payload and error text. A
// sender that does not read what comes back is made to wait: nothing is kept
// beyond the circuit's window. Serve is a [peer.PeerServiceFunc]; it returns
// nil when ctx0 has ended and every circuit of the peer is closed.
func Serve(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	var circuits sync.WaitGroup
	defer circuits.Wait()
	for {
		select {
		case <-ctx0.Done():
			return nil
		case c, ok := <-newCircuitCh:
			if !ok {
				return nil
			}
			circuits.Go(func() { bounce(ctx0, c) })
		}
	}
}

// bounce owns c until it ends. The fragment itself is sent back: what the
// library stamped into it on receipt is ignored when it is sent.
func bounce(ctx context.Context, c *circuit.Circuit) {
	defer c.Close()
	for f := range c.Fragments(ctx) {
		if f == nil {
			return
		}
		if err := c.Send(ctx, f); err != nil {
			return
		}
	}
}
