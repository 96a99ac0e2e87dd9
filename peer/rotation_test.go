package peer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ckt.local/peer"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rotated says that next takes the place of old, from an hour ago for so long.
func rotated(t *testing.T, old, next *identity.Key, d time.Duration) *trust.Rotation {
	t.Helper()
	from := time.Now().Add(-time.Hour)
	r, err := trust.NewRotation(old, next, from, from.Add(d))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// requests has a policy that allows one key, and keeps what it was asked.
type requests struct {
	mu      sync.Mutex
	allowed identity.NodeID
	asked   []peer.Request
}

func (q *requests) policy(r peer.Request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asked = append(q.asked, r)
	if r.Node == q.allowed {
		return nil
	}
	return errors.New("another key")
}

func (q *requests) take() []peer.Request {
	q.mu.Lock()
	defer q.mu.Unlock()
	asked := q.asked
	q.asked = nil
	return asked
}

func TestRotatedKeyIsLetInAsTheOldOne(t *testing.T) {
	old, next := newKey(t), newKey(t)
	q, log := &requests{allowed: old.ID()}, new(auditLog)
	there := newNode(t, peer.Config{Authorize: q.policy, Audit: log.logger()})
	register(t, there, "echo", echo)
	before, err := peer.NewClient(t.Context(), there.URL(), peer.Config{ListenAddr: "127.0.0.1:0", Identity: old})
	if err != nil {
		t.Fatal(err)
	}
	url, _, err := before.PeerAPI.StartRemotePeer(t.Context(), "echo", there.URL(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}

	after := newNode(t, peer.Config{Identity: next, Rotation: rotated(t, old, next, 2*time.Hour), Authorize: peer.AllowNodes(there.ID())})
	register(t, after, "echo", echo)
	if _, err := after.Connect(t.Context(), there.URL()); err != nil {
		t.Fatal(err)
	}
	q.take()
	caller, err := after.PeerAPI.StartLocalPeer(context.Background(), "echo")
	if err != nil {
		t.Fatal(err)
	}
	if got := say(t, open(t, caller, url, nil), "renewed"); got != "renewed" {
		t.Errorf("got %q", got)
	}
	asked := q.take()
	if !slices.ContainsFunc(asked, func(r peer.Request) bool { return r.Node == next.ID() && r.Key == next.ID() }) ||
		!slices.ContainsFunc(asked, func(r peer.Request) bool {
			return r.Node == old.ID() && r.Key == next.ID() && r.Action == peer.ActionOpen && r.Circuits >= 1
		}) {
		t.Errorf("asked about %+v, want the new key first and then the old one", asked)
	}
	// The log has both keys.
	if _, text := log.take(t); !strings.Contains(text, `"action":"open","node":"`+old.ID().String()+`","key":"`+next.ID().String()+`"`) {
		t.Errorf("the log does not say in whose name: %s", text)
	}
	// It is the one that has started what the old key has.
	if err := after.PeerAPI.StopRemotePeer(t.Context(), url); err != nil {
		t.Errorf("stopping what the old key has started: %v", err)
	}
	// Its own starts count under the key that it has proved.
	if _, _, err := after.PeerAPI.StartRemotePeer(t.Context(), "echo", there.URL(), 0); err != nil {
		t.Fatal(err)
	}
	if ps := there.Listing().Peers; len(ps) != 1 || ps[0].StartedBy != next.ID() {
		t.Errorf("runs: %+v", ps)
	}
	// Who has the old ID reaches it, by address and by ID.
	for _, addr := range []string{peer.URL{Node: old.ID(), Addr: after.Addr().String()}.String(), old.ID().String()} {
		if id, err := there.Connect(t.Context(), addr); err != nil || id != next.ID() {
			t.Errorf("Connect(%s): %v, %v", addr, id, err)
		}
	}
}

func TestRotatedKeyIsOneOfTheOwner(t *testing.T) {
	old, next := newKey(t), newKey(t)
	there := newNode(t, peer.Config{Identity: old}) // another machine of the same person, which trusts its own key only
	after := newNode(t, peer.Config{Identity: next, Rotation: rotated(t, old, next, 2*time.Hour)})
	if _, err := after.PeerAPI.List(t.Context(), there.URL()); err != nil {
		t.Error(err)
	}
}

func TestRotationThatDoesNotCount(t *testing.T) {
	old, next := newKey(t), newKey(t)
	for _, bad := range []struct {
		name    string
		lasts   time.Duration
		revoked *identity.Key
	}{
		{"over", 30 * time.Minute, nil},
		{"the old key is revoked", 2 * time.Hour, old},
		{"the new key is revoked", 2 * time.Hour, next},
	} {
		t.Run(bad.name, func(t *testing.T) {
			cfg := peer.Config{Authorize: peer.AllowNodes(old.ID())}
			if bad.revoked != nil {
				cfg.Authorize = peer.AllowNodes(old.ID(), next.ID())
				cfg.Revoked = func(id identity.NodeID) error {
					if id == bad.revoked.ID() {
						return &trust.RevokedError{ID: id}
					}
					return nil
				}
			}
			there := newNode(t, cfg)
			after := newNode(t, peer.Config{Identity: next, Rotation: rotated(t, old, next, bad.lasts)})
			_, err := after.Connect(t.Context(), there.URL())
			if e, ok := errors.AsType[*transport.RemoteError](err); !ok || e.Code != transport.CodeRefused {
				t.Errorf("dialling: %v", err)
			}
			_, err = there.Connect(t.Context(), peer.URL{Node: old.ID(), Addr: after.Addr().String()}.String())
			_, wrong := errors.AsType[*transport.WrongKeyError](err)
			_, unauthorized := errors.AsType[*transport.UnauthorizedError](err)
			if !wrong && !unauthorized {
				t.Errorf("being dialled as the old key: %v", err)
			}
		})
	}
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	old, next := newKey(t), newKey(t)
	good, other := []byte(strings.Repeat("k", 32)), []byte(strings.Repeat("o", 64))
	broken := *rotated(t, old, next, time.Hour)
	broken.Until = broken.Until.Add(time.Second) // what is signed says otherwise
	for _, bad := range []struct {
		says string
		cfg  peer.Config
	}{
		{"Config.PreSharedKeys: key 1 has 31 bytes", peer.Config{PreSharedKeys: [][]byte{good[:31]}}},
		{"Config.PreSharedKeys: key 2 has 65 bytes", peer.Config{PreSharedKeys: [][]byte{good, append(slices.Clone(other), 0)}}},
		{"Config.PreSharedKeys: key 1 has 0 bytes", peer.Config{PreSharedKeys: [][]byte{nil}}},
		{"Config.PreSharedKeys: both keys are the same", peer.Config{PreSharedKeys: [][]byte{good, slices.Clone(good)}}},
		{"Config.PreSharedKeys: 3 keys", peer.Config{PreSharedKeys: [][]byte{good, other, good}}},
		{"Config.Rotation: it is about the key " + next.ID().String(), peer.Config{Rotation: rotated(t, old, next, time.Hour)}},
		{"Config.Rotation: ", peer.Config{Identity: next, Rotation: &broken}},
		{"leave the statement out", peer.Config{Identity: next, Rotation: rotated(t, old, next, time.Hour), Revoked: func(id identity.NodeID) error {
			if id == old.ID() {
				return errors.New("stolen")
			}
			return nil
		}}},
		{"Config.TrustNew needs Config.KnownPeers", peer.Config{TrustNew: func(context.Context, string, identity.NodeID) error { return nil }}},
	} {
		bad.cfg.ListenAddr = "127.0.0.1:0"
		n, err := peer.NewNode(bad.cfg)
		if err == nil {
			n.Close()
			t.Errorf("a node is made, want %q", bad.says)
			continue
		}
		if !strings.HasPrefix(err.Error(), "peer: ") || !strings.Contains(err.Error(), bad.says) || strings.Contains(err.Error(), "kkkk") {
			t.Errorf("got %v, want %q", err, bad.says)
		}
	}
}

func TestPreSharedKeys(t *testing.T) {
	first, second, third := []byte(strings.Repeat("1", 32)), []byte(strings.Repeat("2", 32)), []byte(strings.Repeat("3", 32))
	for _, pair := range []struct {
		name        string
		there, here [][]byte
		ok          bool
	}{
		{"the same", [][]byte{first}, [][]byte{first}, true},
		{"in the middle of a change", [][]byte{first, second}, [][]byte{third, second}, true},
		{"none in common", [][]byte{first, second}, [][]byte{third}, false},
		{"only there", [][]byte{first}, nil, false},
		{"only here", nil, [][]byte{first}, false},
	} {
		t.Run(pair.name, func(t *testing.T) {
			key := newKey(t)
			there := newNode(t, peer.Config{Identity: key, PreSharedKeys: pair.there})
			here := newNode(t, peer.Config{Identity: key, PreSharedKeys: pair.here})
			_, err := here.Connect(t.Context(), there.URL())
			if pair.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := errors.AsType[*transport.RemoteError](err)
			if !ok || e.Code != transport.CodePSK {
				t.Fatalf("got %T %v, want a refusal for want of a pre-shared key", err, err)
			}
		})
	}
}
