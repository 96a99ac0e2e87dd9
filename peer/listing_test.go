package peer_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
)

func TestListAndPing(t *testing.T) {
	nodes := peertest.NewCluster(t, 3)
	nodes.Register("echo", echo)
	here, there := nodes.Nodes[0], nodes.Nodes[1]
	mine, theirs := nodes.Start(0, "echo"), nodes.Start(1, "echo")
	c := open(t, mine, theirs.URL(), nil)
	say(t, c, "four")
	if _, _, err := here.PeerAPI.StartRemotePeer(t.Context(), "echo", there.URL(), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the echo is acknowledged", func() bool { return there.Listing().Circuits[0].Unacked == 0 })

	ls, err := here.PeerAPI.List(t.Context(), there.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if ls.Node != there.ID() || ls.Addr != there.Addr().String() || ls.At.Before(ls.Started) {
		t.Errorf("head: %+v", ls)
	}
	if len(ls.Peers) != 2 || ls.Peers[0].PeerID != theirs.PeerID() || ls.Peers[0].Circuits != 1 ||
		!ls.Peers[0].StartedBy.IsZero() || ls.Peers[1].StartedBy != here.ID() || ls.Peers[1].Service != "echo" {
		t.Errorf("peers: %+v", ls.Peers)
	}
	if len(ls.Links) != 2 || ls.Links[0].Node != here.ID() || ls.Links[0].Addr != here.Addr().String() || ls.Links[0].Dialed {
		t.Errorf("connections: %+v", ls.Links)
	}
	if len(ls.Circuits) != 1 {
		t.Fatalf("circuits: %+v", ls.Circuits)
	}
	got := ls.Circuits[0]
	if got.CircuitID != c.CircuitID() || got.Service != "echo" || got.RemoteService != "echo" || got.RemoteNode != here.ID() ||
		got.LocalPeerID != theirs.PeerID() || got.RemotePeerID != mine.PeerID() ||
		got.FragmentsRcv != 1 || got.FragmentsSent != 1 || got.BytesRcv != 4 || got.BytesSent != 4 || got.Unread != 0 {
		t.Errorf("circuit: %+v", got)
	}
	if age := ls.At.Sub(got.Opened); age < 0 || age > patience {
		t.Errorf("the circuit is %v old", age)
	}

	var rtts []time.Duration
	if err := here.PeerAPI.Ping(t.Context(), there.ID().String(), 10, func(d time.Duration) { rtts = append(rtts, d) }); err != nil {
		t.Fatal(err)
	}
	if len(rtts) != 10 || rtts[0] <= 0 {
		t.Errorf("round trips: %v", rtts)
	}
}

func TestListingOfManyCircuits(t *testing.T) {
	const count = 2000
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("idle", idle)
	mine, theirs := nodes.Start(0, "idle"), nodes.Start(1, "idle")
	for range count {
		open(t, mine, theirs.URL(), nil)
	}
	ls, err := nodes.Nodes[0].PeerAPI.List(t.Context(), nodes.Nodes[1].URL())
	if err != nil {
		t.Fatal(err)
	}
	if len(ls.Circuits) != count {
		t.Errorf("%d circuits, want %d", len(ls.Circuits), count)
	}
}

func TestMalformedRequestsToTheNodeService(t *testing.T) {
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("idle", idle)
	mine := nodes.Start(0, "idle")
	c := open(t, mine, nodes.Nodes[1].URL()+"/ckt.node", nil)
	for _, bad := range []struct {
		name string
		f    circuit.Fragment
	}{
		{"no operation", circuit.Fragment{}},
		{"unknown operation", circuit.Fragment{FragOp: 4711}},
		{"negative operation", circuit.Fragment{FragOp: -1, FragPart: -1}},
		{"start of nothing", circuit.Fragment{FragOp: 3}},
		{"stop of nothing", circuit.Fragment{FragOp: 7}},
		{"stop of nonsense", circuit.Fragment{FragOp: 7, Args: map[string]string{"peer": "echo"}}},
		{"start of nonsense", circuit.Fragment{FragOp: 3, Args: map[string]string{"service": "../../etc"}}},
	} {
		t.Run(bad.name, func(t *testing.T) {
			if err := c.Send(t.Context(), &bad.f); err != nil {
				t.Fatal(err)
			}
			f := receive(t, c.Reads, "the answer")
			if f.FragOp != 1 || f.Args["code"] != "7" || f.FragPart != bad.f.FragPart {
				t.Errorf("got %+v", f)
			}
		})
	}
	if err := nodes.Nodes[0].PeerAPI.Ping(t.Context(), nodes.Nodes[1].URL(), 1, func(time.Duration) {}); err != nil {
		t.Error(err)
	}
}

// TestListingOfWhatIsDetached looks at both ends of circuits that lose their
// connection, get another one, and lose that for good.
func TestListingOfWhatIsDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const linger = 30 * time.Second
		sim := peertest.SimConfig{Circuit: circuit.Config{Linger: linger}}.NewSim(t, 1)
		setup := func(n *peer.Node) { register(t, n, "echo", echo) }
		a, b := sim.NewHost(setup), sim.NewHost(setup)
		caller := a.StartPeer("echo")
		c := open(t, caller, b.URL("echo"), nil)
		open(t, caller, b.URL("echo"), nil)
		say(t, c, "before")
		time.Sleep(time.Second)
		for _, h := range sim.Hosts() {
			wantAttached(t, h, 1)
		}

		cut := time.Now()
		sim.Partition(a, b)
		if err := c.Send(t.Context(), &circuit.Fragment{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		for _, h := range sim.Hosts() {
			wantDetached(t, h, cut)
		}
		sim.Rejoin(a, b)
		time.Sleep(6 * time.Second)
		for _, h := range sim.Hosts() {
			wantAttached(t, h, 2)
		}
		if got := a.Node().Listing().Circuits[0]; got.Replayed != 1 || got.FragmentsSent != 2 || got.Unacked != 0 {
			t.Errorf("the fragment that was lost: %+v", got)
		}

		sim.Partition(a, b)
		time.Sleep(5*time.Second + linger + 5*time.Second)
		for _, h := range sim.Hosts() {
			if ls := h.Node().Listing(); len(ls.Links) != 0 || len(ls.Circuits) != 0 {
				t.Errorf("%v, after linger: %+v", h, ls)
			}
		}
	})
}

func wantAttached(t *testing.T, h *peertest.SimHost, attachments int) {
	t.Helper()
	ls := h.Node().Listing()
	if len(ls.Links) != 1 || len(ls.Circuits) != 2 {
		t.Fatalf("%v: %+v", h, ls)
	}
	if l := ls.Links[0]; !l.Attached || !l.Lost.IsZero() || l.Circuits != 2 {
		t.Errorf("%v: connection: %+v", h, l)
	}
	for _, c := range ls.Circuits {
		if !c.Attached || c.Ended || c.Attachments != attachments || ls.At.Sub(c.Since) > 10*time.Second {
			t.Errorf("%v: circuit: %+v", h, c)
		}
	}
}

func wantDetached(t *testing.T, h *peertest.SimHost, cut time.Time) {
	t.Helper()
	known := func(since time.Time) bool {
		after := since.Sub(cut)
		return after > 4*time.Second && after < 7*time.Second // the silence that makes it known
	}
	ls := h.Node().Listing()
	if len(ls.Links) != 1 || len(ls.Circuits) != 2 {
		t.Fatalf("%v: %+v", h, ls)
	}
	if l := ls.Links[0]; l.Attached || !known(l.Lost) || l.Circuits != 2 {
		t.Errorf("%v: connection, %v after the cut: %+v", h, l.Lost.Sub(cut), l)
	}
	for _, c := range ls.Circuits {
		if c.Attached || c.Ended || !known(c.Since) || c.Attachments != 1 {
			t.Errorf("%v: circuit, %v after the cut: %+v", h, c.Since.Sub(cut), c)
		}
	}
}
