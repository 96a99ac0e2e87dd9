package circuit_test

import (
	"context"
	"crypto/ed25519"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/quic"
	"ckt.local/transport/simnet"
)

// A house is a node that many others connect to: one hub, one account, and a
// link for each of them.
type house struct {
	*side
	t      *testing.T
	net    *simnet.Network
	at     transport.Endpoint
	hub    *circuit.Hub
	ledger *limit.Ledger
	stop   context.CancelFunc
	joined sync.WaitGroup
	guests []*guest
	links  chan *circuit.Link // of those that have come, one at a time
}

// A guest is one process that is connected to a house.
type guest struct {
	*side
	there  *circuit.Link // the house's end
	at     transport.Endpoint
	ledger *limit.Ledger
}

// inHouse runs f with a house in a bubble of virtual time, 10 ms away from all
// its guests.
func inHouse(t *testing.T, bounds limit.Circuit, f func(t *testing.T, h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * 365 * 24 * time.Hour) // quic-go's clock is negative before
		n := simnet.New(1)
		defer n.Close()
		n.SetDefault(simnet.Link{Latency: 10 * time.Millisecond})
		h := &house{t: t, net: n, ledger: circuit.Bounded(bounds), links: make(chan *circuit.Link)}
		h.at = endpointAt(t, listen(t, n.Host(netip.MustParseAddr("10.0.1.1"))))
		h.side = newSide(h.at)
		h.side.news = make(chan *circuit.Circuit, 1024)
		h.hub = circuit.NewHub(h.side, circuit.Config{Ledger: h.ledger})
		ctx, stop := context.WithCancel(context.Background())
		h.stop = stop
		h.joined.Go(func() { h.welcome(ctx) })
		defer h.close()
		f(t, h)
	})
}

func (h *house) welcome(ctx context.Context) {
	for {
		c, err := h.at.Accept(ctx)
		if err != nil {
			return
		}
		h.links <- h.hub.Link(c, nil)
	}
}

// keyed makes an endpoint with a key.
func keyed(t *testing.T, conn net.PacketConn, key *identity.Key) transport.Endpoint {
	t.Helper()
	e, err := quic.Listen(quic.Config{
		Conn: conn, Key: key,
		Authorize: func(ed25519.PublicKey, net.Addr) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// guest connects one more process with a key.
func (h *house) guest(key *identity.Key, bounds limit.Circuit) *guest {
	h.t.Helper()
	host := h.net.Host(netip.AddrFrom4([4]byte{10, 0, 2, byte(len(h.guests) + 1)}))
	g := &guest{at: keyed(h.t, listen(h.t, host), key), ledger: circuit.Bounded(bounds)}
	conn, err := g.at.Dial(h.t.Context(), h.at.Addr().String(), h.at.Key())
	if err != nil {
		h.t.Fatal(err)
	}
	g.side = newSide(g.at)
	g.side.link = circuit.NewHub(g.side, circuit.Config{Ledger: g.ledger}).Link(conn, nil)
	g.there = <-h.links
	h.guests = append(h.guests, g)
	return g
}

// open opens a circuit from a guest, and returns both ends.
func (h *house) open(g *guest) (a, b *circuit.Circuit) {
	h.t.Helper()
	a, err := g.link.Open(h.t.Context(), g.params(nil))
	if err != nil {
		h.t.Fatal(err)
	}
	return a, <-h.news
}

// booked is what a resource's account has.
func booked(g *limit.Ledger, r limit.Resource) int64 { return g.Uses()[r].Used }

// close takes everything down, after which nobody may have anything booked.
func (h *house) close() {
	for _, g := range h.guests {
		for _, l := range []*circuit.Link{g.link, g.there} {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			l.Shutdown(ctx, nil)
			cancel()
		}
		g.at.Close()
	}
	h.stop()
	h.at.Close()
	h.joined.Wait()
	close(h.news) // nothing is delivered any more
	for _, g := range append(h.guests, &guest{ledger: h.ledger}) {
		for _, r := range []limit.Resource{limit.Circuits, limit.Inbox, limit.Replay} {
			if n := booked(g.ledger, r); n != 0 {
				h.t.Errorf("%d %v were not given back", n, r)
			}
		}
	}
}

// post sends fragments of a size, numbered from 1, as room is made for them.
// The channel gets the error that ends it, nil after the last one.
func post(ctx context.Context, c *circuit.Circuit, n int64, size int) <-chan error {
	done := make(chan error, 1)
	go func() {
		for i := range n {
			if err := c.Send(ctx, &circuit.Fragment{FragPart: i + 1, Payload: make([]byte, size)}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return done
}

// collect reads as many fragments, which must be all, in order.
func collect(t *testing.T, c *circuit.Circuit, n int64) {
	t.Helper()
	for want := int64(1); want <= n; want++ {
		select {
		case f, ok := <-c.Reads:
			if !ok || f.FragPart != want {
				t.Errorf("part %d is %+v, %v: %v", want, f, ok, context.Cause(c.Context))
				return
			}
		case <-time.After(time.Minute):
			t.Errorf("part %d of %d does not come", want, n)
			return
		}
	}
}
