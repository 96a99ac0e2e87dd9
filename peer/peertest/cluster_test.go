package peertest_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
	"ckt.local/transport/limit"
)

func TestCluster(t *testing.T) {
	cluster := peertest.NewCluster(t, 3)
	cluster.Register("shout", shout)
	for i, n := range cluster.Nodes {
		if links := len(n.Listing().Links); links != 2 {
			t.Errorf("node %d has %d connections, want 2", i, links)
		}
	}
	here, there := cluster.Start(0, "shout"), cluster.Start(2, "shout")
	c, _, err := here.NewCircuitToPeerURL(there.URL(), &circuit.Fragment{FragSubject: "hello"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if f := <-c.Reads; f.FragSubject != "hello!" {
		t.Errorf("got %q", f.FragSubject)
	}
}

func TestClusterByConfig(t *testing.T) {
	var asked atomic.Int64
	cluster := peertest.Config{
		Limits:    limit.Limits{Circuit: limit.Circuit{Payload: 100}},
		Authorize: func(peer.Request) error { asked.Add(1); return nil },
		Connect:   func(i, j int) bool { return i == 0 },
		Adjust:    func(i int, cfg *peer.Config) { cfg.AdvertiseAddr = "" },
	}
	nodes := cluster.NewCluster(t, 2).Nodes
	if asked.Load() == 0 {
		t.Error("the policy was not asked")
	}
	if a, b := len(nodes[0].Listing().Links), len(nodes[1].Listing().Links); a != 1 || b != 1 {
		t.Errorf("%d and %d connections, want 1", a, b)
	}
	stranger := peertest.Config{Connect: func(i, j int) bool { return false }}.NewCluster(t, 1).Nodes[0]
	refused, ok := errors.AsType[*transport.RemoteError](func() error {
		_, err := nodes[0].Connect(t.Context(), stranger.URL())
		return err
	}())
	if !ok || refused.Code != transport.CodeRefused {
		t.Errorf("a node of another cluster lets this one in: %v", refused)
	}
}
