package simnet_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport/simnet"
)

func TestAddresses(t *testing.T) {
	for _, addr := range []string{"192.0.2.7", "2001:db8::7", "fe80::7%eth0"} {
		t.Run(addr, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, n *simnet.Network) {
				h := n.Host(netip.MustParseAddr(addr))
				if got := h.Addr().String(); got != addr {
					t.Errorf("Addr is %v", got)
				}
				a, b := open(t, n, h.Addr()), listenOn(t, h, 0)
				if got, want := a.LocalAddr(), udp(h.Addr()); got.String() != want.String() || got.Network() != "udp" {
					t.Errorf("the address is %v, want %v", got, want)
				}
				if _, err := b.WriteTo([]byte("x"), a.LocalAddr()); err != nil {
					t.Errorf("writing: %v", err)
				}
				_, from, err := a.ReadFrom(make([]byte, 10))
				if err != nil || from.String() != b.LocalAddr().String() {
					t.Errorf("a packet from %v, want %v: %v", from, b.LocalAddr(), err)
				}
				if _, ok := from.(*net.UDPAddr); !ok {
					t.Errorf("the sender's address is a %T", from)
				}
			})
		})
	}
}

func listenOn(t *testing.T, h *simnet.Host, port uint16) net.PacketConn {
	t.Helper()
	c, err := h.Listen(port)
	if err != nil {
		t.Fatalf("listening on port %d: %v", port, err)
	}
	return c
}

func TestListenErrors(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		first := open(t, n, alice)
		if _, err := n.Host(alice).Listen(port); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a port in use: %v", err)
		}
		if err := first.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
		open(t, n, alice) // the port is free again
		for _, addr := range []netip.Addr{{}, netip.IPv4Unspecified(), netip.MustParseAddr("ff02::1")} {
			_, err := n.Host(addr).Listen(port)
			if _, ok := errors.AsType[*net.AddrError](err); !ok {
				t.Errorf("host %v: %v, want an AddrError", addr, err)
			}
		}
		n.Close()
		if _, err := n.Host(bob).Listen(0); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed network: %v", err)
		}
	})
}

func TestEphemeralPorts(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		h := n.Host(alice)
		listenOn(t, h, 49153)
		portOf := func(c net.PacketConn) int { return c.LocalAddr().(*net.UDPAddr).Port }
		first, second := listenOn(t, h, 0), listenOn(t, h, 0)
		if portOf(first) != 49152 || portOf(second) != 49154 {
			t.Errorf("ports %d and %d, want 49152, and 49154 as 49153 is taken", portOf(first), portOf(second))
		}
		first.Close()
		if p := portOf(listenOn(t, h, 0)); p != 49155 {
			t.Errorf("port %d, want 49155: a port just closed is the last to be taken", p)
		}
		for range 65536 - 49156 {
			listenOn(t, h, 0)
		}
		if p := portOf(listenOn(t, h, 0)); p != 49152 {
			t.Errorf("port %d, want 49152 after a round", p)
		}
		if _, err := h.Listen(0); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("no port left: %v", err)
		}
	})
}

func TestPacketsAreCopied(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Duplicate: 1})
		a, b := open(t, n, alice), open(t, n, bob)
		p := []byte("original")
		if _, err := a.WriteTo(p, udp(bob)); err != nil {
			t.Fatal(err)
		}
		copy(p, "changed!")
		buf := make([]byte, 100)
		for range 2 {
			k, from, err := b.ReadFrom(buf)
			if err != nil || !bytes.Equal(buf[:k], []byte("original")) {
				t.Errorf("got %q, %v", buf[:k], err)
			}
			clear(buf) // and the second copy is not the first
			clear(from.(*net.UDPAddr).IP)
		}
	})
}

func TestReceiveBufferIsBounded(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		a, b := open(t, n, alice), listenOn(t, n.Host(bob), port)
		kb := strings.Repeat("x", 1024-256)
		for range 300 {
			write(t, a, bob, kb)
		}
		synctest.Wait()
		const fits = simnet.DefaultReadBuffer / 1024
		if got := counters(n, alice, bob); got.Delivered != fits || got.Dropped != (simnet.Drops{Buffer: 300 - fits}) {
			t.Errorf("%+v, want %d delivered", got, fits)
		}
		if got := len(listen(t, b, time.Second)); got != fits {
			t.Errorf("read %d packets, want %d", got, fits)
		}
		write(t, a, bob, "x")
		expect(t, "reading has made room", listen(t, b, time.Second), receipt{0, "x"})

		if err := b.(interface{ SetReadBuffer(int) error }).SetReadBuffer(1); err != nil {
			t.Fatal(err)
		}
		write(t, a, bob, kb)
		write(t, a, bob, kb)
		synctest.Wait() // both are there before a read makes room
		expect(t, "the smallest buffer holds one packet", listen(t, b, time.Second), receipt{0, kb})
	})
}

func TestDropsWithoutSocket(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 10 * ms})
		a, b := open(t, n, alice), open(t, n, bob)
		write(t, a, carol, "no such host")
		write(t, a, bob, "closed before it arrives")
		write(t, b, alice, "sent before Close")
		if err := b.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
		expect(t, "Close does not take back what was sent", listen(t, a, time.Second), receipt{10 * ms, "sent before Close"})
		for _, to := range []netip.Addr{bob, carol} {
			if got := counters(n, alice, to).Dropped; got != (simnet.Drops{NoSocket: 1}) {
				t.Errorf("to %v: %+v, want one without a socket", to, got)
			}
		}
	})
}

func TestDeadlines(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 10 * ms})
		a, b := open(t, n, alice), open(t, n, bob)
		buf := make([]byte, 10)
		read := func(why string, after time.Duration, want error) {
			t.Helper()
			start := time.Now()
			_, _, err := b.ReadFrom(buf)
			if !errors.Is(err, want) || time.Since(start) != after {
				t.Errorf("%s: %v after %v, want %v after %v", why, err, time.Since(start), want, after)
			}
		}
		b.SetReadDeadline(time.Now().Add(time.Minute))
		read("a deadline to come", time.Minute, os.ErrDeadlineExceeded)
		read("it stays", 0, os.ErrDeadlineExceeded)

		b.SetReadDeadline(time.Now().Add(10 * ms))
		write(t, a, bob, "x")
		read("a packet at the instant of the deadline is late", 10*ms, os.ErrDeadlineExceeded)
		b.SetReadDeadline(time.Time{})
		read("but not lost", 0, nil)

		b.SetReadDeadline(time.Now().Add(10*ms + 1))
		write(t, a, bob, "x")
		read("a nanosecond makes it early", 10*ms, nil)

		b.SetReadDeadline(time.Now().Add(time.Hour))
		time.AfterFunc(time.Second, func() { b.SetReadDeadline(time.Now()) })
		read("an earlier deadline reaches those who wait", time.Second, os.ErrDeadlineExceeded)

		b.SetReadDeadline(time.Now().Add(time.Second))
		time.AfterFunc(time.Second-1, func() { b.SetReadDeadline(time.Now().Add(time.Hour)) })
		read("so does a later one", time.Hour+time.Second-1, os.ErrDeadlineExceeded)

		b.SetReadDeadline(time.Now().Add(time.Second))
		time.AfterFunc(ms, func() { b.SetReadDeadline(time.Time{}) })
		time.AfterFunc(time.Hour, func() { b.Close() })
		read("and none at all; Close ends the wait", time.Hour, net.ErrClosed)
		if err := b.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a deadline after Close: %v", err)
		}
	})
}

func TestNetworkCloseEndsReaders(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: time.Hour})
		a, b := open(t, n, alice), open(t, n, bob)
		write(t, a, bob, "on the way")
		var readers sync.WaitGroup
		for range 3 {
			readers.Go(func() {
				if _, _, err := b.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
					t.Errorf("reading: %v", err)
				}
			})
		}
		synctest.Wait()
		var closers sync.WaitGroup
		for range 3 {
			closers.Go(func() { n.Close() })
		}
		closers.Wait()
		readers.Wait()
		if _, err := a.WriteTo([]byte("x"), udp(bob)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing: %v", err)
		}
		if got := counters(n, alice, bob).Dropped; got != (simnet.Drops{Closed: 1}) {
			t.Errorf("drops %+v, want the one on the way", got)
		}
	})
}

func TestManyReadersLoseNothing(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		a, b := open(t, n, alice), open(t, n, bob)
		const packets, readers = 1000, 8
		got := make(chan string, packets)
		var wg sync.WaitGroup
		for range readers {
			wg.Go(func() {
				buf := make([]byte, 10)
				for {
					k, _, err := b.ReadFrom(buf)
					if err != nil {
						return
					}
					got <- string(buf[:k])
				}
			})
		}
		for range packets {
			write(t, a, bob, "x")
		}
		synctest.Wait()
		b.Close()
		wg.Wait()
		if len(got) != packets {
			t.Errorf("%d packets read, want %d", len(got), packets)
		}
	})
}

// Everything at once, for the race detector, on a network that is rough.
func TestConcurrentUse(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: ms, Jitter: 5 * ms, Loss: 0.1, Duplicate: 0.1, Corrupt: 0.1, Bandwidth: 1 << 20})
		end := time.Now().Add(10 * time.Second)
		var wg sync.WaitGroup
		loop := func(pause time.Duration, f func()) {
			wg.Go(func() {
				for time.Now().Before(end) {
					f()
					time.Sleep(pause)
				}
			})
		}
		for _, h := range []*simnet.Host{n.Host(alice), n.Host(bob), n.Host(carol)} {
			loop(0, func() {
				c, err := h.Listen(port)
				if err != nil {
					time.Sleep(ms) // a ghost's port is free at once, an open one's is not
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(100 * ms))
				buf := make([]byte, 100)
				for _, _, err = c.ReadFrom(buf); err == nil; _, _, err = c.ReadFrom(buf) {
					for _, to := range []netip.Addr{alice, bob, carol} {
						c.WriteTo(buf, udp(to))
					}
					time.Sleep(ms)
				}
			})
			loop(70*ms, h.Vanish)
			loop(3*ms, func() {
				c := listenOn(t, h, 0)
				defer c.Close()
				c.WriteTo([]byte("x"), udp(bob))
			})
		}
		loop(11*ms, func() { n.Partition(alice, bob); n.Stats() })
		loop(13*ms, n.HealAll)
		loop(17*ms, func() { n.SetLink(alice, bob, simnet.Link{Loss: 0.5}) })
		loop(19*ms, func() { n.ResetLink(alice, bob) })
		wg.Wait()
	})
}
