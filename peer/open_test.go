package peer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/simnet"
)

func TestCircuitsBetweenLocalAndRemotePeers(t *testing.T) {
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("echo", echo)
	for _, way := range []struct {
		name     string
		from, to int
	}{
		{"from the node that dialled", 0, 1},
		{"from the node that was dialled", 1, 0},
	} {
		t.Run(way.name, func(t *testing.T) {
			from, to := nodes.Nodes[way.from], nodes.Nodes[way.to]
			mine := nodes.Start(way.from, "echo")

			// A peer that the other node has started itself.
			theirs := nodes.Start(way.to, "echo")
			c := open(t, mine, theirs.URL(), nil)
			if got := say(t, c, "hello"); got != "hello" {
				t.Fatalf("echo of a local peer: got %q", got)
			}
			if c.RemoteNodeID() != to.ID() || c.RemotePeerID() != theirs.PeerID() || c.LocalPeerID() != mine.PeerID() {
				t.Fatal("the circuit names other ends than it has")
			}

			// A peer that this node has started there, by each kind of address.
			for _, addr := range []string{to.Addr().String(), to.URL(), to.ID().String(), theirs.URL()} {
				url, id, err := from.PeerAPI.StartRemotePeer(t.Context(), "echo", addr, 0)
				if err != nil {
					t.Fatalf("starting a peer at %s: %v", addr, err)
				}
				u, err := peer.ParseURL(url)
				if err != nil || u.Node != to.ID() || u.PeerID.String() != id || u.Addr != to.Addr().String() || u.Service != "echo" {
					t.Fatalf("URL of the started peer: %s, %v", url, err)
				}
				c := open(t, mine, url, nil)
				if got := say(t, c, "hello there"); got != "hello there" || c.RemotePeerID() != id {
					t.Fatalf("echo of a remote peer: got %q from %s", got, c.RemotePeerID())
				}
			}
			if n := len(from.Listing().Links); n != 1 {
				t.Fatalf("%d connections, want the one that was there", n)
			}
		})
	}
}

func TestServerStartsPeersOnItsClient(t *testing.T) {
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	srv := newNode(t, peer.Config{Identity: key})
	cli, err := peer.NewClient(t.Context(), srv.Addr().String(), peer.Config{ListenAddr: "127.0.0.1:0", Identity: key})
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	if cli.RemoteAddr() != srv.Addr().String() || srv.RemoteAddr() != "" {
		t.Fatalf("remote addresses: %q at the client, %q at the server", cli.RemoteAddr(), srv.RemoteAddr())
	}
	register(t, srv, "caller", idle)
	register(t, cli, "echo", echo)
	url, _, err := srv.PeerAPI.StartRemotePeer(t.Context(), "echo", cli.URL(), 0)
	if err != nil {
		t.Fatal(err)
	}
	caller, err := srv.PeerAPI.StartLocalPeer(t.Context(), "caller")
	if err != nil {
		t.Fatal(err)
	}
	if got := say(t, open(t, caller, url, nil), "to the client"); got != "to the client" {
		t.Fatalf("got %q", got)
	}
	if s, c := len(srv.Listing().Links), len(cli.Listing().Links); s != 1 || c != 1 {
		t.Fatalf("%d and %d connections, want one", s, c)
	}
}

func TestFirstFragmentIsReadFirst(t *testing.T) {
	nodes, there := peertest.NewCluster(t, 2), newStage()
	nodes.Register("stage", there.serve)
	a, b := nodes.Start(0, "stage"), nodes.Start(1, "stage")
	for i := range 50 {
		c := open(t, a, b.URL(), &circuit.Fragment{FragSubject: "first", FragPart: int64(i)})
		if err := c.SendOneWay(&circuit.Fragment{FragSubject: "second"}); err != nil {
			t.Fatal(err)
		}
		taken := there.next(t)
		f := receive(t, taken.Reads, "the first fragment")
		if f.FragSubject != "first" || f.FragPart != int64(i) || f.Serial != 1 || f.Typ != circuit.CallFirst {
			t.Fatalf("opening %d: first comes %+v", i, f)
		}
		if f.FromPeerID != a.PeerID() || f.ToPeerID != b.PeerID() || f.ServiceName != "stage" {
			t.Fatalf("opening %d: stamped %+v", i, f)
		}
		if f := receive(t, taken.Reads, "the second fragment"); f.FragSubject != "second" {
			t.Fatalf("opening %d: then comes %+v", i, f)
		}
	}
}

func TestMoreCircuitsBetweenTheSamePeers(t *testing.T) {
	nodes, there := peertest.NewCluster(t, 2), newStage()
	nodes.Register("stage", there.serve)
	a, b := nodes.Start(0, "stage"), nodes.Start(1, "stage")
	c1 := open(t, a, b.URL(), nil)
	d1 := there.next(t)
	c2, _, err := c1.NewCircuit()
	if err != nil {
		t.Fatal(err)
	}
	there.next(t)
	// Either end may ask for more.
	d3, _, err := d1.NewCircuit()
	if err != nil {
		t.Fatal(err)
	}
	c3 := there.next(t)
	if c3.CircuitID() != d3.CircuitID() || c3.RemotePeerID() != b.PeerID() {
		t.Fatal("the third circuit leads elsewhere")
	}
	if n, m := a.OpenCircuitCount(), b.OpenCircuitCount(); n != 3 || m != 3 {
		t.Fatalf("%d and %d circuits, want 3", n, m)
	}
	c2.Close()
	eventually(t, "closing one of three leaves two", func() bool {
		return a.OpenCircuitCount() == 2 && b.OpenCircuitCount() == 2
	})
	if err := c1.SendOneWay(&circuit.Fragment{FragSubject: "still there"}); err != nil {
		t.Fatal(err)
	}
	if f := receive(t, d1.Reads, "a fragment on the first"); f.FragSubject != "still there" {
		t.Fatalf("got %+v", f)
	}
}

func TestOpeningWithoutPeerID(t *testing.T) {
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("echo", echo)
	mine := nodes.Start(0, "echo")
	url := nodes.Nodes[1].URL() + "/echo"
	first := open(t, mine, url, nil)
	second := open(t, mine, url, nil)
	if first.RemotePeerID() != second.RemotePeerID() {
		t.Fatal("the second opening does not lead to the peer that the first has started")
	}
	if got := say(t, second, "anyone"); got != "anyone" {
		t.Fatalf("got %q", got)
	}
	peers := nodes.Nodes[1].Listing().Peers
	if len(peers) != 1 || peers[0].StartedBy != nodes.Nodes[0].ID() || peers[0].Circuits != 2 {
		t.Fatalf("peers there: %+v", peers)
	}
}

func TestOpeningsThatAreRefused(t *testing.T) {
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("echo", echo)
	mine, theirs := nodes.Start(0, "echo"), nodes.Start(1, "echo")
	there := nodes.Nodes[1]
	kept := open(t, mine, theirs.URL(), nil)
	stale := nodes.Start(1, "echo")
	stale.Close()
	wait(t, stale.Done(), "the peer ends")
	for _, bad := range []struct {
		name, url string
		code      circuit.RefuseCode
	}{
		{"unknown service", there.URL() + "/nothing", circuit.RefusedUnknownService},
		{"stale peer ID", stale.URL(), circuit.RefusedUnknownPeer},
		{"peer of another service", fmt.Sprintf("%s/other/%s", there.URL(), theirs.PeerID()), circuit.RefusedUnknownPeer},
		{"peer ID of another node", fmt.Sprintf("%s/echo/%s", there.URL(), mine.PeerID()), circuit.RefusedUnknownPeer},
	} {
		t.Run(bad.name, func(t *testing.T) {
			_, _, err := mine.NewCircuitToPeerURL(bad.url, &circuit.Fragment{Payload: []byte("x")}, 0)
			refused := wantRefused(t, err, bad.code)
			if refused.Node != there.ID() {
				t.Errorf("refused by %v", refused.Node)
			}
			if got := say(t, kept, "still here"); got != "still here" {
				t.Errorf("the other circuit says %q", got)
			}
		})
	}
	if n := len(there.Listing().Peers); n != 1 {
		t.Errorf("%d peers run there, want the one", n)
	}
}

func TestURLsThatCannotBeOpened(t *testing.T) {
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("echo", echo)
	mine, theirs := nodes.Start(0, "echo"), nodes.Start(1, "echo")
	for _, bad := range []struct{ name, url string }{
		{"no URL", "nonsense"},
		{"no service", nodes.Nodes[1].URL()},
		{"a circuit", theirs.URL() + "/" + circuit.NewID().String()},
		{"empty", ""},
	} {
		t.Run(bad.name, func(t *testing.T) {
			_, _, err := mine.NewCircuitToPeerURL(bad.url, nil, 0)
			if e, ok := errors.AsType[*peer.URLError](err); !ok {
				t.Fatalf("got %T %v", e, err)
			}
		})
	}
}

func TestFirstFragmentOverTheLimit(t *testing.T) {
	nodes, there := peertest.Config{Limits: limit.Limits{Circuit: limit.Circuit{Payload: 1000}}}.NewCluster(t, 2), newStage()
	nodes.Register("stage", there.serve)
	a, b := nodes.Start(0, "stage"), nodes.Start(1, "stage")
	_, _, err := a.NewCircuitToPeerURL(b.URL(), &circuit.Fragment{Payload: make([]byte, 1001)}, 0)
	limit, ok := errors.AsType[*transport.LimitError](err)
	if !ok || limit.Limit != 1000 || limit.Size != 1001 {
		t.Fatalf("got %v", err)
	}
	// The next circuit is the first that the other side hears of.
	c := open(t, a, b.URL(), nil)
	if taken := there.next(t); taken.CircuitID() != c.CircuitID() {
		t.Fatal("something of the refused opening has arrived")
	}
	if n := a.OpenCircuitCount(); n != 1 {
		t.Fatalf("%d circuits, want 1", n)
	}
}

// In virtual time: the refusal has an eighth of the opener's patience for its way.
func TestServiceThatTakesNoCircuits(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, _ *simnet.Network, nodes *peertest.Cluster) {
		nodes.Register("echo", echo)
		release := make(chan struct{})
		nodes.Register("deaf", func(p *peer.LocalPeer, _ context.Context, _ <-chan *circuit.Circuit) error {
			<-release
			return nil
		})
		defer close(release)
		mine, deaf := nodes.Start(0, "echo"), nodes.Start(1, "deaf")
		for range 32 {
			open(t, mine, deaf.URL(), nil)
		}
		_, _, err := mine.NewCircuitToPeerURL(deaf.URL(), nil, 500*time.Millisecond)
		wantRefused(t, err, circuit.RefusedBusy)
		theirs := nodes.Start(1, "echo")
		if got := say(t, open(t, mine, theirs.URL(), nil), "others"); got != "others" {
			t.Fatalf("another peer of that node says %q", got)
		}
	})
}
