package simnet_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"ckt.local/transport/simnet"
)

var natKinds = []simnet.NATKind{simnet.FullCone, simnet.AddressRestricted, simnet.PortRestricted, simnet.Symmetric}

func natAt(t *testing.T, n *simnet.Network, public netip.Addr, cfg simnet.NATConfig) *simnet.NAT {
	t.Helper()
	g, err := n.NAT(public, cfg)
	if err != nil {
		t.Fatalf("a NAT at %v: %v", public, err)
	}
	return g
}

// A house is a host behind a NAT, and two hosts outside.
type house struct {
	net           *simnet.Network
	nat           *simnet.NAT
	inside        net.PacketConn
	near, far     netip.AddrPort // near is where inside is
	server, other net.PacketConn
	strange       net.PacketConn // another port of the server's host
}

// eachFamily runs f in a house of IPv4 and in one of IPv6.
func eachFamily(t *testing.T, cfg simnet.NATConfig, f func(t *testing.T, h *house)) {
	for _, addrs := range [][4]string{
		{"192.168.1.2", "203.0.113.1", "198.51.100.7", "198.51.100.8"},
		{"fd00::2", "2001:db8::1", "2001:db8:7::7", "2001:db8:7::8"},
	} {
		t.Run(fmt.Sprintf("%v %s", cfg.Kind, addrs[0]), func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, n *simnet.Network) {
				n.SetDefault(simnet.Link{Latency: 10 * ms})
				h := &house{net: n, near: at(addrs[0]), far: at(addrs[2])}
				h.nat = natAt(t, n, at(addrs[1]).Addr(), cfg)
				h.inside = listenOn(t, h.nat.Host(h.near.Addr()), port)
				h.server, h.other = open(t, n, h.far.Addr()), open(t, n, at(addrs[3]).Addr())
				h.strange = listenOn(t, n.Host(h.far.Addr()), port+1)
				f(t, h)
			})
		})
	}
}

// out sends a packet to a socket outside and returns where it comes from.
func (h *house) out(t *testing.T, to net.PacketConn) netip.AddrPort {
	t.Helper()
	send(t, h.inside, addrPort(to.LocalAddr()), "out")
	payload, from := receive(t, to)
	if payload != "out" || from.Addr() != h.nat.Addr() {
		t.Fatalf("%q from %v, want it from %v", payload, from, h.nat.Addr())
	}
	return from
}

// in says whether a packet from outside is let in.
func (h *house) in(t *testing.T, from net.PacketConn, to netip.AddrPort) bool {
	t.Helper()
	send(t, from, to, "in")
	payload, sender := receive(t, h.inside)
	if sender.IsValid() && (payload != "in" || sender != addrPort(from.LocalAddr())) {
		t.Errorf("%q from %v, want it from %v", payload, sender, from.LocalAddr())
	}
	return sender.IsValid()
}

// The table of RFC 3489 and RFC 4787: who may send to a mapped port, when the
// host inside has sent to the server only.
func TestNATFilters(t *testing.T) {
	for _, tc := range []struct {
		kind                   simnet.NATKind
		server, strange, other bool // the same address and port; the same address; another
	}{
		{simnet.FullCone, true, true, true},
		{simnet.AddressRestricted, true, true, false},
		{simnet.PortRestricted, true, false, false},
		{simnet.Symmetric, true, false, false},
	} {
		eachFamily(t, simnet.NATConfig{Kind: tc.kind}, func(t *testing.T, h *house) {
			hole := h.out(t, h.server)
			for _, from := range []struct {
				name string
				conn net.PacketConn
				want bool
			}{
				{"the server", h.server, tc.server},
				{"its other port", h.strange, tc.strange},
				{"somebody else", h.other, tc.other},
			} {
				if got := h.in(t, from.conn, hole); got != from.want {
					t.Errorf("%s is let in: %v, want %v", from.name, got, from.want)
				}
			}
			dropped := counters(h.net, h.far.Addr(), h.nat.Addr()).Dropped
			if want := map[bool]uint64{false: 1}[tc.strange]; dropped != (simnet.Drops{NAT: want}) {
				t.Errorf("from the server's host %+v were dropped, want %d by the NAT", dropped, want)
			}
			if h.in(t, h.server, netip.AddrPortFrom(hole.Addr(), hole.Port()+1)) {
				t.Error("a port that is not mapped lets in")
			}
			if h.in(t, h.server, h.near) {
				t.Error("the private address can be reached from outside")
			}
			h.out(t, h.other)
			if !h.in(t, h.other, hole) != (tc.kind == simnet.Symmetric) {
				t.Error("having sent to him does not let him in, or does with a symmetric NAT")
			}
		})
	}
}

func TestNATMapsPorts(t *testing.T) {
	for _, kind := range natKinds {
		eachFamily(t, simnet.NATConfig{Kind: kind}, func(t *testing.T, h *house) {
			first := h.out(t, h.server)
			if again := h.out(t, h.server); again != first {
				t.Errorf("%v, then %v: not one port for one destination", first, again)
			}
			holes := map[netip.AddrPort]bool{first: true, h.out(t, h.strange): true, h.out(t, h.other): true}
			want := 1
			if kind == simnet.Symmetric {
				want = 3
			}
			if len(holes) != want {
				t.Errorf("%d ports for three destinations, want %d: %v", len(holes), want, holes)
			}
			neighbour := listenOn(t, h.nat.Host(h.near.Addr().Next()), port)
			send(t, neighbour, h.far, "hello")
			_, from := receive(t, h.server)
			if holes[from] || from.Addr() != first.Addr() {
				t.Errorf("a neighbour comes from %v, which is not his alone", from)
			}
			send(t, h.server, from, "for the neighbour")
			wantFrom(t, "the neighbour", neighbour, "for the neighbour", h.far)
		})
	}
}

func TestNATMappingTimeout(t *testing.T) {
	for _, kind := range natKinds {
		for _, tc := range []struct {
			name  string
			cfg   simnet.NATConfig
			pause time.Duration
			every func(t *testing.T, h *house, hole netip.AddrPort) // done half way
			lives bool
		}{
			{"default", simnet.NATConfig{}, simnet.DefaultMappingTimeout - 1, nil, true},
			{"default, late", simnet.NATConfig{}, simnet.DefaultMappingTimeout, nil, false},
			{"shorter", simnet.NATConfig{MappingTimeout: 30 * time.Second}, 30 * time.Second, nil, false},
			{"never", simnet.NATConfig{MappingTimeout: -1}, 1000 * time.Hour, nil, true},
			{"packets out refresh it", simnet.NATConfig{}, 3 * time.Minute,
				func(t *testing.T, h *house, _ netip.AddrPort) { h.out(t, h.server) }, true},
			{"packets in do not", simnet.NATConfig{}, 3 * time.Minute,
				func(t *testing.T, h *house, hole netip.AddrPort) { h.in(t, h.server, hole) }, false},
			{"unless they shall", simnet.NATConfig{InboundRefresh: true}, 3 * time.Minute,
				func(t *testing.T, h *house, hole netip.AddrPort) { h.in(t, h.server, hole) }, true},
		} {
			tc.cfg.Kind = kind
			t.Run(tc.name, func(t *testing.T) {
				eachFamily(t, tc.cfg, func(t *testing.T, h *house) {
					start := time.Now().Add(10 * ms) // when the first packet in is at the NAT
					hole := h.out(t, h.server)
					if tc.every != nil {
						time.Sleep(tc.pause / 2)
						tc.every(t, h, hole)
						tc.pause += 10 * ms
					}
					time.Sleep(tc.pause - time.Since(start) - 20*ms)
					if got := h.in(t, h.server, hole); got != tc.lives {
						t.Errorf("%v after the last packet out it lets in: %v, want %v", tc.pause, got, tc.lives)
					}
					if again := h.out(t, h.server); (again == hole) != tc.lives {
						t.Errorf("the port was %v and is %v", hole, again)
					}
					if !tc.lives && h.in(t, h.server, hole) {
						t.Error("the new mapping has the old port as well")
					}
				})
			})
		}
	}
}

func TestNATFilterTimeout(t *testing.T) {
	for _, kind := range natKinds {
		eachFamily(t, simnet.NATConfig{Kind: kind, FilterTimeout: 10 * time.Second}, func(t *testing.T, h *house) {
			hole := h.out(t, h.server)
			time.Sleep(9 * time.Second)
			if !h.in(t, h.server, hole) {
				t.Error("nobody is let in before the timeout")
			}
			time.Sleep(time.Second)
			if got := h.in(t, h.server, hole); got != (kind == simnet.FullCone) {
				t.Errorf("let in after the timeout: %v", got)
			}
			if again := h.out(t, h.server); again != hole || !h.in(t, h.server, hole) {
				t.Errorf("the mapping is there no more, or is not opened again: %v, then %v", hole, again)
			}
		})
	}
}

func TestNATReboot(t *testing.T) {
	for _, kind := range natKinds {
		eachFamily(t, simnet.NATConfig{Kind: kind}, func(t *testing.T, h *house) {
			seen := map[netip.AddrPort]bool{}
			for range 20 {
				hole := h.out(t, h.server)
				if seen[hole] {
					t.Errorf("port %v again after a reboot", hole)
				}
				seen[hole] = true
				send(t, h.server, hole, "in flight")
				h.nat.Reboot()
				wantSilence(t, "the mapping is forgotten", h.inside)
				if h.in(t, h.server, hole) {
					t.Error("it lets in still")
				}
			}
		})
	}
}

func TestNATMove(t *testing.T) {
	for _, kind := range natKinds {
		eachFamily(t, simnet.NATConfig{Kind: kind}, func(t *testing.T, h *house) {
			hole, old := h.out(t, h.server), h.nat.Addr()
			send(t, h.server, hole, "in flight")
			send(t, h.server, addrPort(h.other.LocalAddr()), "elsewhere")
			if err := h.nat.Move(old.Next()); err != nil || h.nat.Addr() != old.Next() {
				t.Fatalf("moving to %v: %v, %v", old.Next(), h.nat.Addr(), err)
			}
			wantSilence(t, "it is lost", h.inside)
			wantFrom(t, "it has no part in it", h.other, "elsewhere", h.far)
			if h.in(t, h.server, hole) || h.in(t, h.server, netip.AddrPortFrom(old.Next(), hole.Port())) {
				t.Error("an old mapping lets in")
			}
			if got := counters(h.net, h.far.Addr(), old).Dropped; got != (simnet.Drops{Moved: 1, NoSocket: 1}) {
				t.Errorf("drops %+v, want one in flight and one late", got)
			}
			if hole = h.out(t, h.server); !h.in(t, h.server, hole) {
				t.Error("the new address does not work")
			}
			if err := h.nat.Move(old); err != nil {
				t.Errorf("moving back: %v", err)
			}
			hole = h.out(t, h.server)
			if err := h.nat.Move(old); err != nil {
				t.Errorf("moving to where it is: %v", err)
			}
			if again := h.out(t, h.server); again.Port() == hole.Port() {
				t.Error("a move is no reboot")
			}
		})
	}
}

func TestNATErrors(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		g := natAt(t, n, alice, simnet.NATConfig{})
		open(t, n, bob)
		for _, addr := range []netip.Addr{alice, bob} {
			if _, err := n.NAT(addr, simnet.NATConfig{}); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("a NAT at %v: %v", addr, err)
			}
		}
		if err := g.Move(bob); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("moving to where somebody is: %v", err)
		}
		_, none := n.NAT(netip.Addr{}, simnet.NATConfig{})
		_, listens := n.Host(alice).Listen(port)
		_, otherFamily := g.Host(netip.IPv6Loopback()).Listen(port)
		for name, err := range map[string]error{
			"no address":                none,
			"listening at a NAT":        listens,
			"listening, other family":   otherFamily,
			"moving to another family":  g.Move(netip.IPv6Loopback()),
			"moving to no host address": g.Move(netip.IPv4Unspecified()),
		} {
			if _, ok := errors.AsType[*net.AddrError](err); !ok {
				t.Errorf("%s: %v, want an AddrError", name, err)
			}
		}
		if g.Addr() != alice {
			t.Errorf("it has moved all the same, to %v", g.Addr())
		}
		mapped := netip.AddrFrom16(netip.MustParseAddr("192.168.0.1").As16())
		if g.Host(mapped) != g.Host(mapped.Unmap()) {
			t.Error("one private address, two hosts")
		}
	})
}
