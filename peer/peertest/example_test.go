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

// shout is the service under test: it answers one fragment of each circuit.
func shout(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	for {
		select {
		case <-ctx0.Done():
			return nil
		case c := <-newCircuitCh:
			for f, err := range c.Fragments(ctx0) {
				if err != nil {
					break
				}
				c.Send(ctx0, &circuit.Fragment{FragSubject: f.FragSubject + "!"})
				break
			}
		}
	}
}

// A test of a service gets two nodes that are connected, registers the
// service on both, and has a peer on one call a peer on the other.
func ExampleNewCluster() {
	_ = func(t *testing.T) { // TestShout
		cluster := peertest.NewCluster(t, 2)
		cluster.Register("shout", shout)
		here, there := cluster.Start(0, "shout"), cluster.Start(1, "shout")

		c, _, err := here.NewCircuitToPeerURL(there.URL(), &circuit.Fragment{FragSubject: "hello"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if f := <-c.Reads; f.FragSubject != "hello!" {
			t.Errorf("got %q", f.FragSubject)
		}
	}
}

// A test of what a service does about a network that fails: in a bubble of
// simulated time, where half a minute of outage takes no time at all.
func ExampleNewSim() {
	_ = func(t *testing.T) { // TestShoutAfterAnOutage
		synctest.Test(t, func(t *testing.T) {
			sim := peertest.NewSim(t, 1)
			setup := func(n *peer.Node) { n.PeerAPI.RegisterPeerServiceFunc("shout", shout) }
			a, b := sim.NewHost(setup), sim.NewHost(setup)
			here := a.StartPeer("shout")

			sim.Partition(a, b)
			time.AfterFunc(30*time.Second, func() { sim.Rejoin(a, b) })
			c, _, err := here.NewCircuitToPeerURL(b.URL("shout"), &circuit.Fragment{FragSubject: "hello"}, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if f := <-c.Reads; f.FragSubject != "hello!" {
				t.Errorf("got %q", f.FragSubject)
			}
		})
	}
}
