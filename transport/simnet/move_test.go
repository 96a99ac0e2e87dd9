package simnet_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"ckt.local/transport/simnet"
)

// at is where a host listens that is not one of the three.
func at(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), port) }

func send(t *testing.T, c net.PacketConn, to netip.AddrPort, payload string) {
	t.Helper()
	if _, err := c.WriteTo([]byte(payload), net.UDPAddrFromAddrPort(to)); err != nil {
		t.Fatalf("writing to %v: %v", to, err)
	}
}

// receive returns the next packet and where it is from, or an invalid address
// if none comes in a second.
func receive(t *testing.T, c net.PacketConn) (string, netip.AddrPort) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatalf("setting a deadline: %v", err)
	}
	buf := make([]byte, 2000)
	k, from, err := c.ReadFrom(buf)
	if err != nil {
		return "", netip.AddrPort{}
	}
	return string(buf[:k]), addrPort(from)
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// wantFrom reads a packet and checks it.
func wantFrom(t *testing.T, why string, c net.PacketConn, payload string, from netip.AddrPort) {
	t.Helper()
	if got, sender := receive(t, c); got != payload || sender != from {
		t.Errorf("%s: %q from %v, want %q from %v", why, got, sender, payload, from)
	}
}

func wantSilence(t *testing.T, why string, c net.PacketConn) {
	t.Helper()
	if got, sender := receive(t, c); sender.IsValid() {
		t.Errorf("%s: %q from %v, want nothing", why, got, sender)
	}
}

func TestMoveKeepsSocketsOpen(t *testing.T) {
	for _, tc := range []struct{ home, away, peer string }{
		{"10.0.0.1", "192.0.2.9", "10.0.0.2"},
		{"fd00::1", "2001:db8::9", "fd00::2"},
	} {
		t.Run(tc.home, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, n *simnet.Network) {
				n.SetDefault(simnet.Link{Latency: 10 * ms})
				home, away, peer := at(tc.home), at(tc.away), at(tc.peer)
				h := n.Host(home.Addr())
				a, b := open(t, n, home.Addr()), open(t, n, peer.Addr())
				second := listenOn(t, h, port+1)

				send(t, a, peer, "sent before")
				send(t, b, home, "on the way")
				if err := h.Move(away.Addr()); err != nil {
					t.Fatal(err)
				}
				if h.Addr() != away.Addr() || addrPort(a.LocalAddr()) != away || addrPort(second.LocalAddr()).Addr() != away.Addr() {
					t.Errorf("the host is at %v, its socket at %v, want %v", h.Addr(), a.LocalAddr(), away)
				}
				send(t, b, home, "to the old address")
				wantFrom(t, "what was sent arrives", b, "sent before", home)
				wantSilence(t, "the rest is lost", a)
				send(t, a, peer, "from there")
				wantFrom(t, "the source is the new address", b, "from there", away)
				send(t, b, away, "to there")
				wantFrom(t, "the socket reads on", a, "to there", peer)
				if got := counters(n, peer.Addr(), home.Addr()).Dropped; got != (simnet.Drops{Moved: 1, NoSocket: 1}) {
					t.Errorf("drops %+v, want one that was on the way and one that came late", got)
				}
				if _, err := h.Listen(port); !errors.Is(err, syscall.EADDRINUSE) {
					t.Errorf("the port is in use there as well: %v", err)
				}

				if err := h.Move(home.Addr()); err != nil {
					t.Fatalf("moving back: %v", err)
				}
				send(t, b, home, "welcome")
				wantFrom(t, "and back again", a, "welcome", peer)
				if err := errors.Join(a.Close(), second.Close()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestMoveReachesReadersWhoWait(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		a, b := open(t, n, alice), open(t, n, bob)
		time.AfterFunc(time.Hour, func() {
			if err := n.Host(alice).Move(carol); err != nil {
				t.Error(err)
			}
			b.WriteTo([]byte("there you are"), udp(carol))
		})
		start := time.Now()
		if _, _, err := a.ReadFrom(make([]byte, 20)); err != nil || time.Since(start) != time.Hour {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestLinksBelongToAddresses(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		a, b := open(t, n, alice), open(t, n, bob)
		n.Partition(alice, bob)
		n.SetLink(carol, bob, simnet.Link{Latency: time.Minute})
		write(t, a, bob, "cut")
		if err := n.Host(alice).Move(carol); err != nil {
			t.Fatal(err)
		}
		write(t, a, bob, "far away")
		expect(t, "a new address is no longer cut", listen(t, b, time.Hour), receipt{time.Minute, "far away"})
	})
}

func TestVanishAfterMove(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 10 * ms})
		h := n.Host(alice)
		a, b := open(t, n, alice), open(t, n, bob)
		write(t, a, bob, "from the old address")
		if err := h.Move(carol); err != nil {
			t.Fatal(err)
		}
		write(t, a, bob, "from the new one")
		write(t, b, carol, "to the new one")
		h.Vanish()
		expect(t, "a host vanishes with all it has sent", listen(t, b, time.Second))
		if err := h.Move(alice); err != nil {
			t.Fatal(err)
		}
		again := listenOn(t, h, port)
		write(t, b, alice, "hello")
		expect(t, "it comes back elsewhere", listen(t, again, time.Second), receipt{10 * ms, "hello"})
		if got := addrPort(a.LocalAddr()).Addr(); got != carol {
			t.Errorf("the ghost is at %v, want %v, where it died", got, carol)
		}
	})
}

func TestMoveErrors(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		h := n.Host(alice)
		a, b := open(t, n, alice), open(t, n, bob)
		if err := h.Move(bob); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("to an address that is taken: %v", err)
		}
		nat := natAt(t, n, carol, simnet.NATConfig{})
		inside := nat.Host(netip.MustParseAddr("192.168.0.1"))
		for name, err := range map[string]error{
			"nowhere":                  h.Move(netip.Addr{}),
			"unspecified":              h.Move(netip.IPv4Unspecified()),
			"multicast":                h.Move(netip.MustParseAddr("224.0.0.1")),
			"the other family":         h.Move(netip.IPv6Loopback()),
			"a NAT":                    h.Move(carol),
			"the other family, inside": h.MoveBehind(nat, netip.IPv6Loopback()),
			"out, to a NAT":            inside.MoveBehind(nil, carol),
		} {
			if _, ok := errors.AsType[*net.AddrError](err); !ok {
				t.Errorf("%s: %v, want an AddrError", name, err)
			}
			if _, ok := errors.AsType[*net.OpError](err); !ok {
				t.Errorf("%s: %v, want an OpError", name, err)
			}
		}
		other := simnet.New(1)
		defer other.Close()
		if err := h.MoveBehind(natAt(t, other, carol, simnet.NATConfig{}), carol); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("to another network: %v", err)
		}
		write(t, b, alice, "x")
		expect(t, "nothing has changed", listen(t, a, time.Second), receipt{0, "x"})
		if err := h.Move(alice); err != nil {
			t.Errorf("to where it is: %v", err)
		}
	})
}

// Twenty moves under traffic: the sender's ordinals and the receiver's are
// those of each address.
func TestManyMoves(t *testing.T) {
	trace := func() simnet.Trace {
		var trace simnet.Trace
		bubble(t, 9, func(t *testing.T, n *simnet.Network) {
			n.SetDefault(rough)
			n.Record(-1)
			h := n.Host(alice)
			a, b := open(t, n, alice), open(t, n, bob)
			for i := range 20 {
				for range 20 {
					write(t, a, bob, "there")
					write(t, b, h.Addr(), "and back")
					time.Sleep(5 * ms)
				}
				if err := h.Move(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			if got := len(listen(t, a, time.Second)); got < 100 {
				t.Errorf("%d packets have reached the host that moves", got)
			}
			trace = n.Trace()
		})
		return trace
	}
	if diff := trace().Diff(trace()); diff != "" {
		t.Error(diff)
	}
}
