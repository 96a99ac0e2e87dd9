package peer_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

func TestTwoPeersOnOneNode(t *testing.T) {
	n := newNode(t, peer.Config{})
	register(t, n, "echo", echo)
	register(t, n, "idle", idle)
	a, err := n.PeerAPI.StartLocalPeer(t.Context(), "idle")
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.PeerAPI.StartLocalPeer(t.Context(), "echo")
	if err != nil {
		t.Fatal(err)
	}
	noAddr := peer.URL{Node: n.ID()}.String() + "/echo/" + b.PeerID()
	for _, url := range []string{b.URL(), noAddr, n.URL() + "/echo"} {
		c := open(t, a, url, nil)
		if got := say(t, c, "to myself"); got != "to myself" || c.RemotePeerID() != b.PeerID() || c.RemoteNodeID() != n.ID() {
			t.Errorf("%s: %q from %s", url, got, c.RemotePeerID())
		}
		big := bytes.Repeat([]byte("x"), 1<<20)
		if got := say(t, c, string(big)); got != string(big) {
			t.Errorf("%s: a large fragment comes back changed", url)
		}
		c.Close()
	}
	_, _, err = a.NewCircuitToPeerURL(n.URL()+"/nothing", nil, 0)
	wantRefused(t, err, circuit.RefusedUnknownService)
	for _, addr := range []string{n.URL(), n.ID().String(), n.Addr().String()} {
		url, _, err := n.PeerAPI.StartRemotePeer(t.Context(), "echo", addr, 0)
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		say(t, open(t, a, url, nil), "again")
		if err := n.PeerAPI.Ping(t.Context(), addr, 3, func(time.Duration) {}); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	other, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.Connect(t.Context(), peer.URL{Node: other.ID(), Addr: n.Addr().String()}.String())
	if wrong, ok := errors.AsType[*transport.WrongKeyError](err); !ok {
		t.Errorf("another ID at this node's address: %T %v", wrong, err)
	}
	if links := n.Listing().Links; len(links) != 0 {
		t.Errorf("connections: %v", links)
	}
	c := open(t, a, b.URL(), nil)
	b.CloseWith(errors.New("had enough"))
	checkReason(t, 0, causeOf(t, c), "had enough")
}
