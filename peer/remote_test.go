package peer_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

func TestRemoteStartsThatAreRefused(t *testing.T) {
	onlyEcho := func(r peer.Request) error {
		if r.Action == peer.ActionStart && r.Service != "echo" {
			return errors.New("only echo")
		}
		return nil
	}
	nodes := peertest.Config{Authorize: onlyEcho}.NewCluster(t, 2)
	nodes.Register("echo", echo)
	nodes.Register("secret", echo)
	here, there := nodes.Nodes[0], nodes.Nodes[1]
	for _, bad := range []struct {
		name, service string
		code          circuit.RefuseCode
	}{
		{"a service that this key may not start", "secret", circuit.RefusedUnauthorized},
		{"an unknown service looks the same to it", "nothing", circuit.RefusedUnauthorized},
		{"the library's own service", "ckt.node", circuit.RefusedUnauthorized},
		{"no name at all", "a b", circuit.RefusedBadRequest},
	} {
		t.Run(bad.name, func(t *testing.T) {
			_, _, err := here.PeerAPI.StartRemotePeer(t.Context(), bad.service, there.URL(), 0)
			refused := wantRefused(t, err, bad.code)
			if refused.Node != there.ID() || refused.Service != bad.service {
				t.Errorf("got %+v", refused)
			}
		})
	}
	// A key that may start everything is told the truth.
	all := peertest.NewCluster(t, 2)
	_, _, err := all.Nodes[0].PeerAPI.StartRemotePeer(t.Context(), "nothing", all.Nodes[1].URL(), 0)
	wantRefused(t, err, circuit.RefusedUnknownService)
	if n := len(there.Listing().Peers); n != 0 {
		t.Errorf("%d peers run there", n)
	}
}

func TestEachRemoteStartIsANewPeer(t *testing.T) {
	nodes := peertest.Config{Adjust: func(_ int, cfg *peer.Config) { cfg.Limits.Peer.StartedPerNode = 3 }}.NewCluster(t, 2)
	stage := newStage()
	nodes.Register("stage", stage.serve)
	here, there := nodes.Nodes[0], nodes.Nodes[1]
	start := func() (string, error) {
		_, id, err := here.PeerAPI.StartRemotePeer(t.Context(), "stage", there.URL(), 0)
		return id, err
	}
	seen := map[string]bool{}
	for range 3 {
		id, err := start()
		if err != nil || seen[id] {
			t.Fatalf("got %q, %v", id, err)
		}
		seen[id] = true
	}
	_, err := start()
	wantRefused(t, err, circuit.RefusedLimit)
	// Peers of the node's own do not count.
	if _, err := there.PeerAPI.StartLocalPeer(t.Context(), "stage"); err != nil {
		t.Fatal(err)
	}
	if n := len(there.Listing().Peers); n != 4 {
		t.Fatalf("%d peers, want 4", n)
	}
	// One of the three at least is among any two that end, and makes room.
	stage.end <- nil
	stage.end <- nil
	eventually(t, "there is room", func() bool {
		_, err := start()
		return err == nil
	})
}

func TestPeerOutlivesTheNodeThatStartedIt(t *testing.T) {
	nodes := peertest.NewCluster(t, 3)
	nodes.Register("echo", echo)
	url, id, err := nodes.Nodes[0].PeerAPI.StartRemotePeer(t.Context(), "echo", nodes.Nodes[1].URL(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes.Nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is gone", func() bool { return len(nodes.Nodes[1].Listing().Links) == 1 })
	c := open(t, nodes.Start(2, "echo"), url, nil)
	if got := say(t, c, "alive"); got != "alive" || c.RemotePeerID() != id {
		t.Fatalf("got %q from %s", got, c.RemotePeerID())
	}
}

func TestStartRemotePeerWaitsForTheNode(t *testing.T) {
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := socket.LocalAddr().String()
	here := newNode(t, peer.Config{Identity: key})

	// Nobody answers: the error comes when the time is over, not before.
	_, _, err = here.PeerAPI.StartRemotePeer(t.Context(), "echo", addr, 300*time.Millisecond)
	wantIs(t, err, transport.ErrUnreachable)

	// Somebody answers late.
	type result struct {
		url string
		err error
	}
	started := make(chan result)
	go func() {
		url, _, err := here.PeerAPI.StartRemotePeer(t.Context(), "echo", addr, patience)
		started <- result{url, err}
	}()
	there := newNode(t, peer.Config{Identity: key, PacketConn: socket})
	register(t, there, "echo", echo)
	r := receive(t, started, "the peer is started")
	for refused, ok := errors.AsType[*circuit.RefusedError](r.err); ok; refused, ok = errors.AsType[*circuit.RefusedError](r.err) {
		if refused.Code != circuit.RefusedUnknownService { // it was faster than register
			t.Fatal(r.err)
		}
		r.url, _, r.err = here.PeerAPI.StartRemotePeer(t.Context(), "echo", addr, patience)
	}
	if r.err != nil {
		t.Fatal(r.err)
	}

	// The caller's own context counts too, and says why.
	left := errors.New("went home")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(left)
	_, _, err = here.PeerAPI.StartRemotePeer(ctx, "echo", "127.0.0.1:1", -1)
	wantIs(t, err, left)
}

func TestAddressesThatLeadNowhere(t *testing.T) {
	here, there := newNode(t, peer.Config{}), newNode(t, peer.Config{})
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	stranger := key.ID()
	wrong := peer.URL{Node: stranger, Addr: there.Addr().String()}
	for _, bad := range []struct {
		name, addr string
		is         func(error) bool
	}{
		{"an ID that is not connected", stranger.String(), func(err error) bool { return errors.Is(err, peer.ErrNotConnected) }},
		{"a URL without an address", peer.URL{Node: stranger}.String(), func(err error) bool { return errors.Is(err, peer.ErrNotConnected) }},
		{"another node at the address", wrong.String(), func(err error) bool {
			e, ok := errors.AsType[*transport.WrongKeyError](err)
			return ok && identity.NodeIDOf(e.Got) == there.ID()
		}},
		{"a node that does not know this key", there.URL(), func(err error) bool {
			e, ok := errors.AsType[*transport.RemoteError](err)
			return ok && e.Code == transport.CodeRefused
		}},
		{"a node that this one does not know", there.Addr().String(), func(err error) bool {
			e, ok := errors.AsType[*transport.UnauthorizedError](err)
			return ok && identity.NodeIDOf(e.Key) == there.ID()
		}},
		{"no address", "nowhere", func(err error) bool { _, ok := errors.AsType[*peer.URLError](err); return ok }},
		{"no port", "127.0.0.1:0", func(err error) bool { _, ok := errors.AsType[*peer.URLError](err); return ok }},
	} {
		t.Run(bad.name, func(t *testing.T) {
			if _, err := here.Connect(t.Context(), bad.addr); !bad.is(err) {
				t.Errorf("Connect: %T %v", err, err)
			}
			if _, _, err := here.PeerAPI.StartRemotePeer(t.Context(), "echo", bad.addr, 0); !bad.is(err) {
				t.Errorf("StartRemotePeer: %T %v", err, err)
			}
			if _, err := here.PeerAPI.List(t.Context(), bad.addr); !bad.is(err) {
				t.Errorf("List: %T %v", err, err)
			}
			if err := here.PeerAPI.Ping(t.Context(), bad.addr, 1, nil); !bad.is(err) {
				t.Errorf("Ping: %T %v", err, err)
			}
			if _, err := peer.NewClient(t.Context(), bad.addr, peer.Config{ListenAddr: "127.0.0.1:0"}); err == nil {
				t.Error("NewClient makes a node that is not connected")
			}
		})
	}
}
