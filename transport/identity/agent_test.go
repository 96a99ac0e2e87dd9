package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/agent"
)

// An agentServer is an ssh-agent that can go away.
type agentServer struct {
	socket   string
	listener net.Listener
	wg       sync.WaitGroup
}

// startAgent serves each connection with serve until the test ends.
func startAgent(t *testing.T, serve func(net.Conn)) *agentServer {
	t.Helper()
	// Not t.TempDir: the path of a socket has room for some 100 bytes only.
	dir, err := os.MkdirTemp("", "ckt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &agentServer{socket: filepath.Join(dir, "agent")}
	if s.listener, err = net.Listen("unix", s.socket); err != nil {
		t.Skipf("no unix sockets here: %v", err)
	}
	s.wg.Go(func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(s.stop)
	return s
}

func (s *agentServer) stop() {
	s.listener.Close()
	s.wg.Wait()
}

// keyring returns an agent that holds the keys.
func keyring(t *testing.T, keys ...any) func(net.Conn) {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			t.Fatal(err)
		}
	}
	return func(c net.Conn) { _ = agent.ServeAgent(ring, c) }
}

func mustRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func memory(k *Key) ed25519.PrivateKey { return k.holder().(ed25519.PrivateKey) }

func TestAgentKeySigns(t *testing.T) {
	k := testKey(t, 1)
	a := startAgent(t, keyring(t, mustRSA(t), memory(k), memory(testKey(t, 2))))
	ids, err := AgentKeys(a.socket)
	if err != nil || len(ids) != 2 || ids[0] != k.ID() {
		t.Fatalf("AgentKeys = %v, %v", ids, err)
	}
	held, closer, err := DialAgent(a.socket, k.ID())
	if err != nil {
		t.Fatal(err)
	}
	// An agent's key is as good as the same key in memory, in all respects.
	want, _ := k.Derive("x")
	if got, err := held.Derive("x"); err != nil || got != want {
		t.Errorf("Derive differs with the agent: %v", err)
	}
	cert, err := Certificate(held)
	if err != nil {
		t.Fatal(err)
	}
	client, server := handshake(t, cert, certOf(t, testKey(t, 3)))
	if client.err != nil || server.err != nil || server.saw != k.ID() {
		t.Errorf("handshake: %+v, %+v", client, server)
	}
	if err := WriteKeyFile(filepath.Join(safeDir(t), "id"), held, nil, ""); !errors.Is(err, ErrNoPrivateKey) {
		t.Errorf("WriteKeyFile: %v", err)
	}
	// After Close it is an error, not a panic.
	if err := errors.Join(closer.Close(), closer.Close()); err != nil {
		t.Error(err)
	}
	if _, err := held.Sign(nil, []byte("m"), nil); !isType[*AgentError](err) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Sign after Close: %v", err)
	}
}

func TestAgentWithoutKey(t *testing.T) {
	a := startAgent(t, keyring(t, memory(testKey(t, 1))))
	id := testKey(t, 2).ID()
	_, _, err := DialAgent(a.socket, id)
	e, ok := errors.AsType[*AgentError](err)
	if !ok || e.ID != id || e.Socket != a.socket || !errors.Is(err, ErrNotInAgent) {
		t.Errorf("err = %v", err)
	}
}

func TestNoAgent(t *testing.T) {
	for _, socket := range []string{"", filepath.Join(t.TempDir(), "none")} {
		if _, _, err := DialAgent(socket, testKey(t, 1).ID()); !isType[*AgentError](err) || errors.Is(err, ErrNotInAgent) {
			t.Errorf("DialAgent(%q): %v", socket, err)
		}
		if _, err := AgentKeys(socket); !isType[*AgentError](err) {
			t.Errorf("AgentKeys(%q): %v", socket, err)
		}
	}
}

func TestAgentGoesAwayAndComesBack(t *testing.T) {
	k := testKey(t, 1)
	a := startAgent(t, keyring(t, memory(k)))
	held, closer, err := DialAgent(a.socket, k.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	a.stop()
	if _, err := held.Sign(nil, []byte("m"), nil); !isType[*AgentError](err) {
		t.Errorf("Sign without agent: %v", err)
	}
	if _, err := Certificate(held); err == nil {
		t.Error("a certificate was signed without the agent")
	}
	back, err := net.Listen("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	serve := keyring(t, memory(k))
	a.wg.Go(func() {
		if c, err := back.Accept(); err == nil {
			defer c.Close()
			serve(c)
		}
	})
	if _, err := held.Sign(nil, []byte("m"), nil); err != nil {
		t.Errorf("Sign with the agent back: %v", err)
	}
	a.wg.Wait()
}

func TestAgentThatMisbehaves(t *testing.T) {
	k := testKey(t, 1)
	// Another key's signature must never pass for this one's.
	wrong := agent.NewKeyring()
	_ = wrong.Add(agent.AddedKey{PrivateKey: memory(testKey(t, 2))})
	for name, serve := range map[string]func(net.Conn){
		"hangs up": func(net.Conn) {},
		"talks nonsense": func(c net.Conn) {
			_, _ = c.Write([]byte{0, 0, 0, 3, 200, 1, 2})
			drain(c)
		},
		"announces too much": func(c net.Conn) {
			_, _ = c.Write([]byte{0xff, 0xff, 0xff, 0xff})
			drain(c)
		},
		"says nothing":         drain,
		"signs with other key": func(c net.Conn) { _ = agent.ServeAgent(liar{wrong}, c) },
	} {
		a := startAgent(t, serve)
		s := newAgentSigner(a.socket, k.ID(), 200*time.Millisecond)
		if sig, err := s.Sign(nil, []byte("m"), nil); !isType[*AgentError](err) {
			t.Errorf("%s: signature %x, %v", name, sig, err)
		}
	}
}

func TestAgentCloseEndsRequest(t *testing.T) {
	asked := make(chan struct{})
	a := startAgent(t, func(c net.Conn) {
		close(asked)
		drain(c)
	})
	s := newAgentSigner(a.socket, testKey(t, 1).ID(), time.Hour)
	done := make(chan error)
	go func() {
		_, err := s.Sign(nil, []byte("m"), nil)
		done <- err
	}()
	<-asked
	s.Close()
	if err := <-done; !isType[*AgentError](err) {
		t.Errorf("Sign: %v", err)
	}
}

func drain(c net.Conn) {
	for b := make([]byte, 512); ; {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}
