package peertest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
)

// repeat is the service under test: it sends back what comes, on one circuit
// after the other.
func repeat(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	for {
		select {
		case <-ctx0.Done():
			return nil
		case c := <-newCircuitCh:
			for f, err := range c.Fragments(ctx0) {
				if err != nil {
					break
				}
				c.Send(ctx0, f)
			}
			c.Close()
		}
	}
}

// testRepeatInAnOutage would be TestRepeatInAnOutage in the tests of the service.
func testRepeatInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.NewSim(t, 1)
		setup := func(n *peer.Node) { n.PeerAPI.RegisterPeerServiceFunc("repeat", repeat) }
		a, b := sim.NewHost(setup), sim.NewHost(setup)

		c, _, err := a.StartPeer("repeat").NewCircuitToPeerURL(b.URL("repeat"), nil, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		sim.Partition(a, b)
		time.AfterFunc(30*time.Second, func() { sim.Rejoin(a, b) })
		if err := c.SendOneWay(&circuit.Fragment{FragSubject: "hello"}); err != nil {
			t.Fatal(err)
		}
		if f := <-c.Reads; f.FragSubject != "hello" {
			t.Errorf("got %q", f.FragSubject)
		}
		if n := c.State().Attachments; n < 2 {
			t.Errorf("it has not lost its connection: %d attachments", n)
		}
	})
}

// A test of what a service does about a network that fails: in a bubble of
// simulated time, where half a minute of outage takes no time at all.
func ExampleNewSim() {
	// See testRepeatInAnOutage.
}
