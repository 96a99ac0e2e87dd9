package quic_test

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/quic"
	"ckt.local/transport/simnet"
)

// Where hosts move to, where NAT boxes are, and an address that nothing comes
// from.
var (
	elsewhere = netip.MustParseAddr("10.0.0.9")
	home      = netip.MustParseAddr("10.0.0.8")
	nowhere   = netip.MustParseAddr("10.0.0.7")
)

const gap = 300 * time.Millisecond

// A load is a stream that is always full.
type load struct {
	gap atomic.Int64 // the longest time in which nothing came
}

// send writes to c without end, as often as pause says.
func send(t *testing.T, c transport.Conn, size int, pause time.Duration) {
	s, err := c.OpenStream(t.Context())
	if err != nil {
		t.Errorf("OpenStream: %v", err)
		return
	}
	for b := make([]byte, size); ; time.Sleep(pause) {
		if _, err := s.Write(b); err != nil {
			return
		}
	}
}

// receive reads the full stream.
func (l *load) receive(t *testing.T, c transport.Conn) {
	s, err := c.AcceptStream(t.Context())
	if err != nil {
		t.Errorf("AcceptStream: %v", err)
		return
	}
	last := time.Now()
	for b := make([]byte, 16<<10); ; last = time.Now() {
		if _, err := s.Read(b); err != nil {
			return
		}
		l.gap.Store(max(l.gap.Load(), int64(time.Since(last))))
	}
}

// seenAt is the address at which c sees its other side.
func seenAt(c transport.Conn) netip.AddrPort {
	return c.Info().RemoteAddr.(*net.UDPAddr).AddrPort()
}

// wantAlive fails if one of the two ends of a Conn has ended.
func wantAlive(t *testing.T, ends ...transport.Conn) {
	t.Helper()
	for _, c := range ends {
		if c.Context().Err() != nil {
			t.Errorf("the Conn has ended: %v", context.Cause(c.Context()))
		}
	}
}

// moves are the ways in which a dialler's address changes.
var moves = []struct {
	name string
	nat  bool
	move func(h *simnet.Host, g *simnet.NAT) error
}{
	{"other access point", false, func(h *simnet.Host, _ *simnet.NAT) error { return h.Move(elsewhere) }},
	{"with a gap", false, func(h *simnet.Host, _ *simnet.NAT) error {
		if err := h.Move(nowhere); err != nil {
			return err
		}
		time.Sleep(gap)
		return h.Move(elsewhere)
	}},
	{"NAT reboot", true, func(_ *simnet.Host, g *simnet.NAT) error { g.Reboot(); return nil }},
	{"NAT with another address", true, func(_ *simnet.Host, g *simnet.NAT) error { return g.Move(elsewhere) }},
}

func TestDiallerMoves(t *testing.T) {
	// Under load in either direction the Conn lives.
	for _, m := range moves {
		for _, dir := range []string{"up", "down", "both"} {
			link := simnet.Link{Latency: 20 * time.Millisecond, Bandwidth: 1 << 20}
			inSim(t, link, func(t *testing.T, n *simnet.Network) {
				n.Partition(nowhere, bob)
				var g *simnet.NAT
				h := n.Host(alice)
				if m.nat {
					var err error
					if g, err = n.NAT(home, simnet.NATConfig{Kind: simnet.PortRestricted}); err != nil {
						t.Fatal(err)
					}
					h = g.Host(alice)
				}
				a, b := simListenOn(t, h, quic.Config{Key: generate(t)}), simListen(t, n, bob, generate(t))
				ca, cb := join(t, a, b)
				var up, down load
				if dir != "down" {
					go send(t, ca, 16<<10, 0)
					go up.receive(t, cb)
				}
				if dir != "up" {
					go send(t, cb, 16<<10, 0)
					go down.receive(t, ca)
				}
				time.Sleep(100 * time.Millisecond) // the full streams are the first ones
				go send(t, ca, 64, 750*time.Millisecond)
				go send(t, cb, 64, 750*time.Millisecond)
				time.Sleep(2*time.Second + 123*time.Millisecond)
				before := seenAt(cb)
				if err := m.move(h, g); err != nil {
					t.Fatal(err)
				}
				time.Sleep(4 * time.Second)
				wantAlive(t, ca, cb)
				if now := seenAt(cb); now == before {
					t.Errorf("the dialler is still seen at %v", now)
				}
				if worst := time.Duration(max(up.gap.Load(), down.gap.Load())); worst > 2*time.Second {
					t.Errorf("%s, %s: nothing came for %v", m.name, dir, worst)
				}
				a.Close()
				b.Close()
				time.Sleep(time.Second) // for the pings to end
			})
		}
	}
}

func TestAcceptorMoves(t *testing.T) {
	// QUIC follows a dialler only: the Conn dies. Whoever notices first gives
	// it up and dials, and the other one's Conn is replaced at once.
	small, large := twoKeys(t)
	for _, keys := range [][2]*identity.Key{{small, large}, {large, small}} {
		for _, who := range []string{"nobody", "the acceptor", "the dialler"} {
			inSim(t, simnet.Link{Latency: 20 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
				a, b := parties(t, n, keys)
				defer b.close()
				defer a.close()
				oldA, _ := a.now()
				oldB, _ := b.now()
				if err := n.Host(bob).Move(elsewhere); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				wantAlive(t, oldA, oldB) // as far as they know
				switch who {
				case "nobody":
					wantLost(t, cause(t, oldB, 10))
					wantLost(t, cause(t, oldA, 20))
					return
				case "the acceptor":
					oldB.Close(transport.CodeLost, "")
					b.dialing()
				case "the dialler":
					oldA.Close(transport.CodeLost, "")
					a.to = elsewhere
					a.dialing()
				}
				took, err := together(a, b, time.Second)
				if err != nil {
					t.Errorf("%s dials: %v", who, err)
				}
				// A hello that is refused, and one that is not.
				if took > 300*time.Millisecond {
					t.Errorf("%s dials: a new Conn after %v", who, took)
				}
				if oldA.Context().Err() == nil || oldB.Context().Err() == nil {
					t.Errorf("%s dials: an end of the old Conn lives on", who)
				}
				now, _ := a.now()
				if got := seenAt(now).Addr(); got != elsewhere {
					t.Errorf("%s dials: the acceptor is seen at %v, want %v", who, got, elsewhere)
				}
				stay(t, who, a, b)
			})
		}
	}
}
