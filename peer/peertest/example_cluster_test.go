package peertest_test

import (
	"context"
	"testing"

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
			c.Close()
		}
	}
}

// testShout would be TestShout in the tests of the service.
func testShout(t *testing.T) {
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

// A test of a service gets two nodes that are connected, registers the
// service on both, and has a peer on one call a peer on the other.
func ExampleNewCluster() {
	// See testShout.
}
