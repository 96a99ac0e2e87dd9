package quic_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/quic"
	"ckt.local/transport/simnet"
)

// A party uses Conns as circuits do: it pings on the newest one, and dials, if
// it is the one to do so, whenever there is none.
type party struct {
	e      *quic.Endpoint
	to     netip.Addr
	ctx    context.Context
	stop   context.CancelFunc
	joined sync.WaitGroup

	mu    sync.Mutex
	conn  transport.Conn
	heard time.Time // the other one, on conn
}

func newParty(t *testing.T, e *quic.Endpoint, to netip.Addr) *party {
	p := &party{e: e, to: to}
	p.ctx, p.stop = context.WithCancel(t.Context())
	p.joined.Go(func() {
		for {
			c, err := e.Accept(p.ctx)
			if err != nil {
				return
			}
			p.use(c)
		}
	})
	return p
}

// dialing keeps a Conn there is, with attempts of 5 s.
func (p *party) dialing() {
	p.joined.Go(func() {
		for p.ctx.Err() == nil {
			if c, _ := p.now(); c != nil && c.Context().Err() == nil {
				select {
				case <-c.Context().Done():
				case <-p.ctx.Done():
				}
				continue
			}
			ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
			if c, err := p.e.Dial(ctx, simAddr(p.to), nil); err == nil {
				p.use(c)
			}
			cancel()
		}
	})
}

func (p *party) now() (transport.Conn, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn, p.heard
}

// use makes c the party's Conn.
func (p *party) use(c transport.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c == p.conn {
		return
	}
	p.conn, p.heard = c, time.Time{}
	p.joined.Go(func() { p.ping(c) })
	p.joined.Go(func() { p.listen(c) })
}

func (p *party) ping(c transport.Conn) {
	s, err := c.OpenStream(p.ctx)
	for err == nil {
		_, err = s.Write(make([]byte, 64))
		select {
		case <-time.After(750 * time.Millisecond):
		case <-c.Context().Done():
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *party) listen(c transport.Conn) {
	s, err := c.AcceptStream(p.ctx)
	for b := make([]byte, 64); err == nil; {
		if _, err = s.Read(b); err == nil {
			p.mu.Lock()
			if p.conn == c {
				p.heard = time.Now()
			}
			p.mu.Unlock()
		}
	}
}

func (p *party) close() {
	p.stop()
	p.e.Close()
	p.joined.Wait()
}

// together waits until both have the same Conn and have heard one another on
// it, and returns how long that has taken.
func together(a, b *party, limit time.Duration) (time.Duration, error) {
	began := time.Now()
	for ; ; time.Sleep(10 * time.Millisecond) {
		ca, heardA := a.now()
		cb, heardB := b.now()
		took := time.Since(began)
		switch {
		case ca != nil && cb != nil && ca.Context().Err() == nil && cb.Context().Err() == nil &&
			ca.Info().Dialed != cb.Info().Dialed && heardA.After(began) && heardB.After(began):
			return took, nil
		case took > limit:
			return took, fmt.Errorf("after %v the one has %v, heard %v, and the other %v, heard %v",
				limit, state(ca), heardA.After(began), state(cb), heardB.After(began))
		}
	}
}

func state(c transport.Conn) string {
	if c == nil {
		return "no Conn"
	}
	return fmt.Sprintf("a Conn (dialled %v, ended %v)", c.Info().Dialed, context.Cause(c.Context()))
}

// A breach is one way to lose a Conn and find together again.
type breach struct {
	cut    string // "there", "back" or "both"
	loses  string // who gives the Conn up while the path is cut: "a", "b" or "both"
	dials  string // who dials
	length time.Duration
}

func eachBreach(try func(breach)) {
	for _, cut := range []string{"there", "back", "both"} {
		for _, loses := range []string{"a", "b", "both"} {
			for _, dials := range []string{"a", "b", "both"} {
				for _, length := range []time.Duration{90, 500, 1700, 4300, 13000} {
					try(breach{cut, loses, dials, length * time.Millisecond})
				}
			}
		}
	}
}

func TestHeal(t *testing.T) {
	// Whatever was cut, whoever gave up and whoever dials: two seconds after
	// the heal both have the same Conn, and keep it.
	small, large := twoKeys(t)
	for _, keys := range [][2]*identity.Key{{small, large}, {large, small}} {
		inSim(t, simnet.Link{Latency: 20 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
			eachBreach(func(br breach) { heal(t, n, br, keys) })
		})
	}
}

// parties makes two that have a Conn, which a has dialled.
func parties(t *testing.T, n *simnet.Network, keys [2]*identity.Key) (a, b *party) {
	t.Helper()
	a = newParty(t, simListen(t, n, alice, keys[0]), bob)
	b = newParty(t, simListen(t, n, bob, keys[1]), alice)
	c, err := a.e.Dial(t.Context(), simAddr(bob), nil)
	if err != nil {
		t.Fatal(err)
	}
	a.use(c)
	if _, err := together(a, b, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// stay fails unless both keep the Conn that they have.
func stay(t *testing.T, what any, ps ...*party) {
	t.Helper()
	var had []transport.Conn
	for _, p := range ps {
		c, _ := p.now()
		had = append(had, c)
	}
	time.Sleep(11 * time.Second) // longer than MaxIdle
	for i, p := range ps {
		if c, _ := p.now(); c != had[i] || c.Context().Err() != nil {
			t.Errorf("%+v: the Conn that was there has ended: %v", what, context.Cause(had[i].Context()))
		}
	}
}

func heal(t *testing.T, n *simnet.Network, br breach, keys [2]*identity.Key) {
	a, b := parties(t, n, keys)
	defer b.close()
	defer a.close()
	time.Sleep(777 * time.Millisecond)
	if br.cut != "back" {
		n.Cut(alice, bob)
	}
	if br.cut != "there" {
		n.Cut(bob, alice)
	}
	const noticed = 50 * time.Millisecond
	time.Sleep(noticed)
	for i, p := range []*party{a, b} {
		name := "ab"[i : i+1]
		if br.loses == name || br.loses == "both" {
			c, _ := p.now()
			c.Close(transport.CodeLost, "")
		}
		if br.dials == name || br.dials == "both" {
			p.dialing()
		}
	}
	time.Sleep(br.length - noticed)
	n.HealAll()
	if _, err := together(a, b, 2*time.Second); err != nil {
		t.Errorf("%+v: %v", br, err)
	}
	stay(t, br, a, b)
}

func TestHealAfterAGlimpse(t *testing.T) {
	// The path is there for a moment, long enough for a handshake or half a
	// hello, and then again.
	small, large := twoKeys(t)
	for _, keys := range [][2]*identity.Key{{small, large}, {large, small}} {
		inSim(t, simnet.Link{Latency: 20 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
			for _, dials := range []string{"a", "b", "both"} {
				for g := 20 * time.Millisecond; g < 400*time.Millisecond; g += 20 * time.Millisecond {
					for _, length := range []time.Duration{700, 2500} {
						glimpse(t, n, dials, g, length*time.Millisecond, keys)
					}
				}
			}
		})
	}
}

func glimpse(t *testing.T, n *simnet.Network, dials string, g, length time.Duration, keys [2]*identity.Key) {
	a, b := parties(t, n, keys)
	defer b.close()
	defer a.close()
	n.Partition(alice, bob)
	for i, p := range []*party{a, b} {
		c, _ := p.now()
		c.Close(transport.CodeLost, "")
		if dials == "ab"[i:i+1] || dials == "both" {
			p.dialing()
		}
	}
	time.Sleep(1300 * time.Millisecond)
	n.HealAll()
	time.Sleep(g)
	n.Partition(alice, bob)
	time.Sleep(length)
	n.HealAll()
	what := fmt.Sprintf("a glimpse of %v, %v before the heal, dialling: %s", g, length, dials)
	if _, err := together(a, b, 2*time.Second); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	stay(t, what, a, b)
}
