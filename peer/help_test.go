package peer_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
)

// patience is how long a test waits for what should happen at once.
const patience = 20 * time.Second

// echo is a service that sends everything back on the circuit it came on.
func echo(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx0.Done():
			return nil
		case c := <-newCircuitCh:
			wg.Go(func() {
				for f, err := range c.Fragments(ctx0) {
					if err != nil || c.Send(ctx0, f) != nil {
						return
					}
				}
			})
		}
	}
}

// idle is a service that keeps its circuits and does nothing.
func idle(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	for {
		select {
		case <-ctx0.Done():
			return nil
		case <-newCircuitCh:
		}
	}
}

// A stage is a service whose peers do what the test tells them.
type stage struct {
	circuits chan *circuit.Circuit // what its peers have taken
	end      chan error            // makes one peer return; a panicValue makes it panic
}

type panicValue struct{ error }

func newStage() *stage {
	return &stage{circuits: make(chan *circuit.Circuit, 1000), end: make(chan error)}
}

func (s *stage) serve(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	for {
		select {
		case <-ctx0.Done():
			return ctx0.Err()
		case c := <-newCircuitCh:
			s.circuits <- c
		case err := <-s.end:
			if v, ok := err.(panicValue); ok {
				panic(v.error)
			}
			return err
		}
	}
}

func (s *stage) next(t *testing.T) *circuit.Circuit {
	t.Helper()
	return receive(t, s.circuits, "the service takes the circuit")
}

// receive returns the next value of ch; what says in words what is awaited.
func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v, ok := <-ch:
		if !ok {
			t.Fatalf("%s: the channel is closed", what)
		}
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing within %v", what, patience)
	}
	panic("not reached")
}

// wait returns when done is closed.
func wait(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
}

// causeOf returns why the circuit has ended, once it has.
func causeOf(t *testing.T, c *circuit.Circuit) error {
	t.Helper()
	wait(t, c.Context.Done(), "the circuit ends")
	return context.Cause(c.Context)
}

// open opens a circuit from p to the peer at url.
func open(t *testing.T, p *peer.LocalPeer, url string, first *circuit.Fragment) *circuit.Circuit {
	t.Helper()
	c, ctx, err := p.NewCircuitToPeerURL(url, first, 0)
	if err != nil {
		t.Fatalf("%s opens a circuit to %s: %v", p.ServiceName(), url, err)
	}
	if ctx != c.Context {
		t.Fatal("the returned context is not the circuit's")
	}
	return c
}

// say sends a text and returns what comes back.
func say(t *testing.T, c *circuit.Circuit, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Send(ctx, &circuit.Fragment{Payload: []byte(text)}); err != nil {
		t.Fatalf("sending %q: %v", text, err)
	}
	return string(receive(t, c.Reads, "the answer").Payload)
}

// wantRefused checks that err is the other side's no of that code.
func wantRefused(t *testing.T, err error, code circuit.RefuseCode) *circuit.RefusedError {
	t.Helper()
	refused, ok := errors.AsType[*circuit.RefusedError](err)
	if !ok || refused.Code != code {
		t.Fatalf("got %T %v, want a refusal: %v", err, err, code)
	}
	return refused
}

// wantIs checks that err matches target.
func wantIs(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %T %v, want %v", err, err, target)
	}
}

// newTestNode makes a node on the loopback interface, which the test closes.
// newNode has it closed at the end of the test.
func newTestNode(t *testing.T, cfg peer.Config) *peer.Node {
	t.Helper()
	if cfg.ListenAddr == "" {
		cfg.ListenAddr = "127.0.0.1:0"
	}
	n, err := peer.NewNode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newNode(t *testing.T, cfg peer.Config) *peer.Node {
	t.Helper()
	n := newTestNode(t, cfg)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return n
}

// exit ends the goroutine as t.FailNow does.
func exit() { runtime.Goexit() }

func register(t *testing.T, n *peer.Node, name string, f peer.PeerServiceFunc) {
	t.Helper()
	if err := n.PeerAPI.RegisterPeerServiceFunc(name, f); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for something that follows soon from what was done.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// forward returns a service that hands its circuits to the test.
func forward(to chan<- *circuit.Circuit) peer.PeerServiceFunc {
	return func(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
		for {
			select {
			case <-ctx0.Done():
				return nil
			case c := <-newCircuitCh:
				select {
				case to <- c:
				case <-ctx0.Done():
				}
			}
		}
	}
}
