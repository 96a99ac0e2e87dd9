package circuit_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/simnet"
)

// wires join two hosts with Conns that know nothing of one another: a link may
// be given several at once.
type wires struct {
	t    *testing.T
	p    *simPair
	port uint16
	ends []transport.Endpoint
}

// next returns the two ends of another Conn.
func (w *wires) next() (a, b transport.Conn) {
	w.t.Helper()
	w.port++
	var es [2]transport.Endpoint
	for i, h := range []*simnet.Host{w.p.ha, w.p.hb} {
		s, err := h.Listen(w.port)
		if err != nil {
			w.t.Fatal(err)
		}
		es[i] = endpointAt(w.t, s)
	}
	w.ends = append(w.ends, es[:]...)
	got := make(chan transport.Conn, 1)
	go func() {
		c, err := es[1].Accept(context.Background())
		if err != nil {
			w.t.Error(err)
		}
		got <- c
	}()
	a, err := es[0].Dial(context.Background(), es[1].Addr().String(), es[1].Key())
	if err != nil {
		w.t.Fatal(err)
	}
	return a, <-got
}

// inWires runs f with a pair that takes the Conns which the test gives it.
func inWires(t *testing.T, cfg circuit.Config, f func(t *testing.T, p *simPair, w *wires)) {
	t.Helper()
	inSim(t, cfg, func(t *testing.T, p *simPair) {
		w := &wires{t: t, p: p, port: 5000}
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			p.a.link.Shutdown(ctx, nil)
			p.b.link.Shutdown(ctx, nil)
			for _, e := range w.ends {
				e.Close()
			}
		}()
		f(t, p, w)
	})
}

// load sends over four circuits, opened from either side, until finish.
func (p *simPair) load(t *testing.T) (flows []*traffic) {
	t.Helper()
	for i := range 4 {
		a, b := p.ends(t, i%2 == 0)
		flows = append(flows, send(t, a, b, 10*time.Millisecond, 0), send(t, b, a, 10*time.Millisecond, 0))
	}
	return flows
}

// Each connection takes the place of the last, in whichever order the two
// sides come to know of it, and while everything is well.
func TestSupersede(t *testing.T) {
	for _, gap := range []time.Duration{0, 9 * time.Millisecond, 25 * time.Millisecond} {
		for _, bFirst := range []bool{false, true} {
			t.Run(fmt.Sprint(gap, "/bFirst=", bFirst), func(t *testing.T) {
				inWires(t, circuit.Config{}, func(t *testing.T, p *simPair, w *wires) { testSupersede(t, p, w, gap, bFirst) })
			})
		}
	}
}

func testSupersede(t *testing.T, p *simPair, w *wires, gap time.Duration, bFirst bool) {
	flows := p.load(t)
	const rounds = 10
	for range rounds {
		a, b := w.next()
		first, second := p.a.link, p.b.link
		if bFirst {
			first, second, a, b = second, first, b, a
		}
		first.Attach(a)
		time.Sleep(gap)
		second.Attach(b)
		time.Sleep(300 * time.Millisecond) // a connection right behind another one is taken up after 200 ms
	}
	for _, f := range flows {
		f.finish()
		if n := f.out.Stats().Attachments; n < rounds/2 {
			t.Errorf("%d attachments after %d connections", n, rounds)
		}
	}
}

// Several connections come at once, and each side takes them in an order of
// its own; the last one that both have is what stays.
func TestSeveralConnectionsAtOnce(t *testing.T) {
	inWires(t, circuit.Config{}, func(t *testing.T, p *simPair, w *wires) {
		flows := p.load(t)
		for round := range 10 {
			var as, bs [3]transport.Conn
			for i := range as {
				as[i], bs[i] = w.next()
			}
			var both sync.WaitGroup
			for i := range 2 {
				both.Go(func() { p.a.link.Attach(as[(i+round)%2]) })
				both.Go(func() { p.b.link.Attach(bs[i]) })
			}
			both.Wait()
			time.Sleep(time.Duration(round) * 3 * time.Millisecond)
			p.a.link.Attach(as[2])
			p.b.link.Attach(bs[2])
			p.b.link.Attach(bs[2]) // again: nothing
			time.Sleep(400 * time.Millisecond)
			for _, f := range flows {
				if !f.out.State().Attached {
					t.Fatalf("round %d: a circuit is %v", round, f.out.State())
				}
			}
		}
		for _, f := range flows {
			f.finish()
		}
	})
}

// A Conn that comes after the end of the link is closed.
func TestAttachAfterTheEnd(t *testing.T) {
	inWires(t, circuit.Config{}, func(t *testing.T, p *simPair, w *wires) {
		a, b := w.next()
		p.a.link.Shutdown(t.Context(), nil)
		p.a.link.Attach(a)
		<-a.Context().Done()
		<-b.Context().Done()
		if p.a.link.Attached() {
			t.Error("it is attached")
		}
	})
}

// Without resumption, another connection does not save the circuits.
func TestSupersedeWithoutResume(t *testing.T) {
	inWires(t, circuit.Config{NoResume: true}, func(t *testing.T, p *simPair, w *wires) {
		a, b := p.openCircuit(t, nil)
		connA, connB := w.next()
		p.a.link.Attach(connA)
		p.b.link.Attach(connB)
		lostOf(t, a)
		lostOf(t, b)
		c, d := p.openCircuit(t, frag(1, "new"))
		if f := <-d.Reads; f.FragPart != 1 {
			t.Errorf("got %+v", f)
		}
		c.Close()
	})
}

// An opening that waits for the other side's peer when the connection is
// replaced is asked again, whichever side comes to know of that first.
func TestOpeningsAreAskedAgain(t *testing.T) {
	for name, gap := range map[string]time.Duration{"acceptor first": 20 * time.Millisecond, "opener first": -20 * time.Millisecond, "at once": 0} {
		t.Run(name, func(t *testing.T) {
			inWires(t, circuit.Config{}, func(t *testing.T, p *simPair, w *wires) {
				full := cap(p.b.news)
				for range full {
					if _, err := p.a.link.Open(t.Context(), p.a.params(nil)); err != nil {
						t.Fatal(err)
					}
				}
				opened := make(chan error, 1)
				go func() {
					_, err := p.a.link.Open(t.Context(), p.a.params(frag(7, "waits")))
					opened <- err
				}()
				time.Sleep(time.Second)
				a, b := w.next()
				time.AfterFunc(max(0, -gap), func() { p.b.link.Attach(b) })
				time.AfterFunc(max(0, gap), func() { p.a.link.Attach(a) })
				time.Sleep(time.Second)
				for range full {
					<-p.b.news
				}
				if err := <-opened; err != nil {
					t.Fatalf("the opening ends with %v", err)
				}
				if f := <-(<-p.b.news).Reads; f == nil || f.FragPart != 7 || !bytes.Equal(f.Payload, []byte("waits")) {
					t.Errorf("the first fragment is %+v", f)
				}
			})
		})
	}
}
