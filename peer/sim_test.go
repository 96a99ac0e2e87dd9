package peer_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
	"ckt.local/transport/simnet"
)

// inBubble runs a test on n nodes of a simulated network in virtual time, whose
// circuits wait 10 s for another connection.
func inBubble(t *testing.T, n int, test func(t *testing.T, net *simnet.Network, nodes *peertest.Cluster)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * 365 * 24 * time.Hour) // certificates are not valid in 2000
		net := simnet.New(1)
		t.Cleanup(func() { net.Close() })
		net.SetDefault(simnet.Link{Latency: 20 * time.Millisecond})
		cfg := peertest.Config{Network: net, Circuit: circuit.Config{Linger: 10 * time.Second}}
		test(t, net, cfg.NewCluster(t, n))
	})
}

func TestIdleForTenMinutes(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, _ *simnet.Network, nodes *peertest.Cluster) {
		nodes.Register("echo", echo)
		c := open(t, nodes.Start(0, "echo"), nodes.Start(1, "echo").URL(), nil)
		time.Sleep(10 * time.Minute)
		if got := say(t, c, "awake"); got != "awake" {
			t.Errorf("got %q", got)
		}
	})
}

func TestNodeThatVanishesEndsItsCircuits(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, net *simnet.Network, nodes *peertest.Cluster) {
		nodes.Register("echo", echo)
		a, b := nodes.Start(0, "echo"), nodes.Start(1, "echo")
		c := open(t, a, b.URL(), nil)
		net.Partition(peertest.Host(0), peertest.Host(1))
		start := time.Now()
		wantIs(t, causeOf(t, c), circuit.ErrPeerLost)
		if d := time.Since(start); d < 14*time.Second || d > 19*time.Second {
			t.Errorf("given up after %v, want 5 s of silence and 10 s of linger", d)
		}
		_, _, err := a.NewCircuitToPeerURL(b.URL(), nil, 3*time.Second)
		wantIs(t, err, transport.ErrUnreachable)

		// StartRemotePeer tries until the way is open again.
		time.AfterFunc(30*time.Second, func() { net.Rejoin(peertest.Host(0), peertest.Host(1)) })
		if _, _, err := nodes.Nodes[0].PeerAPI.StartRemotePeer(t.Context(), "echo", nodes.Nodes[1].URL(), 2*time.Minute); err != nil {
			t.Error(err)
		}
	})
}

func TestOpeningIsBoundedByTheCaller(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, net *simnet.Network, nodes *peertest.Cluster) {
		nodes.Register("idle", idle)
		a, b := nodes.Start(0, "idle"), nodes.Start(1, "idle")
		time.Sleep(time.Second) // what the nodes have asked one another is acknowledged
		net.Partition(peertest.Host(0), peertest.Host(1))
		start := time.Now()
		_, _, err := a.NewCircuitToPeerURL(b.URL(), nil, 2*time.Second)
		wantIs(t, err, circuit.ErrOpenTimeout)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("after %v, want 2 s", d)
		}
		// Without a bound, the end of the peer ends the wait.
		time.AfterFunc(time.Second, func() { a.CloseWith(context.DeadlineExceeded) })
		if _, _, err = a.NewCircuitToPeerURL(b.URL(), nil, -1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
