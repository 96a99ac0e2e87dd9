package peer_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// The nodes of a fileHouse. Only the server goes by the file.
const (
	server = iota
	anything
	echoOnly
	stranger
)

// A fileHouse is a server that goes by an authorized_peers file, and nodes
// that ask it for things.
type fileHouse struct {
	*peertest.Cluster
	list    string
	running map[string]*peer.LocalPeer // on the server, by service
	asking  map[int]*peer.LocalPeer    // one on each other node
}

func newFileHouse(t *testing.T) *fileHouse {
	h := &fileHouse{list: filepath.Join(t.TempDir(), "authorized_peers")}
	h.Cluster = peertest.Config{
		Connect: func(i, j int) bool { return false },
		Adjust: func(i int, cfg *peer.Config) {
			if i == server {
				cfg.Authorize = peer.AllowFile(h.list)
			}
		},
	}.NewCluster(t, 4)
	h.Register("echo", echo)
	h.Register("files", echo)
	h.running = map[string]*peer.LocalPeer{"echo": h.Start(server, "echo"), "files": h.Start(server, "files")}
	h.asking = map[int]*peer.LocalPeer{}
	for who := anything; who <= stranger; who++ {
		h.asking[who] = h.Start(who, "echo")
	}
	return h
}

// allow makes these entries the whole file.
func (h *fileHouse) allow(t *testing.T, entries ...identity.Entry) {
	t.Helper()
	if err := os.Remove(h.list); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := identity.AppendAuthorized(h.list, e); err != nil {
			t.Fatal(err)
		}
	}
}

func (h *fileHouse) id(who int) identity.NodeID { return h.Nodes[who].ID() }

// A step is one request to the server, and what becomes of it.
type step struct {
	name    string
	do      func(h *fileHouse, t *testing.T, who int, service string) error
	who     int
	service string
	allowed bool
}

func opens(h *fileHouse, _ *testing.T, who int, service string) error {
	_, _, err := h.asking[who].NewCircuitToPeerURL(h.running[service].URL(), nil, 0)
	return err
}

func starts(h *fileHouse, t *testing.T, who int, service string) error {
	_, _, err := h.Nodes[who].PeerAPI.StartRemotePeer(t.Context(), service, h.Nodes[server].URL(), 0)
	return err
}

func lists(h *fileHouse, t *testing.T, who int, _ string) error {
	_, err := h.Nodes[who].PeerAPI.List(t.Context(), h.Nodes[server].URL())
	return err
}

func pings(h *fileHouse, t *testing.T, who int, _ string) error {
	return h.Nodes[who].PeerAPI.Ping(t.Context(), h.Nodes[server].URL(), 1, func(time.Duration) {})
}

func (h *fileHouse) run(t *testing.T, steps []step) {
	t.Helper()
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			err := s.do(h, t, s.who, s.service)
			switch {
			case s.allowed && err != nil:
				t.Fatalf("refused: %v", err)
			case !s.allowed && s.who == stranger:
				if e, ok := errors.AsType[*transport.RemoteError](err); !ok || e.Code != transport.CodeRefused {
					t.Fatalf("got %v", err)
				}
			case !s.allowed:
				wantRefused(t, err, circuit.RefusedUnauthorized)
			}
		})
	}
}

func TestPolicyOfAFile(t *testing.T) {
	h := newFileHouse(t)
	h.allow(t, identity.Entry{ID: h.id(anything)}, identity.Entry{ID: h.id(echoOnly), Services: []string{"echo"}})
	h.run(t, []step{
		{"listed opens", opens, anything, "files", true},
		{"listed starts", starts, anything, "files", true},
		{"listed lists", lists, anything, "", true},
		{"listed pings", pings, anything, "", true},
		{"listed for echo opens echo", opens, echoOnly, "echo", true},
		{"listed for echo starts echo", starts, echoOnly, "echo", true},
		{"listed for echo pings", pings, echoOnly, "", true},
		{"listed for echo opens files", opens, echoOnly, "files", false},
		{"listed for echo starts files", starts, echoOnly, "files", false},
		{"listed for echo lists", lists, echoOnly, "", false},
		{"stranger opens", opens, stranger, "echo", false},
		{"stranger starts", starts, stranger, "echo", false},
		{"stranger lists", lists, stranger, "", false},
		{"stranger pings", pings, stranger, "", false},
	})
}

func TestPolicyOfAFileThatChanges(t *testing.T) {
	h := newFileHouse(t)
	everything := identity.Entry{ID: h.id(anything)}
	h.allow(t, everything, identity.Entry{ID: h.id(echoOnly), Services: []string{"echo"}})
	h.run(t, []step{{"listed lists", lists, anything, "", true}})
	c := open(t, h.asking[echoOnly], h.running["echo"].URL(), nil)

	h.allow(t, everything, identity.Entry{ID: h.id(echoOnly), Expires: time.Now().Add(-time.Hour)})
	h.run(t, []step{
		{"expired opens", opens, echoOnly, "echo", false},
		{"expired starts", starts, echoOnly, "echo", false},
		{"expired pings", pings, echoOnly, "", false},
		{"the other still lists", lists, anything, "", true},
	})
	if got := say(t, c, "still open"); got != "still open" {
		t.Fatalf("the circuit it had says %q", got)
	}

	h.allow(t, identity.Entry{ID: h.id(echoOnly), Services: []string{"ckt.node"}})
	h.run(t, []step{
		{"listed for ckt.node lists", lists, echoOnly, "", true},
		{"listed for ckt.node opens", opens, echoOnly, "echo", false},
		{"revoked lists", lists, anything, "", false},
	})
}

func TestQuotasOfAFileAreToldAsLimits(t *testing.T) {
	h := newFileHouse(t)
	none := []string{}
	h.allow(t, identity.Entry{ID: h.id(anything), MaxCircuits: 3}, identity.Entry{ID: h.id(echoOnly), Services: []string{"echo"}, Start: none})
	h.run(t, []step{
		{"without start= it opens", opens, echoOnly, "echo", true},
		{"without start= it does not start", starts, echoOnly, "echo", false},
	})
	// Circuits to the node's own service are among those that are open, so
	// there is a moment in which there are more.
	must(t, 1, func() error { return opens(h, t, anything, "echo") })
	var err error
	for range 10 {
		if err = opens(h, t, anything, "files"); err != nil {
			break
		}
	}
	wantLimit(t, err, "circuits of one node", 3)

	h.allow(t, identity.Entry{ID: h.id(anything), Rate: 2})
	for range 100 {
		if err = starts(h, t, anything, "echo"); err != nil {
			break
		}
	}
	wantLimit(t, err, "starts per second of one node", 2)
}

func TestAllowAny(t *testing.T) {
	first, second, third := identity.NodeID{1}, identity.NodeID{2}, identity.NodeID{3}
	full := &identity.QuotaError{What: "circuits of one node", Limit: 7}
	limited := func(r peer.Request) error {
		if r.Node == second {
			return full
		}
		return errors.New("not that one")
	}
	allow := peer.AllowAny(peer.AllowNodes(first), limited, func(r peer.Request) error { return errors.New("nobody") })
	for _, c := range []struct {
		node identity.NodeID
		want string
	}{{first, ""}, {second, full.Error()}, {third, "nobody"}} {
		got := ""
		if err := allow(peer.Request{Node: c.node}); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: %q, want %q", c.node, got, c.want)
		}
	}
	if err := peer.AllowAny()(peer.Request{Node: first}); err == nil {
		t.Error("no policy at all allows something")
	}
	if err := peer.AllowAny(limited, peer.AllowAll)(peer.Request{Node: second}); err != nil {
		t.Errorf("what one allows another forbids: %v", err)
	}
}

func TestPolicyThatNamesALimitOrPanics(t *testing.T) {
	var words atomic.Value // what the policy says; none: it panics
	nodes := peertest.Config{Adjust: func(i int, cfg *peer.Config) {
		if i != server {
			return
		}
		cfg.Authorize = func(r peer.Request) error {
			if r.Action == peer.ActionConnect {
				return nil
			}
			no, ok := words.Load().(error)
			if !ok {
				panic("a policy with a bug")
			}
			return no
		}
	}}.NewCluster(t, 2)
	nodes.Register("echo", echo)
	wantRefused(t, startOn(t, nodes, 1, "echo")(), circuit.RefusedUnauthorized)
	// Its text stays here; a limit in it does not.
	words.Store(errors.Join(errors.New("secret words"), &transport.LimitError{What: "guests", Limit: 12}))
	err := startOn(t, nodes, 1, "echo")()
	wantLimit(t, err, "guests", 12)
	_, _, err = nodes.Start(1, "echo").NewCircuitToPeerURL(nodes.Start(0, "echo").URL(), nil, 0)
	wantLimit(t, err, "guests", 12)
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the policy's words travel: %v", err)
	}
}
