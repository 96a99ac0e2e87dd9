package node_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/cmd/internal/node"
	"ckt.local/peer"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/trust"
)

// start makes a node that ends with the test.
func start(t *testing.T, cfg node.Config) *peer.Node {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	if cfg.Identity == nil {
		cfg.Identity = mustKey(t)
	}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func connect(t *testing.T, n *peer.Node, addr string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := n.Connect(ctx, addr)
	return err
}

// A node does not start without what it was told to go by.
func TestFilesAboutTrustHaveToBeUsable(t *testing.T) {
	dir := t.TempDir()
	nonsense := filepath.Join(dir, "nonsense")
	if err := os.WriteFile(nonsense, []byte("what is this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")
	for why, c := range map[string]struct {
		cfg node.Config
		is  error // nil: whatever is wrong with nonsense
	}{
		"no such key":        {node.Config{PSK: missing}, fs.ErrNotExist},
		"no key in it":       {node.Config{PSK: nonsense}, nil},
		"no such statement":  {node.Config{Rotation: missing}, fs.ErrNotExist},
		"no statement in it": {node.Config{Rotation: nonsense}, nil},
		"no list of revoked": {node.Config{Revoked: nonsense}, nil},
	} {
		c.cfg.Listen, c.cfg.Identity = "127.0.0.1:0", mustKey(t)
		n, err := node.New(c.cfg)
		if err == nil {
			n.Close()
		}
		e, ok := errors.AsType[*node.TrustFileError](err)
		if !ok || e.Path == "" || !strings.Contains(err.Error(), e.Path) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", why, err)
		}
	}
	start(t, node.Config{Revoked: missing, KnownPeers: missing})
}

func TestConfigReachesTheNode(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := trust.NewPSK(in("psk")); err != nil {
		t.Fatal(err)
	}
	var audit bytes.Buffer
	key, thief := mustKey(t), mustKey(t)
	server, err := node.New(node.Config{
		Listen: "127.0.0.1:0", Identity: mustKey(t), PSK: in("psk"), Revoked: in("revoked"),
		Allow: []identity.NodeID{key.ID(), thief.ID()}, Services: []string{"echo"},
		Limits: limit.Limits{Peer: limit.Peer{StartedPerNode: 1}},
		Audit:  slog.New(slog.NewJSONHandler(&audit, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	revoked, err := trust.OpenRevoked(in("revoked"), nil)
	if err == nil {
		err = revoked.Add(thief.ID(), "")
	}
	if err != nil {
		t.Fatal(err)
	}

	e, ok := errors.AsType[*transport.RemoteError](connect(t, start(t, node.Config{Identity: key}), server.URL()))
	if !ok || e.Code != transport.CodePSK {
		t.Errorf("without the pre-shared key: %v", e)
	}
	e, ok = errors.AsType[*transport.RemoteError](connect(t, start(t, node.Config{Identity: thief, PSK: in("psk")}), server.URL()))
	if !ok || e.Code != transport.CodeRefused {
		t.Errorf("with a revoked key: %v", e)
	}

	n := start(t, node.Config{Identity: key, PSK: in("psk"), KnownPeers: in("known"), TrustNew: func(_ context.Context, addr string, id identity.NodeID) error {
		if addr != server.Addr().String() || id != server.ID() {
			t.Errorf("asked about %v at %s", id, addr)
		}
		return nil
	}})
	if err := connect(t, n, server.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(in("known")); err != nil || !strings.HasPrefix(string(text), server.Addr().String()+" ") {
		t.Errorf("known peers: %q, %v", text, err)
	}
	for i := range 2 {
		_, _, err := n.PeerAPI.StartRemotePeer(t.Context(), "echo", server.URL(), 0)
		refused, _ := errors.AsType[*circuit.RefusedError](err)
		if i == 0 && err != nil || i == 1 && (refused == nil || refused.Code != circuit.RefusedLimit) {
			t.Errorf("start %d: %v", i+1, err)
		}
	}
	if err := server.Close(); err != nil { // and with it what writes the audit log
		t.Error(err)
	}
	for _, want := range []string{`"action":"connect","node":"` + key.ID().String(), `"node":"` + thief.ID().String()} {
		if !strings.Contains(audit.String(), want) {
			t.Errorf("no %s in %s", want, &audit)
		}
	}
}

// What is known is needed for addresses without a key, and for nothing else.
func TestKnownPeersThatCannotBeUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known")
	if err := os.WriteFile(path, []byte("what is this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := mustKey(t)
	server := start(t, node.Config{Identity: key})
	var log bytes.Buffer
	n := start(t, node.Config{Identity: key, KnownPeers: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if !strings.Contains(log.String(), "known peers not used") {
		t.Errorf("logged: %s", &log)
	}
	if err := connect(t, n, server.Addr().String()); err == nil || !strings.Contains(err.Error(), path+":1") {
		t.Errorf("by its address: %v", err)
	}
	if err := connect(t, n, server.URL()); err != nil {
		t.Errorf("by its URL: %v", err)
	}
	if err := connect(t, n, server.Addr().String()); err == nil {
		t.Error("by its address, when it is connected")
	}
}

func TestRotationReachesTheNode(t *testing.T) {
	old, fresh := mustKey(t), mustKey(t)
	r, err := trust.NewRotation(old, fresh, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rotation")
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	server := start(t, node.Config{Allow: []identity.NodeID{old.ID()}})
	if err := connect(t, start(t, node.Config{Identity: fresh}), server.URL()); err == nil {
		t.Error("a key that nobody has listed is let in")
	}
	if err := connect(t, start(t, node.Config{Identity: fresh, Rotation: path}), server.URL()); err != nil {
		t.Error(err)
	}
}
