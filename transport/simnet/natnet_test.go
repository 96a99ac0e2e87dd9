package simnet_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"ckt.local/transport/simnet"
)

// The private addresses of these tests, and the public ones of two NATs.
var (
	first   = at("192.168.0.1").Addr()
	second  = at("192.168.0.2").Addr()
	publicA = at("203.0.113.1").Addr()
	publicB = at("203.0.113.2").Addr()
)

func TestPrivateNetworksAreApart(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 10 * ms})
		a, b := natAt(t, n, publicA, simnet.NATConfig{}), natAt(t, n, publicB, simnet.NATConfig{})
		a1, b1 := listenOn(t, a.Host(first), port), listenOn(t, b.Host(first), port)
		a2, a3 := listenOn(t, a.Host(second), port), listenOn(t, a.Host(publicB), port)

		write(t, a2, first, "home")
		expect(t, "the way inside is perfect", listen(t, a1, time.Second), receipt{0, "home"})
		expect(t, "the other NAT has such an address too", listen(t, b1, time.Second))
		write(t, a2, publicB, "a box's address")
		expect(t, "a private address may be public elsewhere", listen(t, a3, time.Second), receipt{0, "a box's address"})
		write(t, b1, second, "nobody")
		expect(t, "an address that nobody has inside is none of another NAT's", listen(t, a2, time.Second))
		if got := counters(n, publicB, second).Dropped; got != (simnet.Drops{NoSocket: 1}) {
			t.Errorf("drops %+v, want one that went out to nobody", got)
		}
		if got := len(n.Stats()); got != 1 {
			t.Errorf("%d directions counted, want the one outside", got)
		}
		n.Partition(publicA, publicB)
		n.SetDefault(simnet.Link{Loss: 1})
		write(t, a2, first, "still")
		expect(t, "faults are outside", listen(t, a1, time.Second), receipt{0, "still"})
	})
}

func TestNATSharesItsLink(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		g := natAt(t, n, publicA, simnet.NATConfig{})
		a, b := listenOn(t, g.Host(first), port), listenOn(t, g.Host(second), port)
		c := open(t, n, carol)
		n.SetLink(publicA, carol, simnet.Link{Bandwidth: 1})
		write(t, a, carol, "1")
		write(t, b, carol, "2")
		expect(t, "both queue for the line", listen(t, c, time.Minute),
			receipt{time.Second, "1"}, receipt{2 * time.Second, "2"})
		n.Cut(publicA, carol)
		write(t, a, carol, "cut")
		expect(t, "the line is cut", listen(t, c, time.Minute))
		if got := counters(n, publicA, carol); got.Sent != 3 || got.Dropped != (simnet.Drops{Cut: 1}) {
			t.Errorf("%+v, want three packets and one cut", got)
		}
	})
}

func TestHairpin(t *testing.T) {
	for _, kind := range natKinds {
		for _, allowed := range []bool{false, true} {
			bubble(t, 1, func(t *testing.T, n *simnet.Network) {
				g := natAt(t, n, publicA, simnet.NATConfig{Kind: kind, Hairpin: allowed})
				a, b := listenOn(t, g.Host(first), port), listenOn(t, g.Host(second), port)
				c := open(t, n, carol)
				hole := func(s net.PacketConn) netip.AddrPort {
					write(t, s, carol, "who am I?")
					_, from := receive(t, c)
					return from
				}
				holeA, holeB := hole(a), hole(b)
				send(t, a, holeB, "punch")
				receive(t, b)
				send(t, b, holeA, "hello")
				got, from := receive(t, a)
				if want := allowed && kind != simnet.Symmetric; (got == "hello") != want || want && from != holeB {
					t.Errorf("%v: hairpin %v: %q from %v", kind, allowed, got, from)
				}
			})
		}
	}
}

// Two hosts behind NATs that learn their outside addresses from a third one,
// and send to one another: which pairs can talk is textbook knowledge (RFC
// 5128, section 3.3).
func TestHolePunching(t *testing.T) {
	for _, ka := range natKinds {
		for _, kb := range natKinds {
			bubble(t, 1, func(t *testing.T, n *simnet.Network) {
				n.SetDefault(simnet.Link{Latency: 10 * ms})
				a := listenOn(t, natAt(t, n, publicA, simnet.NATConfig{Kind: ka}).Host(first), port)
				b := listenOn(t, natAt(t, n, publicB, simnet.NATConfig{Kind: kb}).Host(first), port)
				c := open(t, n, carol)
				peers := map[net.PacketConn]netip.AddrPort{}
				for this, other := range map[net.PacketConn]net.PacketConn{a: b, b: a} {
					write(t, this, carol, "who am I?")
					_, peers[other] = receive(t, c)
				}
				heard := map[net.PacketConn]bool{}
				for range 3 {
					send(t, a, peers[a], "punch")
					send(t, b, peers[b], "punch")
					for _, s := range []net.PacketConn{a, b} {
						if _, from := receive(t, s); from.IsValid() {
							heard[s], peers[s] = true, from
						}
					}
				}
				hard := func(x, y simnet.NATKind) bool { return x == simnet.Symmetric && y >= simnet.PortRestricted }
				want := !hard(ka, kb) && !hard(kb, ka)
				if heard[a] != want || heard[b] != want {
					t.Errorf("%v and %v: heard %v and %v, want %v", ka, kb, heard[a], heard[b], want)
				}
			})
		}
	}
}

// A machine with a server outside goes from one NAT to another, out into the
// open, and back.
func TestMoveBehindNATs(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 10 * ms})
		a := natAt(t, n, publicA, simnet.NATConfig{Kind: simnet.PortRestricted})
		b := natAt(t, n, publicB, simnet.NATConfig{Kind: simnet.Symmetric})
		h := a.Host(first)
		s, c := listenOn(t, h, port), open(t, n, carol)
		contact := func(why string, from netip.Addr) netip.AddrPort {
			t.Helper()
			write(t, s, carol, why)
			got, back := receive(t, c)
			if got != why || back.Addr() != from {
				t.Errorf("%s: %q from %v, want it from %v", why, got, back, from)
			}
			send(t, c, back, "answer")
			wantFrom(t, why, s, "answer", netip.AddrPortFrom(carol, port))
			return back
		}
		home := contact("home", publicA)
		send(t, c, home, "on the way")
		for _, step := range []struct {
			why    string
			to     *simnet.NAT
			addr   netip.Addr
			public netip.Addr
		}{
			{"behind another one", b, first, publicB},
			{"in the open", nil, alice, alice},
			{"home again", a, second, publicA},
			{"elsewhere at home", a, first, publicA},
		} {
			if err := h.MoveBehind(step.to, step.addr); err != nil || h.Addr() != step.addr {
				t.Fatalf("%s: at %v, %v", step.why, h.Addr(), err)
			}
			contact(step.why, step.public)
		}
		if got := contact("as at first", publicA); got != home {
			t.Errorf("the mapping of %v is %v, want the old one %v", first, got, home)
		}
		if got := counters(n, carol, publicA).Dropped; got != (simnet.Drops{Moved: 1}) {
			t.Errorf("drops %+v, want the one that was on the way", got)
		}
	})
}

func TestVanishBehindNAT(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 10 * ms})
		g := natAt(t, n, publicA, simnet.NATConfig{Kind: simnet.PortRestricted})
		a, b, c := listenOn(t, g.Host(first), port), listenOn(t, g.Host(second), port), open(t, n, carol)
		holes := map[net.PacketConn]netip.AddrPort{}
		for _, s := range []net.PacketConn{a, b} {
			write(t, s, carol, "hello")
			_, holes[s] = receive(t, c)
		}
		send(t, c, holes[a], "to the one")
		send(t, c, holes[b], "to the other")
		write(t, a, carol, "from the one")
		write(t, b, carol, "from the other")
		g.Host(first).Vanish()
		wantFrom(t, "the neighbour lives", b, "to the other", netip.AddrPortFrom(carol, port))
		wantFrom(t, "the neighbour's packet too", c, "from the other", holes[b])
		wantSilence(t, "and no other", c)
		again := listenOn(t, g.Host(first), port)
		send(t, c, holes[a], "welcome")
		wantFrom(t, "the NAT has not noticed", again, "welcome", netip.AddrPortFrom(carol, port))
		if got := counters(n, carol, publicA).Dropped; got != (simnet.Drops{Vanished: 1}) {
			t.Errorf("drops %+v, want one", got)
		}
		// The network closes what is behind NATs as well.
		n.Close()
		for _, s := range []net.PacketConn{again, a} {
			if _, _, err := s.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a socket of a closed network: %v", err)
			}
		}
	})
}

func TestNATRunsOutOfPorts(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		const ports = 1<<16 - 1024
		g := natAt(t, n, publicA, simnet.NATConfig{Kind: simnet.Symmetric, MappingTimeout: time.Minute})
		a := listenOn(t, g.Host(first), port)
		n.Record(-1)
		for i := range ports + 3 {
			send(t, a, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(i >> 15)}), uint16(1+i&0x7fff)), "x")
		}
		used := map[uint16]bool{}
		refused := 0
		for _, e := range n.Trace() {
			if e.Fate == simnet.DroppedNAT {
				refused++
			} else if used[e.From.Port()] = true; e.From.Port() < 1024 {
				t.Errorf("port %d is a system service's", e.From.Port())
			}
		}
		// The trace of what arrives is still to come.
		time.Sleep(time.Second)
		for _, e := range n.Trace() {
			if e.Fate == simnet.DroppedNoSocket {
				used[e.From.Port()] = true
			}
		}
		if refused != 3 || len(used) != ports {
			t.Errorf("%d ports used and %d packets refused, want %d and 3", len(used), refused, ports)
		}
		time.Sleep(time.Minute)
		c := open(t, n, carol)
		write(t, a, carol, "x")
		expect(t, "expired mappings make room", listen(t, c, time.Second), receipt{0, "x"})
	})
}

// With tens of thousands of ports taken, chance alone would not keep those of
// before and after a reboot apart.
func TestNATRebootTakesNoOldPort(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		g := natAt(t, n, publicA, simnet.NATConfig{Kind: simnet.Symmetric})
		a := listenOn(t, g.Host(first), port)
		ports := func() map[uint16]bool {
			n.Record(-1)
			for i := range 20_000 {
				send(t, a, netip.AddrPortFrom(carol, uint16(1+i)), "x")
			}
			time.Sleep(time.Second)
			used := map[uint16]bool{}
			for _, e := range n.Trace() {
				used[e.From.Port()] = true
			}
			return used
		}
		before := ports()
		g.Reboot()
		after := ports()
		if len(before) != 20_000 || len(after) != 20_000 {
			t.Errorf("%d and %d ports, want 20000", len(before), len(after))
		}
		for p := range after {
			if before[p] {
				t.Fatalf("port %d again", p)
			}
		}
	})
}
