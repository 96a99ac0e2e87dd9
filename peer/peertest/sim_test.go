package peertest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
)

func TestSimKillAndStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.NewSim(t, 1)
		lives := 0
		setup := func(n *peer.Node) {
			lives++
			if err := n.PeerAPI.RegisterPeerServiceFunc("shout", shout); err != nil {
				t.Error(err)
			}
		}
		a, b := sim.NewHost(setup), sim.NewHost(setup)
		id := b.Node().ID()
		here := a.StartPeer("shout")
		call := func() (*circuit.Circuit, string) {
			c, _, err := here.NewCircuitToPeerURL(b.URL("shout"), &circuit.Fragment{FragSubject: "hello"}, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			return c, (<-c.Reads).FragSubject
		}
		c, got := call()
		b.Kill()
		if b.Node() != nil {
			t.Error("a killed node is there")
		}
		time.Sleep(time.Second)
		if err := context.Cause(c.Context); err != nil {
			t.Errorf("the dead has said good-bye: %v", err)
		}
		b.Start()
		<-c.Context.Done()
		if err := context.Cause(c.Context); !errors.Is(err, circuit.ErrPeerLost) {
			t.Errorf("the circuit to the dead ended with %v", err)
		}
		_, again := call()
		if got != "hello!" || again != got || b.Node().ID() != id || lives != 3 {
			t.Errorf("before %q, after %q, %d lives, same key: %v", got, again, lives, b.Node().ID() == id)
		}
	})
}

func TestSimSameKeysForSameSeed(t *testing.T) {
	id := func(seed uint64) (node, peerID string) {
		synctest.Test(t, func(t *testing.T) {
			h := peertest.NewSim(t, seed).NewHost(func(n *peer.Node) { n.PeerAPI.RegisterPeerServiceFunc("shout", shout) })
			node, peerID = h.Node().ID().String(), h.StartPeer("shout").PeerID()
		})
		return node, peerID
	}
	node, peerID := id(1)
	if n, p := id(1); n != node || p != peerID {
		t.Errorf("seed 1 makes %s %s, then %s %s", node, peerID, n, p)
	}
	if n, p := id(2); n == node || p == peerID {
		t.Errorf("two seeds make %s %s", n, p)
	}
}
