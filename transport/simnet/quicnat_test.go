package simnet_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"ckt.local/transport/simnet"
)

// A connection from behind a NAT lives through all that a NAT does to it: the
// server follows its client, because QUIC names connections by ID.
func TestQUICBehindNAT(t *testing.T) {
	for _, kind := range natKinds {
		for _, addrs := range [][4]string{
			{"192.168.1.2", "203.0.113.1", "203.0.113.2", "198.51.100.7"},
			{"fd00::2", "2001:db8::1", "2001:db8::2", "2001:db8:7::7"},
		} {
			t.Run(kind.String()+" "+addrs[0], func(t *testing.T) {
				quicBubble(t, 1, func(t *testing.T, n *simnet.Network) {
					n.SetDefault(simnet.Link{Latency: 20 * ms})
					serverTLS, clientTLS := credentials(t)
					server := netip.MustParseAddr(addrs[3])
					srv := echo(t, n, server, serverTLS)
					g := natAt(t, n, netip.MustParseAddr(addrs[1]), simnet.NATConfig{Kind: kind, MappingTimeout: 30 * time.Second})
					h := g.Host(netip.MustParseAddr(addrs[0]))
					cli := &quic.Transport{Conn: listenOn(t, h, port)}
					conn := dial(t, cli, server, clientTLS)
					survive := func(why string, does func()) {
						t.Helper()
						does()
						start := time.Now()
						bounce(t, conn, []byte(why))
						if took := time.Since(start); took > time.Second {
							t.Errorf("%s: the echo took %v", why, took)
						}
					}
					survive("nothing", func() {})
					for range 20 {
						survive("a reboot", g.Reboot)
					}
					survive("another public address", func() {
						if err := g.Move(netip.MustParseAddr(addrs[2])); err != nil {
							t.Error(err)
						}
					})
					survive("another private address", func() {
						if err := h.Move(h.Addr().Next()); err != nil {
							t.Error(err)
						}
					})
					dropped := counters(n, server, g.Addr()).Dropped
					survive("an idle hour, with keep-alives", func() { time.Sleep(time.Hour) })
					synctest.Wait() // for the last packets
					if got := counters(n, server, g.Addr()).Dropped; got != dropped {
						t.Errorf("keep-alives have not kept the mapping: %+v, then %+v", dropped, got)
					}
					if err := context.Cause(conn.Context()); err != nil {
						t.Errorf("the connection has ended: %v", err)
					}
					closeTransport(t, cli)
					closeTransport(t, srv)
				})
			})
		}
	}
}

// A machine goes from one network to another while it sends: from behind a NAT,
// to behind another, into the open. The pauses matter: where three moves follow
// one another before the server has found its client, quic-go has no connection
// IDs left for a fourth path, and the connection dies.
func TestQUICRoams(t *testing.T) {
	quicBubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{
			Latency: 20 * ms, Jitter: 10 * ms, Reorder: 0.05, ReorderDelay: 15 * ms,
			Burst: simnet.Burst{Enter: 0.002, Length: 4},
		})
		serverTLS, clientTLS := credentials(t)
		srv := echo(t, n, bob, serverTLS)
		boxes := []*simnet.NAT{
			natAt(t, n, publicA, simnet.NATConfig{Kind: simnet.Symmetric}),
			nil,
			natAt(t, n, publicB, simnet.NATConfig{Kind: simnet.PortRestricted}),
		}
		h := n.Host(alice)
		cli := &quic.Transport{Conn: listenOn(t, h, port)}
		conn := dial(t, cli, bob, clientTLS)
		moved := make(chan error, 1)
		go func() {
			defer close(moved)
			for i := range 20 {
				time.Sleep(5 * time.Second)
				if err := h.MoveBehind(boxes[i%len(boxes)], netip.AddrFrom4([4]byte{192, 168, 0, byte(i)})); err != nil {
					moved <- err
				}
			}
		}()
		data := make([]byte, 20_000)
		for start := time.Now(); time.Since(start) < 100*time.Second; time.Sleep(300 * ms) {
			bounce(t, conn, data)
		}
		if err := <-moved; err != nil {
			t.Error(err)
		}
		closeTransport(t, cli)
		closeTransport(t, srv)
	})
}
