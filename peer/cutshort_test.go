package peer_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport/simnet"
)

// Services that are in the middle of a stream when their node closes, by what
// they do then.
var cutShort = []struct {
	name  string
	sent  int // fragments on each circuit
	serve peer.PeerServiceFunc
}{
	{"keeps its circuits", streamed, streamUntil(func(ctx0 context.Context, _ *circuit.Circuit) error {
		<-ctx0.Done()
		return nil
	})},
	{"closes its circuits cleanly", streamed, streamUntil(closeAtEnd)},
	{"returns an error of its own", streamed, streamUntil(func(ctx0 context.Context, _ *circuit.Circuit) error {
		<-ctx0.Done()
		return errors.New("half way through")
	})},
	{"returns when its circuits end", streamed, streamUntil(func(_ context.Context, c *circuit.Circuit) error {
		<-c.Context.Done()
		return nil
	})},
	{"has not taken them", 0, func(_ *peer.LocalPeer, ctx0 context.Context, _ <-chan *circuit.Circuit) error {
		<-ctx0.Done()
		return nil
	}},
}

func closeAtEnd(ctx0 context.Context, c *circuit.Circuit) error {
	<-ctx0.Done()
	c.Close()
	return nil
}

const streamed = 20 // fragments that a service of streamUntil sends on each circuit

// streamUntil returns a service that sends something on each circuit and then
// does what until does; it returns its first error.
func streamUntil(until func(ctx0 context.Context, c *circuit.Circuit) error) peer.PeerServiceFunc {
	return func(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
		var wg sync.WaitGroup
		defer wg.Wait()
		errs := make(chan error, 1000)
		for {
			select {
			case <-ctx0.Done():
				wg.Wait()
				close(errs)
				return <-errs
			case c := <-newCircuitCh:
				for range streamed {
					if err := c.SendOneWay(&circuit.Fragment{}); err != nil {
						return err
					}
				}
				wg.Go(func() {
					if err := until(ctx0, c); err != nil {
						errs <- err
					}
				})
			}
		}
	}
}

func TestStreamOfANodeThatClosesIsNoCleanEnd(t *testing.T) {
	for _, cut := range cutShort {
		t.Run(cut.name, func(t *testing.T) {
			there, p, circuits := openStreams(t, cut.serve)
			eventually(t, "all is sent", func() bool {
				return !slices.ContainsFunc(there.Listing().Circuits, func(c peer.CircuitInfo) bool {
					return c.FragmentsSent != int64(cut.sent)
				})
			})
			closed := make(chan error, 1)
			go func() { closed <- there.Close() }()
			for i, c := range circuits {
				for range cut.sent {
					receive(t, c.Reads, "what was sent before the node closed")
				}
				checkReason(t, i, causeOf(t, c), "peer: node closed")
			}
			if err := receive(t, closed, "the node closes"); err != nil {
				t.Errorf("closing: %v", err)
			}
			wait(t, p.Done(), "the service returns")
		})
	}
}

func TestServiceThatDoesNotReturnIsNoCleanEnd(t *testing.T) {
	release := make(chan struct{})
	there, p, circuits := openStreams(t, func(*peer.LocalPeer, context.Context, <-chan *circuit.Circuit) error {
		<-release
		return nil
	})
	// The closes have that long to be heard; the service would never return.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := there.Shutdown(ctx)
	if _, ok := errors.AsType[*peer.StopError](err); !ok {
		t.Errorf("closing: %v", err)
	}
	for i, c := range circuits {
		checkReason(t, i, causeOf(t, c), "peer: node closed")
	}
	close(release)
	wait(t, p.Done(), "the service returns")
}

// openStreams opens 20 circuits to a peer that runs serve on a node of its
// own, which the test closes.
func openStreams(t *testing.T, serve peer.PeerServiceFunc) (there *peer.Node, p *peer.LocalPeer, circuits []*circuit.Circuit) {
	t.Helper()
	here := peertest.NewCluster(t, 1)
	here.Register("idle", idle)
	asker := here.Start(0, "idle")
	there = newTestNode(t, peer.Config{Authorize: peer.AllowAll, StopTimeout: patience})
	register(t, there, "streams", serve)
	p, err := there.PeerAPI.StartLocalPeer(context.Background(), "streams")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		circuits = append(circuits, open(t, asker, p.URL(), nil))
	}
	return there, p, circuits
}

func TestPeerWhoseTimeIsOverIsNoCleanEnd(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, _ *simnet.Network, nodes *peertest.Cluster) {
		nodes.Register("idle", idle)
		nodes.Register("streams", streamUntil(closeAtEnd))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p, err := nodes.Nodes[1].PeerAPI.StartLocalPeer(ctx, "streams")
		if err != nil {
			t.Fatal(err)
		}
		c := open(t, nodes.Start(0, "idle"), p.URL(), nil)
		for range streamed {
			receive(t, c.Reads, "what was sent in time")
		}
		<-c.Context.Done()
		checkReason(t, 0, context.Cause(c.Context), context.DeadlineExceeded.Error())
		wait(t, p.Done(), "the service returns")
		wantIs(t, context.Cause(p.Context()), context.DeadlineExceeded)
	})
}

func TestServiceThatKnowsItsPeersContextIsNoCleanEnd(t *testing.T) {
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("idle", idle)
	asker := nodes.Start(0, "idle")
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		name := "knows" + circuit.NewID().String()
		nodes.Register(name, func(*peer.LocalPeer, context.Context, <-chan *circuit.Circuit) error {
			<-ctx.Done() // and not ctx0
			return nil
		})
		p, err := nodes.Nodes[1].PeerAPI.StartLocalPeer(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		c := open(t, asker, p.URL(), nil)
		cancel()
		checkReason(t, 0, causeOf(t, c), context.Canceled.Error())
	}
}

func TestErrOfAPeerThatWasEnded(t *testing.T) {
	own := errors.New("of its own")
	for _, end := range []struct {
		name    string
		do      func(n *peer.Node, p *peer.LocalPeer)
		returns func(p *peer.LocalPeer, ctx0 context.Context) error
		want    error
	}{
		{"closed, says so", closePeer, func(_ *peer.LocalPeer, ctx0 context.Context) error { return ctx0.Err() }, nil},
		{"closed, says that its circuit is", closePeer, func(*peer.LocalPeer, context.Context) error { return circuit.ErrClosed }, nil},
		{"closed, has failed", closePeer, func(*peer.LocalPeer, context.Context) error { return own }, own},
		{"node closed, says so", closeNode, func(_ *peer.LocalPeer, ctx0 context.Context) error { return ctx0.Err() }, peer.ErrNodeClosed},
		{"node closed, is content", closeNode, func(*peer.LocalPeer, context.Context) error { return nil }, nil},
		{"node closed, opens a circuit", closeNode, func(p *peer.LocalPeer, _ context.Context) error {
			_, _, err := p.NewCircuitToPeerURL(p.URL(), nil, 0)
			return err
		}, peer.ErrNodeClosed},
	} {
		t.Run(end.name, func(t *testing.T) {
			n := newTestNode(t, peer.Config{})
			defer n.Close()
			register(t, n, "ends", func(p *peer.LocalPeer, ctx0 context.Context, _ <-chan *circuit.Circuit) error {
				<-ctx0.Done()
				return end.returns(p, ctx0)
			})
			p, err := n.PeerAPI.StartLocalPeer(t.Context(), "ends")
			if err != nil {
				t.Fatal(err)
			}
			end.do(n, p)
			wait(t, p.Done(), "the service returns")
			if p.Err() != end.want {
				t.Errorf("got %v, want %v", p.Err(), end.want)
			}
		})
	}
}

func closePeer(_ *peer.Node, p *peer.LocalPeer) { p.Close() }
func closeNode(n *peer.Node, _ *peer.LocalPeer) { n.Close() }
