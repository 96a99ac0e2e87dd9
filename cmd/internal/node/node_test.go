package node_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"ckt.local/circuit"
	"ckt.local/cmd/internal/node"
	"ckt.local/peer"
	"ckt.local/peer/files"
	"ckt.local/transport/identity"
)

func TestKeyIsMadeOnce(t *testing.T) {
	src := node.KeySource{Path: filepath.Join(t.TempDir(), "sub", "key")}
	const racers = 4
	keys := make([]*node.Key, racers)
	var all sync.WaitGroup
	for i := range racers {
		all.Go(func() {
			var err error
			if keys[i], err = node.LoadKey(src); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	created := 0
	for _, k := range keys {
		if k.ID() != keys[0].ID() {
			t.Error("two keys were made")
		}
		if k.Created {
			created++
		}
	}
	if created != 1 {
		t.Errorf("%d say that they made the key", created)
	}
}

// encrypted writes an encrypted key and returns it.
func encrypted(t *testing.T, path string) *identity.Key {
	t.Helper()
	key, err := identity.Generate()
	if err == nil {
		err = identity.WriteKeyFile(path, key, []byte("open"), "")
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestEncryptedKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	want := encrypted(t, path)
	ask := func(phrase string) func(string) ([]byte, error) {
		return func(string) ([]byte, error) { return []byte(phrase), nil }
	}
	k, err := node.LoadKey(node.KeySource{Path: path, Passphrase: ask("open")})
	if err != nil || k.ID() != want.ID() || k.Created {
		t.Errorf("with the passphrase: %v, %v", k, err)
	}
	for why, src := range map[string]node.KeySource{
		"the wrong passphrase": {Path: path, Passphrase: ask("shut")},
		"nobody to ask":        {Path: path},
		"no agent":             {Path: path, AgentSocket: filepath.Join(t.TempDir(), "none")},
	} {
		_, err := node.LoadKey(src)
		if _, ok := errors.AsType[*identity.PassphraseError](err); !ok {
			t.Errorf("%s: %v, want a PassphraseError", why, err)
		}
	}
}

func TestKeyInAnAgent(t *testing.T) {
	dir, err := os.MkdirTemp("", "agent") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "key")
	want := encrypted(t, path)
	socket := serveAgent(t, filepath.Join(dir, "s"), path)
	k, err := node.LoadKey(node.KeySource{Path: path, AgentSocket: socket})
	if err != nil {
		t.Fatal(err)
	}
	if k.ID() != want.ID() {
		t.Error("another key")
	}

	// The key is good for a connection, and for none after Close.
	a, err := node.New(node.Config{Listen: "127.0.0.1:0", Identity: k.Key})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := node.New(node.Config{Listen: "127.0.0.1:0", Identity: want})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := b.Connect(ctx, a.URL()); err != nil {
		t.Error(err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if _, err := k.Sign(nil, []byte("x"), nil); err == nil {
		t.Error("still signs")
	}
}

// serveAgent is an ssh-agent that holds the key at path.
func serveAgent(t *testing.T, socket, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := ssh.ParseRawPrivateKeyWithPassphrase(data, []byte("open"))
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: raw}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				_ = agent.ServeAgent(ring, c) // ends with the connection
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return socket
}

func TestOnlyBuiltInServices(t *testing.T) {
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	_, err = node.New(node.Config{Identity: key, Services: []string{"nothing"}})
	if e, ok := errors.AsType[*node.ServiceError](err); !ok || e.Name != "nothing" || len(e.Known) != 2 {
		t.Errorf("unknown service: %v", err)
	}
	if _, err = node.New(node.Config{Identity: key, Services: node.Names()}); !errors.Is(err, files.ErrNoDir) {
		t.Errorf("files without a directory: %v", err)
	}
	if _, err = node.New(node.Config{Identity: key, Services: node.Names(), Dir: "missing"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func TestPolicyIsTheFileAndTheList(t *testing.T) {
	keys := make([]*identity.Key, 3)
	for i := range keys {
		var err error
		if keys[i], err = identity.Generate(); err != nil {
			t.Fatal(err)
		}
	}
	listed := filepath.Join(t.TempDir(), "authorized_peers")
	if err := identity.AppendAuthorized(listed, identity.Entry{ID: keys[0].ID(), Services: []string{"echo"}}); err != nil {
		t.Fatal(err)
	}
	server, err := node.New(node.Config{
		Listen: "127.0.0.1:0", Identity: mustKey(t), Authorized: listed, Allow: []identity.NodeID{keys[1].ID()},
		Services: node.Names(), Dir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for i, want := range []map[string]bool{{"echo": true, "files": false}, {"echo": true, "files": true}, {"echo": false, "files": false}} {
		n, err := peer.NewNode(peer.Config{ListenAddr: "127.0.0.1:0", Identity: keys[i]})
		if err != nil {
			t.Fatal(err)
		}
		for service, ok := range want {
			_, _, err := n.PeerAPI.StartRemotePeer(t.Context(), service, server.URL(), 10*time.Second)
			if (err == nil) != ok {
				t.Errorf("key %d, service %s: %v", i, service, err)
			}
			if e, refused := errors.AsType[*circuit.RefusedError](err); refused && e.Code != circuit.RefusedUnauthorized {
				t.Errorf("key %d, service %s: %v", i, service, err)
			}
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

func mustKey(t *testing.T) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyThatMustExistIsNotMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := node.LoadKey(node.KeySource{Path: path, MustExist: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it was made")
	}
}
