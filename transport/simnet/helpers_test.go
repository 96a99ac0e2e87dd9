package simnet_test

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport/simnet"
)

// The hosts of the tests.
var (
	alice = netip.MustParseAddr("10.0.0.1")
	bob   = netip.MustParseAddr("10.0.0.2")
	carol = netip.MustParseAddr("10.0.0.3")
)

// port is where every host of the tests listens.
const port = 7000

// bubble runs f on a network with a clock of its own.
func bubble(t *testing.T, seed uint64, f func(t *testing.T, n *simnet.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(seed)
		f(t, n)
		if err := n.Close(); err != nil {
			t.Errorf("closing the network: %v", err)
		}
		for dir, c := range n.Stats() {
			if c.InFlight != 0 || c.Sent+c.Duplicated != c.Delivered+c.Dropped.Total() {
				t.Errorf("%v: not every packet is accounted for: %+v", dir, c)
			}
		}
	})
}

// open listens on port with a receive buffer that never is the bottleneck.
func open(t *testing.T, n *simnet.Network, addr netip.Addr) net.PacketConn {
	t.Helper()
	c, err := n.Host(addr).Listen(port)
	if err != nil {
		t.Fatalf("listening on %v: %v", addr, err)
	}
	if err := c.(interface{ SetReadBuffer(int) error }).SetReadBuffer(1 << 30); err != nil {
		t.Fatalf("widening the receive buffer: %v", err)
	}
	return c
}

func udp(addr netip.Addr) *net.UDPAddr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port))
}

func write(t *testing.T, c net.PacketConn, to netip.Addr, payload string) {
	t.Helper()
	if n, err := c.WriteTo([]byte(payload), udp(to)); n != len(payload) || err != nil {
		t.Fatalf("writing %d bytes to %v: %d, %v", len(payload), to, n, err)
	}
}

// A receipt is a packet as a reader sees it.
type receipt struct {
	at      time.Duration // after listen was called
	payload string
}

// listen returns what arrives within a time.
func listen(t *testing.T, c net.PacketConn, within time.Duration) []receipt {
	t.Helper()
	start := time.Now()
	if err := c.SetReadDeadline(start.Add(within)); err != nil {
		t.Fatalf("setting a deadline: %v", err)
	}
	var got []receipt
	buf := make([]byte, 1<<16)
	for {
		k, _, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return got
		}
		if err != nil {
			t.Fatalf("reading: %v", err)
		}
		got = append(got, receipt{time.Since(start), string(buf[:k])})
	}
}

// expect compares what was received with what should have been, and says why.
func expect(t *testing.T, why string, got []receipt, want ...receipt) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: got %d packets, want %d: %v", why, len(got), len(want), got)
		return
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: packet %d is %v, want %v", why, i, got[i], want[i])
		}
	}
}

func counters(n *simnet.Network, from, to netip.Addr) simnet.Counters {
	return n.Stats()[simnet.Direction{From: from, To: to}]
}

// sameStats compares two snapshots, except for the directions from skip.
func sameStats(a, b map[simnet.Direction]simnet.Counters, skip netip.Addr) bool {
	skipped := func(d simnet.Direction, _ simnet.Counters) bool { return d.From == skip }
	a, b = maps.Clone(a), maps.Clone(b)
	maps.DeleteFunc(a, skipped)
	maps.DeleteFunc(b, skipped)
	return maps.Equal(a, b)
}
