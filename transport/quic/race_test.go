package quic_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/quic"
	"ckt.local/transport/simnet"
)

func TestDialFindsAHostThatComesUp(t *testing.T) {
	// Whenever in the course of a Dial, or of several, the host comes up: it
	// is found soon.
	inSim(t, simnet.Link{Latency: 20 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
		k1, k2 := generate(t), generate(t)
		for after := time.Duration(0); after <= 20*time.Second; after += 130 * time.Millisecond {
			a := simListen(t, n, alice, k1)
			found := make(chan transport.Conn)
			go func() { found <- redial(t, a, bob) }()
			time.Sleep(after)
			b := simListen(t, n, bob, k2)
			up := time.Now()
			<-found
			if took := time.Since(up); took > 700*time.Millisecond {
				t.Errorf("the host came up after %v and was found %v later, want at most 0.7 s", after, took)
			}
			a.Close()
			b.Close()
		}
	})
}

func TestOneHandshakeSaysHello(t *testing.T) {
	// On paths so slow that several handshakes are under way, and with some
	// that come late: the server hears one hello, and forgets the others at
	// once, long before they have had their time.
	for _, latency := range []time.Duration{300, 600, 700, 900, 1500, 2000} {
		link := simnet.Link{Latency: latency * time.Millisecond}
		inSim(t, link, func(t *testing.T, n *simnet.Network) {
			var asked atomic.Int32
			a := simListen(t, n, alice, generate(t))
			b := simListenOn(t, n.Host(bob), quic.Config{Key: generate(t), Authorize: func(ed25519.PublicKey, net.Addr) error {
				asked.Add(1)
				return nil
			}})
			ca, cb := join(t, a, b)
			speak(t, ca, cb)
			time.Sleep(2 * link.Latency)
			if n := b.Unopened(); n > 0 {
				t.Errorf("one way %v: %d connections besides the open one are known to the server", link.Latency, n)
			}
			if asked := asked.Load(); asked != 1 {
				t.Errorf("one way %v: the server has judged %d connections, want 1", link.Latency, asked)
			}
			time.Sleep(time.Minute)
			if ca.Context().Err() != nil || cb.Context().Err() != nil {
				t.Errorf("one way %v: the Conn has ended: %v", link.Latency, context.Cause(ca.Context()))
			}
			a.Close()
			b.Close()
		})
	}
}

func TestDialGivenUpInARace(t *testing.T) {
	// Whenever a Dial is given up, or its endpoint closed, nothing goes on.
	inSim(t, simnet.Link{Latency: 700 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
		k1, k2 := generate(t), generate(t)
		for after := time.Duration(0); after <= 6*time.Second; after += 190 * time.Millisecond {
			a, b := simListen(t, n, alice, k1), simListen(t, n, bob, k2)
			ctx, cancel := context.WithTimeout(t.Context(), after)
			began := time.Now()
			if _, err := a.Dial(ctx, simAddr(bob), nil); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Dial given up after %v: %v", after, err)
			}
			if took := time.Since(began); took > after {
				t.Errorf("Dial given up after %v has taken %v", after, took)
			}
			cancel()
			began = time.Now()
			a.Close()
			b.Close()
			if took := time.Since(began); took > 0 {
				t.Errorf("closing has taken %v", took)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestRefusedHandshakeDoesNotEndTheRace(t *testing.T) {
	// A server without a place for the second handshake has one for the first.
	inSim(t, simnet.Link{Latency: 700 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
		a, b := simListen(t, n, alice, generate(t)), simListen(t, n, bob, generate(t))
		time.AfterFunc(time.Second, func() { b.Occupy(1000) })
		c, err := a.Dial(t.Context(), simAddr(bob), nil)
		if err != nil {
			t.Errorf("Dial: %v", err)
		} else if took := time.Since(c.Info().Opened); took > 0 {
			t.Errorf("the Conn has been open for %v", took)
		}
		b.Occupy(-1000)
		a.Close()
		b.Close()
	})
}

func TestCrowdFindsAHostThatComesUp(t *testing.T) {
	// All handshakes of an office behind one address count together, and those
	// that are one too many count as well: nobody stays outside.
	inSim(t, simnet.Link{Latency: 50 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
		const crowd = 150
		var ends []*quic.Endpoint
		found := make(chan time.Time)
		key := generate(t)
		for range crowd {
			pc, err := n.Host(alice).Listen(0)
			if err != nil {
				t.Fatal(err)
			}
			e, err := quic.Listen(quic.Config{Conn: pc, Key: generate(t), Authorize: everybody})
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, e)
			go func() {
				redial(t, e, bob)
				found <- time.Now()
			}()
		}
		time.Sleep(7500 * time.Millisecond)
		b := simListen(t, n, bob, key)
		up := time.Now()
		var last time.Time
		for range crowd {
			last = <-found
		}
		if took := last.Sub(up); took > 1500*time.Millisecond {
			t.Errorf("the last of %d was in after %v, want 1.5 s", crowd, took)
		}
		for _, e := range append(ends, b) {
			e.Close()
		}
	})
}
