package peer_test

import (
	"errors"
	"testing"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport/identity"
)

func TestPeerStartedRemotelyIsStopped(t *testing.T) {
	nodes, stage := peertest.NewCluster(t, 2), newStage()
	nodes.Register("stage", stage.serve)
	nodes.Register("idle", idle)
	api, there := nodes.Nodes[0].PeerAPI, nodes.Nodes[1]
	url, _, err := api.StartRemotePeer(t.Context(), "stage", there.URL(), 0)
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, nodes.Start(0, "idle"), url, nil)
	if err := stage.next(t).SendOneWay(&circuit.Fragment{FragSubject: "last words"}); err != nil {
		t.Fatal(err)
	}
	if err := api.StopRemotePeer(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if f := receive(t, c.Reads, "what was sent before"); f.FragSubject != "last words" {
		t.Errorf("got %+v", f)
	}
	checkReason(t, 0, causeOf(t, c), "")
	if n := len(there.Listing().Peers); n != 0 {
		t.Errorf("%d peers run there", n)
	}
	refused := wantRefused(t, api.StopRemotePeer(t.Context(), url), circuit.RefusedUnknownPeer)
	if refused.Service != "stage" || refused.Node != there.ID() {
		t.Errorf("got %+v", refused)
	}
}

func TestStoppingMakesRoom(t *testing.T) {
	nodes := peertest.Config{Adjust: func(_ int, cfg *peer.Config) { cfg.Limits.Peer.StartedPerNode = 2 }}.NewCluster(t, 2)
	nodes.Register("idle", idle)
	api, there := nodes.Nodes[0].PeerAPI, nodes.Nodes[1].URL()
	start := func() (string, error) {
		url, _, err := api.StartRemotePeer(t.Context(), "idle", there, 0)
		return url, err
	}
	var last string
	for range 2 {
		url, err := start()
		if err != nil {
			t.Fatal(err)
		}
		last = url
	}
	_, err := start()
	refused := wantRefused(t, err, circuit.RefusedLimit)
	const reason = "the limit is 2 started peers of one node: stop some that are running, or have the limit raised there"
	if refused.Reason != reason {
		t.Errorf("reason: %s", refused.Reason)
	}
	if err := api.StopRemotePeer(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is room", func() bool {
		_, err := start()
		return err == nil
	})
}

// The nodes that ask the first one to stop peers.
const (
	starter  = iota + 1 // has started the peer
	mayOpen             // may open circuits to it
	mayOther            // may do everything but that
	sameKey             // has the key of the first
)

func TestWhoMayStopAPeer(t *testing.T) {
	var first peer.Config
	nodes := peertest.Config{
		Connect: func(i, j int) bool { return i == 0 && j != sameKey },
		Adjust: func(i int, cfg *peer.Config) {
			switch i {
			case 0:
				first = *cfg
			case sameKey:
				cfg.Identity = first.Identity
			}
		},
	}
	var barred identity.NodeID
	nodes.Authorize = func(r peer.Request) error {
		if r.Service == "idle" && r.Node == barred {
			return errors.New("not this one")
		}
		return nil
	}
	house := nodes.NewCluster(t, 5)
	barred = house.Nodes[mayOther].ID()
	house.Register("idle", idle)
	there := house.Nodes[0].URL()
	url, _, err := house.Nodes[starter].PeerAPI.StartRemotePeer(t.Context(), "idle", there, 0)
	if err != nil {
		t.Fatal(err)
	}
	local := house.Start(0, "idle")
	stop := func(who int, url string) error { return house.Nodes[who].PeerAPI.StopRemotePeer(t.Context(), url) }

	wantRefused(t, stop(mayOpen, url), circuit.RefusedUnauthorized)
	wantRefused(t, stop(mayOther, url), circuit.RefusedUnknownPeer)
	wantRefused(t, stop(starter, local.URL()), circuit.RefusedUnauthorized)
	nobody := there + "/idle/" + circuit.NewID().String()
	for _, who := range []int{starter, mayOpen, mayOther, sameKey} {
		wantRefused(t, stop(who, nobody), circuit.RefusedUnknownPeer)
	}
	if n := len(house.Nodes[0].Listing().Peers); n != 2 {
		t.Fatalf("%d peers run, want both", n)
	}
	for _, mine := range []struct {
		who int
		url string
	}{{starter, url}, {sameKey, local.URL()}, {0, house.Start(0, "idle").URL()}} {
		if err := stop(mine.who, mine.url); err != nil {
			t.Errorf("node %d: %v", mine.who, err)
		}
	}
	if n := len(house.Nodes[0].Listing().Peers); n != 0 {
		t.Errorf("%d peers run, want none", n)
	}
}

func TestStopOfWhatIsNoPeer(t *testing.T) {
	nodes := peertest.NewCluster(t, 2)
	nodes.Register("idle", idle)
	api, there := nodes.Nodes[0].PeerAPI, nodes.Nodes[1].URL()
	for _, bad := range []struct{ name, url string }{
		{"empty", ""},
		{"a node", there},
		{"a service", there + "/idle"},
		{"a circuit", nodes.Start(1, "idle").URL() + "/" + circuit.NewID().String()},
	} {
		t.Run(bad.name, func(t *testing.T) {
			err := api.StopRemotePeer(t.Context(), bad.url)
			if e, ok := errors.AsType[*peer.URLError](err); !ok {
				t.Errorf("got %T %v", e, err)
			}
		})
	}
}
