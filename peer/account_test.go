package peer_test

import (
	"errors"
	"path/filepath"
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
	"ckt.local/transport/simnet"
)

// heirs are nodes whose keys all take the place of one, with a peer each.
func heirs(t *testing.T, there *peer.Node, old *identity.Key, n int) (nodes []*peer.Node, peers []*peer.LocalPeer) {
	t.Helper()
	for range n {
		next := newKey(t)
		h := newNode(t, peer.Config{Identity: next, Rotation: rotated(t, old, next, 2*time.Hour), Authorize: peer.AllowNodes(there.ID())})
		register(t, h, "idle", idle)
		p, err := h.PeerAPI.StartLocalPeer(t.Context(), "idle")
		if err != nil {
			t.Fatal(err)
		}
		nodes, peers = append(nodes, h), append(peers, p)
	}
	return nodes, peers
}

// A key that signs statements for any number of new ones has no more than it
// would have itself.
func TestHeirsOfAKeyShareItsAccount(t *testing.T) {
	old := newKey(t)
	there := newNode(t, peer.Config{Authorize: peer.AllowNodes(old.ID()), Limits: limit.Limits{
		Peer:    limit.Peer{StartedPerNode: 2},
		Circuit: limit.Circuit{CircuitsPerNode: 5},
	}})
	register(t, there, "idle", idle)
	hosts, peers := heirs(t, there, old, 3)
	var url string
	for i, h := range hosts {
		u, _, err := h.PeerAPI.StartRemotePeer(t.Context(), "idle", there.URL(), 0)
		if i < 2 && err != nil {
			t.Fatalf("heir %d: %v", i, err)
		}
		if i < 2 {
			url = u
			continue
		}
		wantLimit(t, err, "started peers of one node", 2)
	}
	// Circuits to ckt.node, by which they have asked, go on for a moment.
	eventually(t, "nothing is open", func() bool { return there.Limits()[limit.Circuits].Used == 0 })
	for i := range 5 {
		open(t, peers[i%3], url, nil)
	}
	for _, p := range peers {
		_, _, err := p.NewCircuitToPeerURL(url, nil, 0)
		wantLimit(t, err, "circuits of one node", 5)
	}
	if u := there.Limits()[limit.Circuits]; u.Top != old.ID() || u.TopUsed != 5 {
		t.Errorf("the account: %+v, want 5 of the old key", u)
	}
	// The key itself is in the same account.
	owner := newNode(t, peer.Config{Identity: old, Authorize: peer.AllowNodes(there.ID())})
	_, _, err := owner.PeerAPI.StartRemotePeer(t.Context(), "idle", there.URL(), 0)
	wantLimit(t, err, "circuits of one node", 5)
	for _, h := range hosts {
		h.Close()
	}
	eventually(t, "all is given back", func() bool {
		rows := there.Limits()
		return rows[limit.Circuits].Used == 0 && rows[limit.Inbox].Used == 0 && rows[limit.Replay].Used == 0
	})
}

// What is asked of the node itself counts against the line's rate, eightfold,
// so that whoever may start one peer in a second can connect, and start it.
func TestRateCountsQuestionsToTheNode(t *testing.T) {
	log := new(auditLog)
	inPolicy(t, func(cfg *peer.Config, guest identity.NodeID) {
		path := filepath.Join(t.TempDir(), "authorized_peers")
		if err := identity.AppendAuthorized(path, identity.Entry{ID: guest, Rate: 1}); err != nil {
			t.Fatal(err)
		}
		cfg.Authorize, cfg.Audit = peer.AllowFile(path), log.logger()
	}, func(t *testing.T, there, here *peer.Node) {
		if _, _, err := here.PeerAPI.StartRemotePeer(t.Context(), "idle", there.URL(), 0); err != nil {
			t.Fatalf("one start: %v", err)
		}
		var err error
		for range 10 { // without a pause
			if _, err = here.PeerAPI.List(t.Context(), there.URL()); err != nil {
				break
			}
		}
		wantLimit(t, err, "requests per second of one node", 8)
		if _, text := log.take(t); strings.Count(text, `"action":"list"`) > 2 { // an allowed one, a refused one
			t.Errorf("each list has a record: %s", text)
		}
		time.Sleep(time.Second)
		if _, err := here.PeerAPI.List(t.Context(), there.URL()); err != nil {
			t.Errorf("a second later: %v", err)
		}
	})
}

func TestRequestsToTheNodeAreOpenings(t *testing.T) {
	inPolicy(t, func(cfg *peer.Config, _ identity.NodeID) {
		cfg.Limits.Circuit.OpensPerSecond, cfg.Authorize = 20, peer.AllowAll
	}, func(t *testing.T, there, here *peer.Node) {
		time.Sleep(5 * time.Second)
		begin := time.Now()
		for range 40 { // an opening and a request each, and 20 of them at once
			if _, err := here.PeerAPI.List(t.Context(), there.URL()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took < 2900*time.Millisecond {
			t.Errorf("80 at 20 in a second took %v", took)
		}
	})
}

// inPolicy runs a test on a node that adjust has configured, and another one,
// in virtual time.
func inPolicy(t *testing.T, adjust func(cfg *peer.Config, other identity.NodeID), test func(t *testing.T, there, here *peer.Node)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * 365 * 24 * time.Hour) // certificates are not valid in 2000
		net := simnet.New(1)
		t.Cleanup(func() { net.Close() })
		net.SetDefault(simnet.Link{Latency: 5 * time.Millisecond})
		guest := newKey(t)
		cfg := peertest.Config{
			Network: net,
			Connect: func(i, j int) bool { return false },
			Adjust: func(i int, cfg *peer.Config) {
				if i == 0 {
					adjust(cfg, guest.ID())
				} else {
					cfg.Identity = guest
				}
			},
		}
		nodes := cfg.NewCluster(t, 2)
		nodes.Register("idle", idle)
		test(t, nodes.Nodes[0], nodes.Nodes[1])
	})
}

// CircuitRefused and the endpoint's own refusals are in the audit log as well.
func TestRefusalsByLimitsAreAudited(t *testing.T) {
	log := new(auditLog)
	there := newNode(t, peer.Config{Authorize: peer.AllowAll, Audit: log.logger(), Limits: limit.Limits{
		Circuit:   limit.Circuit{CircuitsPerNode: 1},
		Transport: limit.Transport{ConnsPerNode: 1},
	}})
	register(t, there, "idle", idle)
	p, err := there.PeerAPI.StartLocalPeer(t.Context(), "idle")
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	here := newNode(t, peer.Config{Identity: key, Authorize: peer.AllowAll})
	register(t, here, "idle", idle)
	caller, err := here.PeerAPI.StartLocalPeer(t.Context(), "idle")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := here.Connect(t.Context(), there.URL()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is open", func() bool { return there.Limits()[limit.Circuits].Used == 0 })
	open(t, caller, p.URL(), nil)
	_, _, err = caller.NewCircuitToPeerURL(p.URL(), nil, 0)
	wantRefused(t, err, circuit.RefusedLimit)
	_, text := log.take(t)
	want := `"action":"open","node":"` + key.ID().String() + `"`
	if !strings.Contains(text, want) || !strings.Contains(text, `"allowed":false,"reason":"limit reached: the limit is 1 circuits of one node`) {
		t.Errorf("the log does not have the refused opening: %s", text)
	}
	again := newNode(t, peer.Config{Identity: key, Authorize: peer.AllowAll})
	_, err = again.Connect(t.Context(), there.URL())
	if r, ok := errors.AsType[*transport.RemoteError](err); !ok || r.Code != transport.CodeLimit {
		t.Fatalf("a second connection: %v, want CodeLimit", err)
	}
	eventually(t, "the refused connection is in the log", func() bool {
		_, text := log.take(t)
		return strings.Contains(text, `"action":"connect","node":"`+key.ID().String()) && strings.Contains(text, "too many connections of one node")
	})
}

// A key that is let in itself has one account, whatever keys sign that it takes
// their place.
func TestNobodyHasMoreAccountsThanKeys(t *testing.T) {
	key := newKey(t) // the only one that is listed
	there := newNode(t, peer.Config{Authorize: peer.AllowNodes(key.ID()), Limits: limit.Limits{
		Transport: limit.Transport{ConnsPerNode: 3}, Peer: limit.Peer{StartedPerNode: 2}, Circuit: limit.Circuit{CircuitsPerNode: 4},
	}})
	register(t, there, "idle", idle)
	refused := 0
	for range 5 {
		h := newNode(t, peer.Config{Identity: key, Rotation: rotated(t, newKey(t), key, 2*time.Hour), Authorize: peer.AllowNodes(there.ID())})
		register(t, h, "idle", idle)
		p, err := h.PeerAPI.StartLocalPeer(t.Context(), "idle")
		if err != nil {
			t.Fatal(err)
		}
		url, _, err := h.PeerAPI.StartRemotePeer(t.Context(), "idle", there.URL(), 0)
		if err != nil {
			refused++
			continue
		}
		open(t, p, url, nil)
	}
	if refused != 3 {
		t.Errorf("%d of 5 processes were refused a peer, want 3", refused)
	}
	for _, r := range []limit.Resource{limit.Conns, limit.Circuits, limit.Peers} {
		if u := there.Limits()[r]; u.Top != key.ID() || u.Used > u.PerNode || u.TopUsed != u.Used {
			t.Errorf("%s: %+v, want all under the one key, within its bound", u.What, u)
		}
	}
}
