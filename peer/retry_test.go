package peer_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/simnet"
)

const comesUp = 8 * time.Second // longer than the transport tries by itself

// A latecomer is a node that is not there yet, and one that tries to reach it.
// Both have the same key.
type latecomer struct {
	url   string // of the late node
	peer  string // the URL of any instance of a service there
	key   *identity.Key
	early *peer.Node
	idle  *peer.LocalPeer // on the early node
	spare net.PacketConn  // for one more node
}

func TestNodeThatComesUpLateIsReached(t *testing.T) {
	for _, way := range []struct {
		name string
		do   func(ctx context.Context, l *latecomer) error
	}{
		{"Connect", func(ctx context.Context, l *latecomer) error {
			_, err := l.early.Connect(ctx, l.url)
			return err
		}},
		{"NewClient", func(ctx context.Context, l *latecomer) error {
			n, err := peer.NewClient(ctx, l.url, peer.Config{Identity: l.key, PacketConn: l.spare})
			if err == nil {
				err = n.Close()
			}
			return err
		}},
		{"NewCircuitToPeerURL", func(ctx context.Context, l *latecomer) error {
			deadline, _ := ctx.Deadline()
			_, _, err := l.idle.NewCircuitToPeerURL(l.peer, nil, time.Until(deadline))
			return err
		}},
		{"List", func(ctx context.Context, l *latecomer) error {
			_, err := l.early.PeerAPI.List(ctx, l.url)
			return err
		}},
		{"Ping", func(ctx context.Context, l *latecomer) error {
			return l.early.PeerAPI.Ping(ctx, l.url, 1, func(time.Duration) {})
		}},
		{"StartRemotePeer", func(ctx context.Context, l *latecomer) error {
			_, _, err := l.early.PeerAPI.StartRemotePeer(ctx, "idle", l.url, -1)
			return err
		}},
		{"StopRemotePeer", func(ctx context.Context, l *latecomer) error {
			err := l.early.PeerAPI.StopRemotePeer(ctx, l.peer+"/"+circuit.NewID().String())
			if refused, ok := errors.AsType[*circuit.RefusedError](err); ok && refused.Code == circuit.RefusedUnknownPeer {
				return nil // it was reached
			}
			return err
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			reachLate(t, way.do)
		})
	}
}

// reachLate tries twice to reach a node, until shortly before it comes up and
// for long enough.
func reachLate(t *testing.T, do func(ctx context.Context, l *latecomer) error) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * 365 * 24 * time.Hour) // certificates are not valid in 2000
		net := simnet.New(1)
		t.Cleanup(func() { net.Close() })
		net.SetDefault(simnet.Link{Latency: 20 * time.Millisecond})
		l := newLatecomer(t, net)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), comesUp-time.Second)
		defer cancel()
		wantIs(t, do(ctx, l), transport.ErrUnreachable)
		if d := time.Since(start); d != comesUp-time.Second {
			t.Errorf("gives up after %v", d)
		}
		l.spare = listen(t, net, 3)
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		reached := make(chan error, 1)
		go func() { reached <- do(ctx, l) }()
		time.Sleep(comesUp - time.Since(start))
		register(t, newNode(t, peer.Config{Identity: l.key, PacketConn: listen(t, net, 1)}), "idle", idle)
		if err := <-reached; err != nil {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if d := time.Since(start); d > comesUp+7*time.Second {
			t.Errorf("reached after %v", d)
		}
	})
}

func newLatecomer(t *testing.T, net *simnet.Network) *latecomer {
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	at := peertest.Host(1).String() + ":4242"
	url := peer.URL{Node: key.ID(), Addr: at}
	l := &latecomer{url: url.String(), key: key, early: newNode(t, peer.Config{Identity: key, PacketConn: listen(t, net, 0)})}
	url.Service = "idle"
	l.peer = url.String()
	register(t, l.early, "idle", idle)
	if l.idle, err = l.early.PeerAPI.StartLocalPeer(context.Background(), "idle"); err != nil {
		t.Fatal(err)
	}
	l.spare = listen(t, net, 2)
	return l
}

// listen returns the socket of a host.
func listen(t *testing.T, sim *simnet.Network, host int) net.PacketConn {
	t.Helper()
	socket, err := sim.Host(peertest.Host(host)).Listen(4242)
	if err != nil {
		t.Fatal(err)
	}
	return socket
}

func TestNameThatDoesNotExistIsNotTriedAgain(t *testing.T) {
	n := newNode(t, peer.Config{})
	start := time.Now()
	_, err := n.Connect(t.Context(), "nowhere.invalid:4242")
	wantIs(t, err, transport.ErrUnreachable)
	e, ok := errors.AsType[*net.DNSError](err)
	if !ok || !e.IsNotFound {
		t.Skipf("the resolver here does not say that a name does not exist: %v", err)
	}
	if d := time.Since(start); d > 9*time.Second {
		t.Errorf("gives up after %v", d)
	}
}
