package peer_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
)

func TestServiceNames(t *testing.T) {
	api := newNode(t, peer.Config{}).PeerAPI
	if err := api.RegisterPeerServiceFunc("echo", echo); err != nil {
		t.Fatal(err)
	}
	wantIs(t, api.RegisterPeerServiceFunc("echo", idle), peer.ErrDuplicateName)
	for _, name := range []string{"", "a/b", "-a", "ckt.node", "ckt.mine", strings.Repeat("x", 65)} {
		wantIs(t, api.RegisterPeerServiceFunc(name, echo), peer.ErrBadName)
	}
	if err := api.RegisterPeerServiceFunc("nil", nil); err == nil {
		t.Error("a service without a function is registered")
	}
	for _, name := range []string{"nothing", "ckt.node"} {
		if _, err := api.StartLocalPeer(t.Context(), name); !errors.Is(err, peer.ErrUnknownService) {
			t.Errorf("StartLocalPeer(%q): %v", name, err)
		}
	}
}

func TestAdvertisedAddress(t *testing.T) {
	addrOf := func(cfg peer.Config) string {
		t.Helper()
		u, err := peer.ParseURL(newNode(t, cfg).URL())
		if err != nil {
			t.Fatal(err)
		}
		return u.Addr
	}
	if got := addrOf(peer.Config{AdvertiseAddr: "Node.Example:0099"}); got != "node.example:99" {
		t.Errorf("as configured: %s", got)
	}
	ap, err := netip.ParseAddrPort(addrOf(peer.Config{ListenAddr: ":0"}))
	if err != nil || ap.Port() == 0 || ap.Addr().IsUnspecified() {
		t.Errorf("of a wildcard socket: %v, %v", ap, err)
	}
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if got := addrOf(peer.Config{PacketConn: socket}); got != socket.LocalAddr().String() {
		t.Errorf("of a given socket: %s", got)
	}

	given, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, err = peer.NewNode(peer.Config{PacketConn: given, AdvertiseAddr: "nonsense"})
	if _, ok := errors.AsType[*peer.URLError](err); !ok {
		t.Errorf("a bad address: %v", err)
	}
	if _, err := given.WriteTo([]byte{0}, given.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket was not closed: %v", err)
	}
}

func TestClosedNode(t *testing.T) {
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("echo", echo)
	a, b := nodes.Start(0, "echo"), nodes.Start(1, "echo")
	c := open(t, a, b.URL(), nil)
	n := nodes.Nodes[0]
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	wantIs(t, causeOf(t, c), circuit.ErrClosed)
	wantIs(t, context.Cause(a.Context()), peer.ErrNodeClosed)
	_, err := n.PeerAPI.StartLocalPeer(t.Context(), "echo")
	wantIs(t, err, peer.ErrNodeClosed)
	_, err = n.Connect(t.Context(), nodes.Nodes[1].URL())
	wantIs(t, err, peer.ErrNodeClosed)
	_, _, err = a.NewCircuitToPeerURL(b.URL(), nil, 0)
	wantIs(t, err, peer.ErrNodeClosed)
	eventually(t, "the other node forgets it", func() bool {
		return len(nodes.Nodes[1].Listing().Links) == 0 && b.OpenCircuitCount() == 0
	})
}

func TestWhatWasSentBeforeCloseIsDelivered(t *testing.T) {
	nodes, there := peertest.NewCluster(t, 2), newStage()
	nodes.Register("stage", there.serve)
	a, b := nodes.Start(0, "stage"), nodes.Start(1, "stage")
	c := open(t, a, b.URL(), nil)
	taken := there.next(t)
	const count = 300
	for i := range count {
		if err := c.SendOneWay(&circuit.Fragment{FragPart: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := nodes.Nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if f := receive(t, taken.Reads, "a fragment sent before the close"); f.FragPart != int64(i) {
			t.Fatalf("fragment %d comes as number %d", f.FragPart, i)
		}
	}
	checkReason(t, 0, causeOf(t, taken), peer.ErrNodeClosed.Error()) // nobody has said that this is all
}

func TestPolicyThatPanics(t *testing.T) {
	srv := newNode(t, peer.Config{Authorize: func(peer.Request) error { panic("at the disco") }})
	cli := newNode(t, peer.Config{})
	if _, err := cli.Connect(t.Context(), srv.URL()); err == nil {
		t.Fatal("it allows")
	}
}
