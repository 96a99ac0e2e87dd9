package peer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport/simnet"
)

func TestEndOfServiceReachesEveryCircuit(t *testing.T) {
	oops := errors.New("disk is on fire")
	for _, end := range []struct {
		name   string
		with   error
		reason string // at the other ends; "": a clean close
		local  func(error) bool
	}{
		{"returns nil", nil, "", func(err error) bool { return err == nil }},
		{"returns an error", oops, oops.Error(), func(err error) bool { return err == oops }},
		{"panics", panicValue{oops}, `service "stage" panicked`, func(err error) bool {
			p, ok := errors.AsType[*peer.PanicError](err)
			return ok && p.Value == oops && strings.Contains(string(p.Stack), "stage).serve")
		}},
	} {
		for _, count := range []int{1, 20, 200} {
			t.Run(fmt.Sprintf("%s with %d circuits", end.name, count), func(t *testing.T) {
				nodes, there := peertest.NewCluster(t, 2), newStage()
				nodes.Register("stage", there.serve)
				taken := make(chan *circuit.Circuit)
				nodes.Register("asker", forward(taken))
				b := nodes.Start(1, "stage")
				asker := nodes.Start(0, "asker") // not on the stage, so that only b hears end
				var circuits []*circuit.Circuit
				for i := range count {
					// The peer that ends has opened some and has been opened others.
					if i%2 == 0 {
						circuits = append(circuits, open(t, asker, b.URL(), nil))
						there.next(t)
						continue
					}
					open(t, b, asker.URL(), nil)
					circuits = append(circuits, receive(t, taken, "the asker takes the circuit"))
				}
				there.end <- end.with
				for i, c := range circuits {
					checkReason(t, i, causeOf(t, c), end.reason)
				}
				wait(t, b.Done(), "the peer ends")
				if err := b.Err(); !end.local(err) {
					t.Errorf("at its own node the peer ended with %T %v", err, err)
				}
				eventually(t, "no circuit is left", func() bool {
					return asker.OpenCircuitCount()+b.OpenCircuitCount() == 0
				})
				_, _, err := asker.NewCircuitToPeerURL(b.URL(), nil, 0)
				wantRefused(t, err, circuit.RefusedUnknownPeer)
			})
		}
	}
}

func checkReason(t *testing.T, i int, cause error, reason string) {
	t.Helper()
	if reason == "" {
		if !errors.Is(cause, circuit.ErrRemoteClosed) {
			t.Errorf("circuit %d: got %v, want a clean close", i, cause)
		}
		return
	}
	if e, ok := errors.AsType[*circuit.RemoteError](cause); !ok || e.Reason != reason {
		t.Errorf("circuit %d: got %v, want the reason %q", i, cause, reason)
	}
}

func TestEndOfPeerFromOutside(t *testing.T) {
	full := errors.New("no more room")
	for _, end := range []struct {
		name   string
		do     func(p *peer.LocalPeer, cancel context.CancelCauseFunc)
		reason string
		local  error
	}{
		{"Close", func(p *peer.LocalPeer, _ context.CancelCauseFunc) { p.Close() }, "", nil},
		{"CloseWith", func(p *peer.LocalPeer, _ context.CancelCauseFunc) { p.CloseWith(full) }, full.Error(), full},
		{"its context is cancelled", func(_ *peer.LocalPeer, cancel context.CancelCauseFunc) { cancel(nil) }, context.Canceled.Error(), context.Canceled},
		{"its context ends with a cause", func(_ *peer.LocalPeer, cancel context.CancelCauseFunc) { cancel(full) }, full.Error(), full},
	} {
		t.Run(end.name, func(t *testing.T) {
			nodes, there := peertest.NewCluster(t, 2), newStage()
			nodes.Register("stage", there.serve)
			a := nodes.Start(0, "stage")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			b, err := nodes.Nodes[1].PeerAPI.StartLocalPeer(ctx, "stage")
			if err != nil {
				t.Fatal(err)
			}
			c := open(t, a, b.URL(), nil)
			taken := there.next(t)
			end.do(b, cancel)
			checkReason(t, 0, causeOf(t, c), end.reason)
			wantIs(t, causeOf(t, taken), circuit.ErrClosed)
			wait(t, b.Done(), "the service returns")
			if b.Err() != end.local {
				t.Errorf("the peer ended with %v, want %v", b.Err(), end.local)
			}
			if _, _, err := b.NewCircuitToPeerURL(a.URL(), nil, 0); !errors.Is(err, context.Cause(b.Context())) {
				t.Errorf("a peer that has ended opens a circuit: %v", err)
			}
		})
	}
}

func TestCircuitsThatNobodyTookEndWithThePeer(t *testing.T) {
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("idle", idle)
	end := make(chan struct{})
	failed := errors.New("never looked")
	nodes.Register("blind", func(*peer.LocalPeer, context.Context, <-chan *circuit.Circuit) error {
		<-end
		return failed
	})
	a, b := nodes.Start(0, "idle"), nodes.Start(1, "blind")
	var circuits []*circuit.Circuit
	for range 32 {
		circuits = append(circuits, open(t, a, b.URL(), nil))
	}
	refused := make(chan error, 1)
	go func() { // one more waits for room when the peer ends
		_, _, err := a.NewCircuitToPeerURL(b.URL(), nil, 0)
		refused <- err
	}()
	eventually(t, "the last one waits", func() bool { return b.OpenCircuitCount() == 33 })
	close(end)
	for i, c := range circuits {
		checkReason(t, i, causeOf(t, c), failed.Error())
	}
	wantRefused(t, receive(t, refused, "the waiting opening"), circuit.RefusedUnknownPeer)
}

func TestServiceThatEndsItsGoroutine(t *testing.T) {
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("idle", idle)
	nodes.Register("exits", func(_ *peer.LocalPeer, _ context.Context, newCircuitCh <-chan *circuit.Circuit) error {
		<-newCircuitCh
		exit()
		return nil
	})
	a, b := nodes.Start(0, "idle"), nodes.Start(1, "exits")
	checkReason(t, 0, causeOf(t, open(t, a, b.URL(), nil)), `service "exits" ended its goroutine`)
	wait(t, b.Done(), "the peer ends")
}

// In virtual time, so that a service that returns does so in time.
func TestNodeClosesThoughAServiceDoesNotReturn(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, net *simnet.Network, _ *peertest.Cluster) {
		n := newTestNode(t, peer.Config{PacketConn: listen(t, net, 0), StopTimeout: 50 * time.Millisecond})
		release := make(chan struct{})
		for _, name := range []string{"stubborn", "deaf"} {
			register(t, n, name, func(*peer.LocalPeer, context.Context, <-chan *circuit.Circuit) error {
				<-release
				return nil
			})
		}
		register(t, n, "idle", idle)
		var peers []*peer.LocalPeer
		for _, name := range []string{"stubborn", "idle", "deaf"} {
			p, err := n.PeerAPI.StartLocalPeer(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			peers = append(peers, p)
		}
		err := n.Close()
		stop, ok := errors.AsType[*peer.StopError](err)
		if !ok || strings.Join(stop.Services, " ") != "deaf stubborn" {
			t.Errorf("got %v", err)
		}
		if again := n.Close(); again != err {
			t.Errorf("closing again: %v", again)
		}
		close(release)
		for _, p := range peers {
			wait(t, p.Done(), "the service returns at last")
		}
	})
}
