package transporttest

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"testing"

	"ckt.local/transport"
)

const bothDialRounds = 200

func testBothDial(t *testing.T, mk Maker) {
	key := newKey(t)
	pin := transport.Endpoint.Key
	open := func(transport.Endpoint) ed25519.PublicKey { return nil }
	kinds := []struct {
		name       string
		a, b       transport.Endpoint
		pinA, pinB func(transport.Endpoint) ed25519.PublicKey // what a and b pin of the other
	}{
		{"both pin", mk.make(t, Spec{}), mk.make(t, Spec{}), pin, pin},
		{"neither pins", mk.make(t, Spec{}), mk.make(t, Spec{}), open, open},
		{"one pins", mk.make(t, Spec{}), mk.make(t, Spec{}), pin, open},
		{"same key", mk.make(t, Spec{Key: key}), mk.make(t, Spec{Key: key}), pin, pin},
	}
	for round := range bothDialRounds {
		k := kinds[round%len(kinds)]
		t.Run(fmt.Sprint(k.name, " ", round), func(t *testing.T) {
			ca, cb := dialAtOnce(t, k.a, k.b, k.pinA(k.b), k.pinB(k.a))
			checkOne(t, k.a, k.b, ca, cb)
			ca.Close(transport.CodeClosed, "")
			cause(t, cb)
		})
	}
}

func dialAtOnce(t *testing.T, a, b transport.Endpoint, pinA, pinB ed25519.PublicKey) (ca, cb transport.Conn) {
	t.Helper()
	var errA, errB error
	var wg sync.WaitGroup
	start := make(chan struct{})
	wg.Go(func() { <-start; ca, errA = a.Dial(patience(t), b.Addr().String(), pinA) })
	wg.Go(func() { <-start; cb, errB = b.Dial(patience(t), a.Addr().String(), pinB) })
	close(start)
	wg.Wait()
	if err := errors.Join(errA, errB); err != nil {
		t.Fatalf("Dial: %v", err)
	}
	return ca, cb
}

// checkOne checks that ca and cb are the two ends of the one Conn between a
// and b, that one of them was accepted, and that both stay.
func checkOne(t *testing.T, a, b transport.Endpoint, ca, cb transport.Conn) {
	t.Helper()
	if ca.Info().Dialed == cb.Info().Dialed {
		t.Fatalf("Dialed is %v at both ends: they are two Conns", ca.Info().Dialed)
	}
	talk(t, ca, cb, "from a to b")
	talk(t, cb, ca, "from b to a")
	acceptor, want := a, ca
	if ca.Info().Dialed {
		acceptor, want = b, cb
	}
	if c, err := acceptor.Accept(patience(t)); err != nil || c != want {
		t.Fatalf("Accept returned %v, %v; want the Conn", c, err)
	}
	if again := dial(t, a, b); again != ca {
		t.Fatal("a holds another Conn than its Dial returned")
	}
	if again := dial(t, b, a); again != cb {
		t.Fatal("b holds another Conn than its Dial returned")
	}
	if ca.Context().Err() != nil || cb.Context().Err() != nil {
		t.Fatal("the Conn did not stay")
	}
}

func testDialAndClose(t *testing.T, mk Maker) {
	// Whoever sees the end of a Conn may dial at once, while the other side
	// does not know of the end yet, and gets a Conn that works.
	a, b := mk.make(t, Spec{}), mk.make(t, Spec{})
	var wg sync.WaitGroup
	wg.Go(func() { // b's service: echo one stream of each Conn
		for {
			c, err := b.Accept(t.Context())
			if err != nil {
				return
			}
			wg.Go(func() { echo(t, c) })
		}
	})
	for i := range 100 {
		c := dial(t, a, b)
		s, err := c.OpenStream(patience(t))
		if err != nil {
			t.Fatalf("round %d: OpenStream: %v", i, err)
		}
		message := fmt.Sprintf("round %d", i)
		if _, err := s.Write([]byte(message)); err != nil {
			t.Fatalf("round %d: Write: %v", i, err)
		}
		s.Close()
		if got := readAll(t, s); got != message {
			t.Fatalf("read %q, want %q", got, message)
		}
		c.Close(transport.CodeClosed, "")
	}
	b.Close()
	wg.Wait()
}
