package peer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// wantLimit checks that err is the other side's no for a limit, and says which
// one, its value, whose it is, and what to do.
func wantLimit(t *testing.T, err error, what string, value int64) {
	t.Helper()
	refused := wantRefused(t, err, circuit.RefusedLimit)
	e, ok := errors.AsType[*transport.LimitError](err)
	if !ok || e.What != what || e.Limit != value || !e.Remote {
		t.Fatalf("got %+v in %v, want a limit of %d %s of the other side", e, err, value, what)
	}
	if !strings.Contains(refused.Reason, "limit raised there") {
		t.Errorf("the reason does not say what to do: %q", refused.Reason)
	}
}

// startOn returns how node i of a cluster starts a peer on node 0.
func startOn(t *testing.T, nodes *peertest.Cluster, i int, service string) func() error {
	return func() error {
		_, _, err := nodes.Nodes[i].PeerAPI.StartRemotePeer(t.Context(), service, nodes.Nodes[0].URL(), 0)
		return err
	}
}

// must repeats what has to succeed.
func must(t *testing.T, n int, do func() error) {
	t.Helper()
	for i := range n {
		if err := do(); err != nil {
			t.Fatalf("try %d of %d: %v", i+1, n, err)
		}
	}
}

func TestLimitsOnStartedPeers(t *testing.T) {
	nodes := peertest.Config{Limits: limit.Limits{Peer: limit.Peer{Started: 5, StartedPerNode: 3}}}.NewCluster(t, 4)
	nodes.Register("idle", idle)
	must(t, 3, startOn(t, nodes, 1, "idle"))
	// The one that has reached its bound is told so, by both ways to start.
	wantLimit(t, startOn(t, nodes, 1, "idle")(), "started peers of one node", 3)
	nodes.Register("other", idle)
	_, _, err := nodes.Start(1, "idle").NewCircuitToPeerURL(peer.URL{Node: nodes.Nodes[0].ID(), Service: "other"}.String(), nil, 0)
	wantLimit(t, err, "started peers of one node", 3)
	// Another one has room of its own, up to the bound on all.
	must(t, 2, startOn(t, nodes, 2, "idle"))
	wantLimit(t, startOn(t, nodes, 2, "idle")(), "started peers", 5)
	wantLimit(t, startOn(t, nodes, 3, "idle")(), "started peers", 5)
	// What this node starts itself does not count, however it asks.
	for range 5 {
		nodes.Start(0, "idle")
		if _, _, err := nodes.Nodes[0].PeerAPI.StartRemotePeer(t.Context(), "idle", nodes.Nodes[0].URL(), 0); err != nil {
			t.Fatal(err)
		}
	}
	// What its service has left makes room, and is there for anybody.
	for _, p := range nodes.Nodes[0].Listing().Peers {
		if p.StartedBy == nodes.Nodes[1].ID() {
			u := peer.URL{Node: nodes.Nodes[0].ID(), Service: p.Service, PeerID: idOf(t, p.PeerID)}
			if err := nodes.Nodes[1].PeerAPI.StopRemotePeer(t.Context(), u.String()); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "there is room", func() bool { return startOn(t, nodes, 3, "idle")() == nil })
}

func idOf(t *testing.T, text string) circuit.ID {
	t.Helper()
	id, err := circuit.ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A service that does not return keeps its place, also when its peer has ended.
func TestPeerCountsUntilItsServiceReturns(t *testing.T) {
	leave := make(chan struct{})
	nodes := peertest.Config{Limits: limit.Limits{Peer: limit.Peer{StartedPerNode: 1}}}.NewCluster(t, 2)
	nodes.Register("slow", func(_ *peer.LocalPeer, ctx0 context.Context, _ <-chan *circuit.Circuit) error {
		<-ctx0.Done()
		<-leave
		return nil
	})
	start := func() (string, error) {
		url, _, err := nodes.Nodes[1].PeerAPI.StartRemotePeer(t.Context(), "slow", nodes.Nodes[0].URL(), 0)
		return url, err
	}
	url, err := start()
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes.Nodes[1].PeerAPI.StopRemotePeer(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	_, err = start()
	wantLimit(t, err, "started peers of one node", 1)
	close(leave)
	eventually(t, "there is room", func() bool { _, err := start(); return err == nil })
}

func TestLimitOnStartsPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := peertest.SimConfig{Limits: limit.Limits{Peer: limit.Peer{StartsPerSecond: 4, Started: -1, StartedPerNode: -1}}}
		sim := cfg.NewSim(t, 1)
		setup := func(n *peer.Node) { register(t, n, "idle", idle) }
		there, flood, honest := sim.NewHost(setup), sim.NewHost(setup), sim.NewHost(setup)
		start := func(h *peertest.SimHost, service string) error {
			_, _, err := h.Node().PeerAPI.StartRemotePeer(t.Context(), service, there.URL(""), 0)
			return err
		}
		// The rate is that of requests, whatever becomes of them.
		refused, ok := 0, 0
		for began := time.Now(); time.Since(began) < 5*time.Second; {
			err := start(flood, "idle")
			if err == nil {
				ok++
				wantRefusedOrNil(t, start(flood, "unknown"), circuit.RefusedUnknownService)
				continue
			}
			wantLimit(t, err, "starts per second of one node", 4)
			refused++
			if err := start(honest, "idle"); err != nil && refused%50 == 1 {
				t.Errorf("the honest node is refused: %v", err)
			}
			time.Sleep(250 * time.Millisecond)
		}
		if ok > 24 || ok < 8 || refused < 3 {
			t.Errorf("%d starts and %d refusals in 5 s, at a rate of 4 requests", ok, refused)
		}
	})
}

func wantRefusedOrNil(t *testing.T, err error, code circuit.RefuseCode) {
	t.Helper()
	if refused, ok := errors.AsType[*circuit.RefusedError](err); ok && refused.Code == circuit.RefusedLimit {
		return
	}
	wantRefused(t, err, code)
}

func TestLimitsOnNamesAndURLs(t *testing.T) {
	nodes := peertest.Config{Adjust: func(i int, cfg *peer.Config) {
		if i == 0 {
			cfg.Limits.Peer = limit.Peer{Name: 6, URL: 100}
		}
	}}.NewCluster(t, 2)
	nodes.Register("sixsix", idle)
	nodes.Register("sevenup", idle)
	must(t, 1, startOn(t, nodes, 1, "sixsix"))
	wantLimit(t, startOn(t, nodes, 1, "sevenup")(), "service name bytes", 6)
	caller := nodes.Start(1, "sixsix")
	_, _, err := caller.NewCircuitToPeerURL(nodes.Start(0, "sevenup").URL(), nil, 0) // the node itself may name it so
	wantLimit(t, err, "service name bytes", 6)
	// The library's own service is out of it.
	if _, err := nodes.Nodes[1].PeerAPI.List(t.Context(), nodes.Nodes[0].URL()); err != nil {
		t.Error(err)
	}

	long := caller.URL() + "/" + strings.Repeat("y", 26)
	_, connectErr := nodes.Nodes[0].Connect(t.Context(), long)
	_, _, openErr := nodes.Start(0, "sixsix").NewCircuitToPeerURL(long, nil, 0)
	stopErr := nodes.Nodes[0].PeerAPI.StopRemotePeer(t.Context(), long)
	for _, err := range []error{connectErr, openErr, stopErr} {
		e, ok := errors.AsType[*peer.URLError](err)
		if !ok || e.Limit == nil || *e.Limit != (transport.LimitError{What: "url bytes", Size: int64(len(long)), Limit: 100}) {
			t.Errorf("got %T %v", err, err)
		}
		if _, ok := errors.AsType[*transport.LimitError](err); !ok {
			t.Errorf("no LimitError in %v", err)
		}
	}
}

// In virtual time: a rate forgets what was asked for within a second.
func TestLimitsAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.SimConfig{Limits: limit.Limits{Peer: limit.Peer{StartedPerNode: 2, StartsPerSecond: 4}}}.NewSim(t, 1)
		setup := func(n *peer.Node) { register(t, n, "idle", idle) }
		there, asking := sim.NewHost(setup), sim.NewHost(setup)
		start := func() error {
			_, _, err := asking.Node().PeerAPI.StartRemotePeer(t.Context(), "idle", there.URL(""), 0)
			return err
		}
		must(t, 2, start)
		wantLimit(t, start(), "started peers of one node", 2)
		there.StartPeer("idle")

		rows, err := asking.Node().PeerAPI.Limits(t.Context(), there.URL(""))
		if err != nil {
			t.Fatal(err)
		}
		row := func(what string) limit.Use {
			i := slices.IndexFunc(rows, func(u limit.Use) bool { return u.What == what })
			if i < 0 {
				t.Fatalf("no row %q in %+v", what, rows)
			}
			return rows[i]
		}
		asker := asking.Node().ID()
		if got, want := row("started peers"), (limit.Use{What: "started peers", Used: 2, Limit: 4096, Top: asker, TopUsed: 2, PerNode: 2, Refused: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got := row("circuits"); got.Used < 1 || got.Top != asker {
			t.Errorf("the circuit that asks is not counted: %+v", got)
		}
		if got := row("connections"); got.Used != 1 || got.Top != asker {
			t.Errorf("connections: %+v", got)
		}
		if got := row("running peers"); got.Used != 3 || got.Limit != 0 {
			t.Errorf("running peers: %+v", got)
		}
		if got := row("links"); got.Used != 1 {
			t.Errorf("links: %+v", got)
		}
		if got := row("starts per second"); got.PerNode != 4 || got.TopUsed < 1 || got.Top != asker {
			t.Errorf("starts: %+v", got)
		}
		if got, want := len(there.Node().Limits()), len(rows); got != want {
			t.Errorf("%d rows here, %d there", got, want)
		}
	})
}

func TestLimitsAreForThoseWhoMayList(t *testing.T) {
	h := newFileHouse(t)
	h.allow(t, identity.Entry{ID: h.id(echoOnly), Services: []string{"echo"}})
	_, err := h.Nodes[echoOnly].PeerAPI.Limits(t.Context(), h.Nodes[server].URL())
	wantRefused(t, err, circuit.RefusedUnauthorized)
}
