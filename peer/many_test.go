package peer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
)

func TestManyPeersOpenFromBothEndsAtOnce(t *testing.T) {
	const peers, circuits = 10, 10
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("echo", echo)
	var ends [2][]*peer.LocalPeer
	for i := range peers {
		for n := range ends {
			ends[n] = append(ends[n], nodes.Start(n, "echo"))
			if len(ends[n]) != i+1 {
				t.Fatal("a peer is missing")
			}
		}
	}
	var wg sync.WaitGroup
	errs := make(chan error, 2*peers*circuits)
	for n := range ends {
		for i, p := range ends[n] {
			for j := range circuits {
				wg.Go(func() { errs <- openAndSay(t.Context(), p, ends[1-n][(i+j)%peers].URL(), fmt.Sprint(n, i, j)) })
			}
		}
	}
	wg.Wait()
	for range 2 * peers * circuits {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for n := range ends {
		if links := nodes.Nodes[n].Listing().Links; len(links) != 1 {
			t.Errorf("node %d has %d connections", n, len(links))
		}
		for _, p := range ends[n] {
			eventually(t, "no circuit is left", func() bool { return p.OpenCircuitCount() == 0 })
		}
	}
}

// openAndSay opens a circuit to an echo peer, and closes it when a text has
// come back. It may be one of many that dial at once, on a busy machine.
func openAndSay(ctx context.Context, p *peer.LocalPeer, url, text string) error {
	c, _, err := p.NewCircuitToPeerURL(url, &circuit.Fragment{FragSubject: text}, 3*patience)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for f, err := range c.Fragments(ctx) {
		if err != nil {
			return err
		}
		if f.FragSubject != text {
			return fmt.Errorf("sent %q, got %q", text, f.FragSubject)
		}
		return nil
	}
	return errors.New("the circuit has ended without an answer")
}

func TestShutdownWhileCircuitsAreOpened(t *testing.T) {
	for _, who := range []struct {
		name  string
		close int
	}{{"of the opener", 0}, {"of the acceptor", 1}} {
		t.Run(who.name, func(t *testing.T) {
			nodes := peertest.NewCluster(t, 2)
			nodes.Register("echo", echo)
			a, b := nodes.Start(0, "echo"), nodes.Start(1, "echo")
			var wg sync.WaitGroup
			started := make(chan struct{}, 8)
			for range cap(started) {
				wg.Go(func() {
					for i := 0; ; i++ {
						_, _, err := a.NewCircuitToPeerURL(b.URL(), nil, 0)
						if i == 3 {
							started <- struct{}{}
						}
						if err != nil {
							checkShutdownError(t, err)
							return
						}
					}
				})
			}
			for range cap(started) {
				receive(t, started, "openings are under way")
			}
			if err := nodes.Nodes[who.close].Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
			a.Close() // a dial to a node that is gone takes its time otherwise
			wg.Wait()
		})
	}
}

// checkShutdownError checks that an opening failed because one of the two
// nodes is shutting down, and that it says so.
func checkShutdownError(t *testing.T, err error) {
	if refused, ok := errors.AsType[*circuit.RefusedError](err); ok {
		if refused.Code != circuit.RefusedShutdown && refused.Code != circuit.RefusedUnknownPeer {
			t.Errorf("refused: %v", err)
		}
		return
	}
	if e, ok := errors.AsType[*transport.RemoteError](err); ok && e.Code == transport.CodeClosed {
		return // it was dialled anew, and had not closed its socket yet
	}
	for _, target := range []error{circuit.ErrPeerLost, transport.ErrUnreachable, circuit.ErrClosed, peer.ErrNodeClosed, peer.ErrPeerClosed} {
		if errors.Is(err, target) {
			return
		}
	}
	t.Errorf("got %T %v", err, err)
}

func TestManyNodesDialOneAnotherAtOnce(t *testing.T) {
	const n = 6
	nodes := peertest.Config{Connect: func(i, j int) bool { return false }}.NewCluster(t, n)
	nodes.Register("echo", echo)
	var wg sync.WaitGroup
	for i := range n {
		p := nodes.Start(i, "echo")
		for j := range n {
			if i != j {
				wg.Go(func() {
					if err := openAndSay(t.Context(), p, nodes.Nodes[j].URL()+"/echo", fmt.Sprint(i, j)); err != nil {
						t.Errorf("%d to %d: %v", i, j, err)
					}
				})
			}
		}
	}
	wg.Wait()
	for i, node := range nodes.Nodes {
		if got := len(node.Listing().Links); got != n-1 {
			t.Errorf("node %d has %d connections, want %d", i, got, n-1)
		}
	}
}

func TestTwoNodesWithOneKey(t *testing.T) {
	var shared peer.Config
	nodes := peertest.Config{
		Connect: func(i, j int) bool { return false },
		Adjust: func(i int, cfg *peer.Config) {
			if i == 0 {
				shared = *cfg
			}
			if i == 1 {
				cfg.Identity = shared.Identity
			}
		},
	}.NewCluster(t, 3)
	nodes.Register("echo", echo)
	asker := nodes.Start(2, "echo")
	// The first is connected; the URL of the second must still lead there.
	for _, i := range []int{0, 1, 0, 1} {
		p := nodes.Start(i, "echo")
		if c := open(t, asker, p.URL(), nil); c.RemotePeerID() != p.PeerID() {
			t.Fatalf("node %d: got %s", i, c.RemotePeerID())
		}
	}
	if n := len(nodes.Nodes[2].Listing().Links); n != 2 {
		t.Fatalf("%d connections, want 2", n)
	}
	// The two with one key trust each other without a policy.
	p := nodes.Start(0, "echo")
	if c := open(t, nodes.Start(1, "echo"), p.URL(), nil); c.RemoteNodeID() != nodes.Nodes[0].ID() {
		t.Fatal("the circuit leads elsewhere")
	}
}

func TestNodeBehindARouterIsReachedOverItsConnection(t *testing.T) {
	nodes := peertest.Config{Adjust: func(i int, cfg *peer.Config) {
		if i == 0 {
			cfg.AdvertiseAddr = "192.0.2.1:4242" // documentation block: nobody answers there
		}
	}, Connect: func(i, j int) bool { return false }}.NewCluster(t, 2)
	nodes.Register("echo", echo)
	nodes.Connect(0, 1)
	p := nodes.Start(0, "echo")
	c, _, err := nodes.Start(1, "echo").NewCircuitToPeerURL(p.URL(), nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	if got := say(t, c, "inside"); got != "inside" {
		t.Fatalf("got %q", got)
	}
	started := time.Now()
	if _, _, err := nodes.Nodes[1].PeerAPI.StartRemotePeer(t.Context(), "echo", nodes.Nodes[0].URL(), 0); err != nil {
		t.Fatalf("after %v: %v", time.Since(started), err)
	}
}
