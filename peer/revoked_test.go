package peer_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

// The hosts of a revokedHouse. Only the first one goes by the file.
const (
	keeper = iota
	thief  // is connected when its key is revoked
	gone   // is away, and waited for
	friend
)

// A revokedHouse is a world whose first host goes by a file of revoked keys.
type revokedHouse struct {
	*peertest.Sim
	file     *trust.RevokedFile
	circuits map[int]*circuit.Circuit // from each host to the keeper
	taken    map[int]*circuit.Circuit // their other ends
}

func newRevokedHouse(t *testing.T) *revokedHouse {
	t.Helper()
	file, err := trust.OpenRevoked(filepath.Join(t.TempDir(), "revoked"), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &revokedHouse{file: file, circuits: map[int]*circuit.Circuit{}, taken: map[int]*circuit.Circuit{}}
	h.Sim = peertest.SimConfig{
		Circuit: circuit.Config{Linger: time.Hour},
		Adjust: func(host *peertest.SimHost, cfg *peer.Config) {
			if host.Index() == keeper {
				cfg.Revoked = file.Check
			}
		},
	}.NewSim(t, 1)
	taken := make(chan *circuit.Circuit, 10)
	for range 4 {
		h.NewHost(func(n *peer.Node) { register(t, n, "keep", forward(taken)) })
	}
	h.Hosts()[keeper].StartPeer("keep")
	for _, i := range []int{thief, gone, friend} {
		h.circuits[i] = open(t, h.Hosts()[i].StartPeer("keep"), h.Hosts()[keeper].URL("keep"), nil)
		h.taken[i] = receive(t, taken, "the keeper takes the circuit")
	}
	return h
}

func (h *revokedHouse) revoke(t *testing.T, host int) {
	t.Helper()
	if err := h.file.Add(h.Hosts()[host].Node().ID(), "stolen"); err != nil {
		t.Fatal(err)
	}
}

func TestRevokedKeyIsRefusedAtOnceAndClosedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRevokedHouse(t)
		node, there := h.Hosts()[thief].Node(), h.Hosts()[keeper]
		h.Partition(h.Hosts()[keeper], h.Hosts()[gone])
		time.Sleep(time.Minute) // it is away
		h.revoke(t, thief)
		h.revoke(t, gone)

		// No request is allowed from now on, nor is anything sent there anew.
		_, err := node.PeerAPI.List(t.Context(), there.URL(""))
		wantRefused(t, err, circuit.RefusedUnauthorized)
		_, err = there.Node().PeerAPI.List(t.Context(), h.Hosts()[thief].URL(""))
		wantRevoked(t, err, node.ID())

		// The connection goes, and what waits for the other one is lost.
		began := time.Now()
		for _, i := range []int{thief, gone} {
			wantIs(t, causeOf(t, h.taken[i]), circuit.ErrPeerLost)
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("ended after %v, want 5 s at most", d)
		}
		if n := len(there.Node().Listing().Links); n != 1 {
			t.Errorf("%d links are left, want that of the friend", n)
		}

		// There is no way back in, by either side.
		h.Rejoin(h.Hosts()[keeper], h.Hosts()[gone])
		time.Sleep(time.Minute)
		for _, i := range []int{thief, gone} {
			if st := h.circuits[i].State(); st.Attached {
				t.Errorf("the circuit of host %d is attached", i)
			}
			_, err := h.Hosts()[i].Node().Connect(t.Context(), there.URL(""))
			if e, ok := errors.AsType[*transport.RemoteError](err); !ok || e.Code != transport.CodeRefused {
				t.Errorf("host %d dials: %v", i, err)
			}
			_, err = there.Node().Connect(t.Context(), h.Hosts()[i].URL(""))
			wantRevoked(t, err, h.Hosts()[i].Node().ID())
			_, err = there.Node().Connect(t.Context(), h.Hosts()[i].Node().Addr().String())
			wantRevoked(t, err, h.Hosts()[i].Node().ID())
		}
		if err := h.circuits[friend].Send(t.Context(), &circuit.Fragment{Payload: []byte("still here")}); err != nil {
			t.Error(err)
		}
		if f := receive(t, h.taken[friend].Reads, "the friend's fragment"); string(f.Payload) != "still here" {
			t.Errorf("got %q", f.Payload)
		}
	})
}

func wantRevoked(t *testing.T, err error, id identity.NodeID) {
	t.Helper()
	e, ok := errors.AsType[*transport.UnauthorizedError](err)
	if !ok || identity.NodeIDOf(e.Key) != id {
		t.Fatalf("got %T %v, want an UnauthorizedError of %v", err, err, id)
	}
	if _, ok := errors.AsType[*trust.RevokedError](err); !ok {
		t.Fatalf("%v does not say that the key is revoked", err)
	}
}

func TestRevokedThatPanicsRefuses(t *testing.T) {
	var broken atomic.Bool
	nodes := peertest.Config{Adjust: func(i int, cfg *peer.Config) {
		if i == 0 {
			cfg.Revoked = func(identity.NodeID) error {
				if broken.Load() {
					panic("no file")
				}
				return nil
			}
		}
	}}.NewCluster(t, 2)
	broken.Store(true)
	_, err := nodes.Nodes[1].PeerAPI.List(t.Context(), nodes.Nodes[0].URL())
	wantRefused(t, err, circuit.RefusedUnauthorized)
}

func TestOwnKeyThatIsRevoked(t *testing.T) {
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	no := errors.New("line 7 says so")
	_, err = peer.NewNode(peer.Config{ListenAddr: "127.0.0.1:0", Identity: key, Revoked: func(id identity.NodeID) error {
		if id == key.ID() {
			return no
		}
		return nil
	}})
	wantIs(t, err, no)
}

// A node whose key comes to be revoked while it runs goes on for itself.
func TestOwnPeersOfARevokedKey(t *testing.T) {
	var stolen atomic.Bool
	n := newNode(t, peer.Config{Revoked: func(identity.NodeID) error {
		if stolen.Load() {
			return errors.New("stolen")
		}
		return nil
	}})
	register(t, n, "echo", echo)
	a, err := n.PeerAPI.StartLocalPeer(context.Background(), "echo")
	if err != nil {
		t.Fatal(err)
	}
	stolen.Store(true)
	if got := say(t, open(t, a, a.URL(), nil), "me"); got != "me" {
		t.Errorf("got %q", got)
	}
}
