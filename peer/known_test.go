package peer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ckt.local/peer"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

// A knower is a node that remembers whom it has dialled, and what it was asked
// about.
type knower struct {
	*peer.Node
	file  *trust.KnownFile
	path  string
	asked atomic.Int32
	trust func(addr string, id identity.NodeID) error // set before it is asked
}

func newKnower(t *testing.T, key *identity.Key, policy peer.Policy) *knower {
	t.Helper()
	k := &knower{path: filepath.Join(t.TempDir(), "known_peers")}
	var err error
	if k.file, err = trust.OpenKnown(k.path, nil); err != nil {
		t.Fatal(err)
	}
	k.Node = newNode(t, peer.Config{
		Identity: key, Authorize: policy, KnownPeers: k.file,
		TrustNew: func(_ context.Context, addr string, id identity.NodeID) error {
			k.asked.Add(1)
			if k.trust == nil {
				return errors.New("nobody was to be asked")
			}
			return k.trust(addr, id)
		},
	})
	return k
}

func (k *knower) knows(t *testing.T, addr string) identity.NodeID {
	t.Helper()
	id, err := k.file.Lookup(addr)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// at starts a node at an address where there was another one before.
func at(t *testing.T, addr string, key *identity.Key, policy peer.Policy) *peer.Node {
	t.Helper()
	n := newTestNode(t, peer.Config{ListenAddr: addr, Identity: key, Authorize: policy})
	t.Cleanup(func() { n.Close() })
	return n
}

func TestAllowedKeyBecomesKnownAndPinned(t *testing.T) {
	mine, first, second := newKey(t), newKey(t), newKey(t)
	here := newKnower(t, mine, peer.AllowNodes(first.ID(), second.ID()))
	there := at(t, "127.0.0.1:0", first, peer.AllowNodes(mine.ID()))
	addr := there.Addr().String()
	if _, err := here.Connect(t.Context(), there.URL()); err != nil {
		t.Fatal(err)
	}
	if id := here.knows(t, addr); !id.IsZero() {
		t.Fatalf("a dial with a key makes %v known", id)
	}
	// The link that is there counts as a dial of the bare address.
	for range 2 {
		if id, err := here.Connect(t.Context(), addr); err != nil || id != first.ID() || here.knows(t, addr) != id {
			t.Fatalf("%v, %v, known is %v", id, err, here.knows(t, addr))
		}
	}
	if err := there.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its good-bye has come", func() bool { return len(here.Listing().Links) == 0 })

	// Another key there is refused loudly, though the policy allows it.
	at(t, addr, second, peer.AllowNodes(mine.ID()))
	_, err := here.Connect(t.Context(), addr)
	changed, ok := errors.AsType[*trust.ChangedKeyError](err)
	if !ok || changed.Known != first.ID() || changed.Got != second.ID() || changed.Path != here.path || changed.Line != 1 {
		t.Fatalf("got %T %v", err, err)
	}
	if !strings.Contains(err.Error(), here.path) {
		t.Errorf("the error does not name the file: %v", err)
	}
	if here.asked.Load() != 0 {
		t.Error("the user is asked about a key that has changed")
	}
	// Nor does a connection that is there already, dialled by its URL, lead past it.
	if _, err := here.Connect(t.Context(), peer.URL{Node: second.ID(), Addr: addr}.String()); err != nil {
		t.Fatal(err)
	}
	_, err = here.Connect(t.Context(), addr)
	if _, ok := errors.AsType[*trust.ChangedKeyError](err); !ok {
		t.Errorf("by the connection that is there: %T %v", err, err)
	}
	// The user takes the line out, and the new key becomes known.
	if _, err := here.file.Remove(addr); err != nil {
		t.Fatal(err)
	}
	if id, err := here.Connect(t.Context(), addr); err != nil || id != second.ID() || here.knows(t, addr) != id {
		t.Errorf("%v, %v", id, err)
	}
}

func TestNewKeyIsAskedAboutOnce(t *testing.T) {
	mine, theirs := newKey(t), newKey(t)
	here := newKnower(t, mine, nil)
	there := at(t, "127.0.0.1:0", theirs, peer.AllowNodes(mine.ID()))
	addr := there.Addr().String()
	no := errors.New("never seen that one")
	here.trust = func(at string, id identity.NodeID) error {
		if at != addr || id != theirs.ID() {
			t.Errorf("asked about %v at %s", id, at)
		}
		return no
	}
	_, err := here.Connect(t.Context(), addr)
	if e, ok := errors.AsType[*transport.UnauthorizedError](err); !ok || identity.NodeIDOf(e.Key) != theirs.ID() || !errors.Is(err, no) {
		t.Fatalf("got %T %v", err, err)
	}
	if id := here.knows(t, addr); !id.IsZero() {
		t.Fatalf("%v is known after a no", id)
	}
	here.trust = func(string, identity.NodeID) error { panic("the terminal is gone") }
	_, err = here.Connect(t.Context(), addr)
	if _, ok := errors.AsType[*transport.UnauthorizedError](err); !ok {
		t.Fatalf("after a panic: %T %v", err, err)
	}
	here.trust = func(string, identity.NodeID) error { return nil }
	asked := here.asked.Load()
	for range 3 {
		if id, err := here.Connect(t.Context(), addr); err != nil || id != theirs.ID() {
			t.Fatalf("%v, %v", id, err)
		}
	}
	if n := here.asked.Load() - asked; n != 1 || here.knows(t, addr) != theirs.ID() {
		t.Errorf("asked %d times, known is %v", n, here.knows(t, addr))
	}
	// It is trusted as one to dial, and may do nothing here.
	_, err = there.PeerAPI.List(t.Context(), mine.ID().String())
	if err == nil {
		t.Error("a node that is known may list")
	}
}

func TestUserIsNotAskedAboutARevokedKey(t *testing.T) {
	mine, theirs := newKey(t), newKey(t)
	file, err := trust.OpenKnown(filepath.Join(t.TempDir(), "known_peers"), nil)
	if err != nil {
		t.Fatal(err)
	}
	here := newNode(t, peer.Config{
		Identity: mine, KnownPeers: file,
		Revoked: func(id identity.NodeID) error {
			if id == theirs.ID() {
				return &trust.RevokedError{ID: id}
			}
			return nil
		},
		TrustNew: func(context.Context, string, identity.NodeID) error {
			t.Error("the user is asked")
			return nil
		},
	})
	there := at(t, "127.0.0.1:0", theirs, peer.AllowNodes(mine.ID()))
	_, err = here.Connect(t.Context(), there.Addr().String())
	wantRevoked(t, err, theirs.ID())
	if id, err := file.Lookup(there.Addr().String()); err != nil || !id.IsZero() {
		t.Errorf("known is %v, %v", id, err)
	}
}

func TestOneOfSeveralKnownKeys(t *testing.T) {
	mine, first, second := newKey(t), newKey(t), newKey(t)
	here := newKnower(t, mine, nil)
	there := at(t, "127.0.0.1:0", second, peer.AllowNodes(mine.ID()))
	addr := there.Addr().String()
	if err := os.WriteFile(here.path, []byte(trust.Known{Addrs: []string{addr}, ID: first.ID()}.String()+"\n"+
		trust.Known{Addrs: []string{addr}, ID: second.ID()}.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := here.Connect(t.Context(), addr); err != nil || id != second.ID() {
		t.Errorf("%v, %v", id, err)
	}
	// A @revoked line is no key to be known.
	if err := os.WriteFile(here.path, []byte(trust.Known{Addrs: []string{addr}, ID: second.ID(), Revoked: true}.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Connect(t.Context(), addr); err == nil {
		t.Error("a key that the file calls revoked is taken")
	}
	if here.asked.Load() != 0 {
		t.Error("the user is asked about a key that the file calls revoked")
	}
}

func TestKnownPeersThatCannotBeUsed(t *testing.T) {
	mine, theirs := newKey(t), newKey(t)
	allowing, asking := newKnower(t, mine, peer.AllowNodes(theirs.ID())), newKnower(t, mine, nil)
	asking.trust = func(string, identity.NodeID) error { return nil }
	there := at(t, "127.0.0.1:0", theirs, peer.AllowNodes(mine.ID()))
	addr := there.Addr().String()
	// A file that is not understood might hold another key for the address.
	for _, k := range []*knower{allowing, asking} {
		if err := os.WriteFile(k.path, []byte("what is this\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Connect(t.Context(), addr); err == nil || !strings.Contains(err.Error(), k.path) {
			t.Errorf("got %v, want an error that names %s", err, k.path)
		}
		if err := os.Remove(k.path); err != nil {
			t.Fatal(err)
		}
	}
	if asking.asked.Load() != 0 {
		t.Error("the user is asked though the file is not understood")
	}
	// One that cannot be written: who is allowed is, who is to be trusted is not.
	for _, k := range []*knower{allowing, asking} {
		dir := filepath.Dir(k.path)
		if err := errors.Join(os.RemoveAll(dir), os.Symlink(filepath.Join(t.TempDir(), "nowhere"), dir)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := allowing.Connect(t.Context(), addr); err != nil {
		t.Errorf("a key that the policy allows: %v", err)
	}
	_, err := asking.Connect(t.Context(), addr)
	if err == nil || !strings.Contains(err.Error(), filepath.Dir(asking.path)) || !strings.Contains(err.Error(), "cannot be remembered") {
		t.Errorf("a key that is to be trusted: %v", err)
	}
}

// A key that takes the place of the known one is taken while it does, and the
// log says that this will end.
func TestKnownKeyThatIsRotated(t *testing.T) {
	mine, old, next := newKey(t), newKey(t), newKey(t)
	here := newKnower(t, mine, nil)
	there := newNode(t, peer.Config{Identity: next, Rotation: rotated(t, old, next, 2*time.Hour), Authorize: peer.AllowNodes(mine.ID())})
	addr := there.Addr().String()
	if err := here.file.Add(addr, old.ID()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // by a dial, and by the link that is there
		if id, err := here.Connect(t.Context(), addr); err != nil || id != next.ID() {
			t.Fatalf("%v, %v", id, err)
		}
	}
	if id := here.knows(t, addr); id != old.ID() {
		t.Errorf("the file says %v now", id)
	}
	late := at(t, "127.0.0.1:0", next, peer.AllowNodes(mine.ID())) // it does not show the statement any more
	if err := here.file.Add(late.Addr().String(), old.ID()); err != nil {
		t.Fatal(err)
	}
	_, err := here.Connect(t.Context(), late.Addr().String())
	if _, ok := errors.AsType[*trust.ChangedKeyError](err); !ok {
		t.Errorf("got %T %v", err, err)
	}
	if here.asked.Load() != 0 {
		t.Error("the user is asked")
	}
}
