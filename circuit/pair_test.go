package circuit_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/quic"
)

// side is one end of a connection: a link, and a peer that takes every
// circuit of service "any".
type side struct {
	link *circuit.Link
	seed circuit.ID
	id   circuit.ID // of the peer
	news chan *circuit.Circuit

	mu     sync.Mutex
	open   map[*circuit.Circuit]bool
	refuse error // what to answer instead of yes

	refused []error // what CircuitRefused was told

	asked atomic.Int64  // openings that AcceptCircuit is asked about just now
	held  chan struct{} // AcceptCircuit waits until it is closed; nil: it does not
}

// hold keeps openings waiting until release.
func (s *side) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = make(chan struct{})
}

func (s *side) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.held)
	s.held = nil
}

// newSide returns a side of the node that e is.
func newSide(e transport.Endpoint) *side {
	seed := circuit.NewID()
	return &side{seed: seed, id: seed.Peer(identity.NodeIDOf(e.Key())), news: make(chan *circuit.Circuit, 32), open: map[*circuit.Circuit]bool{}}
}

func (s *side) AcceptCircuit(ctx context.Context, req circuit.OpenRequest) (circuit.Acceptance, error) {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if held != nil {
		s.asked.Add(1)
		defer s.asked.Add(-1)
		select {
		case <-held:
		case <-ctx.Done():
			return circuit.Acceptance{}, &circuit.Refusal{Code: circuit.RefusedBusy}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refuse != nil:
		return circuit.Acceptance{}, s.refuse
	case req.ToService != "any":
		return circuit.Acceptance{}, &circuit.Refusal{Code: circuit.RefusedUnknownService, Reason: "only any"}
	}
	return circuit.Acceptance{PeerID: s.id, Seed: s.seed, Owner: s, Deliver: s.deliver}, nil
}

func (s *side) CircuitRefused(_ circuit.OpenRequest, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, err)
}

func (s *side) deliver(ctx context.Context, c *circuit.Circuit) error {
	select {
	case s.news <- c:
		return nil
	case <-ctx.Done():
		return &circuit.Refusal{Code: circuit.RefusedBusy}
	}
}

func (s *side) AddCircuit(c *circuit.Circuit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[c] {
		return fmt.Errorf("added twice")
	}
	s.open[c] = true
	return nil
}

func (s *side) RemoveCircuit(c *circuit.Circuit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open[c] {
		panic("removed what was not there")
	}
	delete(s.open, c)
}

func (s *side) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

func (s *side) params(first *circuit.Fragment) circuit.OpenParams {
	return circuit.OpenParams{FromPeerID: s.id, FromSeed: s.seed, FromService: "any", ToService: "any", First: first, Owner: s}
}

// pair is two sides joined by real QUIC.
type pair struct {
	a, b *side
	ea   transport.Endpoint
	eb   transport.Endpoint
}

// endpointAt makes an endpoint that lets everybody in.
func endpointAt(t testing.TB, conn net.PacketConn) transport.Endpoint {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	e, err := quic.Listen(quic.Config{
		Conn:      conn,
		Key:       key,
		Authorize: func(ed25519.PublicKey, net.Addr) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func loopback(t testing.TB) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newPair joins two sides over UDP on loopback.
func newPair(t testing.TB, cfg circuit.Config) *pair {
	t.Helper()
	p := join(t, endpointAt(t, loopback(t)), endpointAt(t, loopback(t)), cfg, cfg)
	t.Cleanup(p.close)
	return p
}

func join(t testing.TB, ea, eb transport.Endpoint, cfgA, cfgB circuit.Config) *pair {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p := &pair{a: newSide(ea), b: newSide(eb), ea: ea, eb: eb}
	got := make(chan transport.Conn, 1)
	go func() {
		c, err := eb.Accept(ctx)
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	ca, err := ea.Dial(ctx, eb.Addr().String(), eb.Key())
	if err != nil {
		t.Fatal(err)
	}
	cb := <-got
	if cb == nil {
		t.FailNow()
	}
	p.a.link = circuit.NewLink(ca, p.a, cfgA)
	p.b.link = circuit.NewLink(cb, p.b, cfgB)
	return p
}

// close takes the pair down and waits for its goroutines.
func (p *pair) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	p.a.link.Shutdown(ctx, nil)
	p.b.link.Shutdown(ctx, nil)
	close(p.a.news) // nothing is delivered any more
	close(p.b.news)
	p.ea.Close()
	p.eb.Close()
}

// openCircuit opens a circuit from a to b and returns both ends.
func (p *pair) openCircuit(t testing.TB, first *circuit.Fragment) (a, b *circuit.Circuit) {
	t.Helper()
	a, err := p.a.link.Open(t.Context(), p.a.params(first))
	if err != nil {
		t.Fatal(err)
	}
	return a, <-p.b.news
}

func frag(part int64, text string) *circuit.Fragment {
	return &circuit.Fragment{FragPart: part, Payload: []byte(text)}
}

// soon waits, in real time, for what another goroutine is about to do.
func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
