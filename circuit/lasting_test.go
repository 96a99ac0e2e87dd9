package circuit_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/simnet"
)

// A lasting pair is two sides of a simulated network whose link outlives its
// connections: each side dials anew, and takes what the other one dials.
type lasting struct {
	*simPair
	stop   context.CancelFunc
	joined sync.WaitGroup
}

// inLasting runs f in a bubble of virtual time with a lasting pair 10 ms apart.
// What f leaves behind fails the test.
func inLasting(t *testing.T, cfgA, cfgB circuit.Config, f func(t *testing.T, p *lasting)) {
	t.Helper()
	plain := func(c net.PacketConn) net.PacketConn { return c }
	synctest.Test(t, func(t *testing.T) {
		runLasting(t, simnet.Link{Latency: 10 * time.Millisecond}, plain, cfgA, cfgB, f)
	})
}

// runLasting runs f with a pair on hosts that a link joins. wrap is applied to
// their sockets.
func runLasting(t *testing.T, link simnet.Link, wrap func(net.PacketConn) net.PacketConn, cfgA, cfgB circuit.Config, f func(t *testing.T, p *lasting)) {
	t.Helper()
	time.Sleep(40 * 365 * 24 * time.Hour) // quic-go's clock is negative before
	n := simnet.New(1)
	defer n.Close()
	n.SetDefault(link)
	p := &lasting{simPair: &simPair{net: n, ha: n.Host(netip.MustParseAddr("10.0.0.1")), hb: n.Host(netip.MustParseAddr("10.0.0.2"))}}
	p.pair = p.join(t, endpointAt(t, wrap(listen(t, p.ha))), endpointAt(t, wrap(listen(t, p.hb))), cfgA, cfgB)
	watchdog := time.AfterFunc(2*time.Hour, func() {
		t.Error("the test is not over after two hours")
		p.a.link.Restarted()
		p.b.link.Restarted()
	})
	defer p.end(t)
	defer watchdog.Stop()
	f(t, p)
}

// join connects two endpoints, a dialling b, and has each side adopt what it
// accepts from then on.
func (p *lasting) join(t *testing.T, ea, eb transport.Endpoint, cfgA, cfgB circuit.Config) *pair {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	q := &pair{a: newSide(ea), b: newSide(eb), ea: ea, eb: eb}
	first := make(chan transport.Conn, 1)
	p.joined.Go(func() {
		c, err := eb.Accept(ctx)
		if err != nil {
			t.Error(err)
		}
		first <- c
	})
	ca, err := ea.Dial(ctx, eb.Addr().String(), eb.Key())
	if err != nil {
		t.Fatal(err)
	}
	q.a.link = circuit.NewHub(q.a, circuit.Apart(cfgA)).Link(ca, redialer(q.a, ea, eb))
	q.b.link = circuit.NewHub(q.b, circuit.Apart(cfgB)).Link(<-first, redialer(q.b, eb, ea))
	for _, s := range []struct {
		*side
		transport.Endpoint
	}{{q.a, ea}, {q.b, eb}} {
		p.joined.Go(func() {
			for {
				c, err := s.Accept(ctx)
				if err != nil {
					return
				}
				s.adopt(c)
			}
		})
	}
	return q
}

// redialer makes tries at another connection from one endpoint to another.
func redialer(s *side, from, to transport.Endpoint) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := from.Redial(ctx, to.Addr().String(), to.Key())
		if err != nil {
			return err
		}
		return s.adopt(c)
	}
}

// adopt takes a further connection, or learns by it that the other process has
// restarted.
func (s *side) adopt(c transport.Conn) error {
	if c.Info().BootNonce != s.link.Info().BootNonce {
		s.link.Restarted()
		return circuit.ErrPeerRestarted
	}
	s.link.Attach(c)
	return nil
}

// end takes the pair down. Everything has been closed by then, or is closed now.
func (p *lasting) end(t *testing.T) {
	p.stop()
	p.close()
	synctest.Wait() // who was in the midst of a call is not one of the link's own
	for _, s := range []*side{p.a, p.b} {
		for c := range s.news {
			c.Close()
		}
		if n := s.link.Leftover(); n != 0 {
			t.Errorf("a link still knows %d circuits", n)
		}
		if n := s.count(); n != 0 {
			t.Errorf("an owner was not told of the end of %d circuits", n)
		}
		if n := s.link.Booked(); n != 0 {
			t.Errorf("%d bytes were not given back", n)
		}
	}
	p.joined.Wait()
}

func (p *lasting) partition() { p.net.Partition(p.ha.Addr(), p.hb.Addr()) }
func (p *lasting) rejoin()    { p.net.Rejoin(p.ha.Addr(), p.hb.Addr()) }

// outage is a cut in both directions that is over after d.
func (p *lasting) outage(d time.Duration) {
	p.partition()
	time.Sleep(d)
	p.rejoin()
}

// ends opens a circuit from a to b, or from b to a, and returns a's end first.
func (p *simPair) ends(t *testing.T, fromB bool) (a, b *circuit.Circuit) {
	t.Helper()
	if !fromB {
		return p.openCircuit(t, nil)
	}
	b, err := p.b.link.Open(t.Context(), p.b.params(nil))
	if err != nil {
		t.Fatal(err)
	}
	return <-p.a.news, b
}

// traffic is what goes over a circuit in one direction: fragments of 64 bytes
// to 64 KiB whose content follows from their number, until stop is closed.
type traffic struct {
	t        *testing.T
	out, in  *circuit.Circuit
	slow     time.Duration // what the reader does with each
	stop     chan struct{}
	sent     atomic.Int64
	received atomic.Int64
	joined   sync.WaitGroup
}

const lastOne = 1 // FragOp of the last fragment

// send starts sending from one end to the other, with a pause after each.
func send(t *testing.T, out, in *circuit.Circuit, pause, slow time.Duration) *traffic {
	tr := &traffic{t: t, out: out, in: in, slow: slow, stop: make(chan struct{})}
	tr.joined.Go(func() { tr.write(pause) })
	tr.joined.Go(tr.read)
	return tr
}

// payloadOf is the content of fragment i.
func payloadOf(i int64) []byte {
	b := make([]byte, 64<<(uint64(i)*7%11)+int(i%5))
	for at := 0; at+8 <= len(b); at += 509 {
		binary.LittleEndian.PutUint64(b[at:], uint64(i)<<20|uint64(at))
	}
	return b
}

func isPayloadOf(i int64, b []byte) bool {
	if len(b) != 64<<(uint64(i)*7%11)+int(i%5) {
		return false
	}
	for at := 0; at+8 <= len(b); at += 509 {
		if binary.LittleEndian.Uint64(b[at:]) != uint64(i)<<20|uint64(at) {
			return false
		}
	}
	return true
}

func (tr *traffic) write(pause time.Duration) {
	for i := int64(1); ; i++ {
		f := &circuit.Fragment{FragPart: i, Payload: payloadOf(i)}
		select {
		case <-tr.stop:
			f.FragOp = lastOne
		case <-time.After(pause):
		}
		if err := tr.out.Send(context.Background(), f); err != nil {
			return
		}
		tr.sent.Add(1)
		if f.FragOp == lastOne {
			return
		}
	}
}

func (tr *traffic) read() {
	next := int64(1)
	for f := range tr.in.Reads {
		if f.FragPart != next || f.Serial != next || !isPayloadOf(next, f.Payload) {
			tr.t.Errorf("part %d with serial %d and %d bytes came, want %d", f.FragPart, f.Serial, len(f.Payload), next)
			return
		}
		tr.received.Store(next)
		next++
		if f.FragOp == lastOne {
			return
		}
		time.Sleep(tr.slow)
	}
}

// finish sends the last fragment and waits until everything has arrived.
func (tr *traffic) finish() {
	close(tr.stop)
	tr.joined.Wait()
	if s, r := tr.sent.Load(), tr.received.Load(); s != r || s == 0 {
		tr.t.Errorf("%d fragments were sent and %d received", s, r)
	}
}

// untilMore returns how long it takes until something more arrives at c.
func untilMore(t *testing.T, c *circuit.Circuit) time.Duration {
	t.Helper()
	before, start := c.Stats().FragmentsRcv, time.Now()
	for c.Stats().FragmentsRcv == before {
		if time.Sleep(10 * time.Millisecond); time.Since(start) > time.Minute {
			t.Error("nothing arrives for a minute")
			break
		}
	}
	return time.Since(start)
}

// within fails the test unless the condition holds after at most d.
func within(t *testing.T, d time.Duration, what string, holds func() bool) {
	t.Helper()
	for start := time.Now(); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > d {
			t.Errorf("not within %v: %s", d, what)
			return
		}
	}
}
