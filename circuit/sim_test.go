package circuit_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/limit"
	"ckt.local/transport/simnet"
)

// simPair is a pair on two hosts of a simulated network.
type simPair struct {
	*pair
	net    *simnet.Network
	ha, hb *simnet.Host
}

// inSim runs f in a bubble of virtual time with a pair 10 ms apart. Goroutines
// that f leaves behind fail the test.
func inSim(t *testing.T, cfg circuit.Config, f func(t *testing.T, p *simPair)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * 365 * 24 * time.Hour) // quic-go's clock is negative before
		n := simnet.New(1)
		defer n.Close()
		n.SetDefault(simnet.Link{Latency: 10 * time.Millisecond})
		p := &simPair{net: n, ha: n.Host(netip.MustParseAddr("10.0.0.1")), hb: n.Host(netip.MustParseAddr("10.0.0.2"))}
		p.pair = join(t, endpointAt(t, listen(t, p.ha)), endpointAt(t, listen(t, p.hb)), cfg, cfg)
		defer p.close()
		f(t, p)
	})
}

func listen(t testing.TB, h *simnet.Host) net.PacketConn {
	t.Helper()
	c, err := h.Listen(4242)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pingTimes measures n round trips with an echo on the other end.
func pingTimes(t testing.TB, a, b *circuit.Circuit, n int) []time.Duration {
	t.Helper()
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		for range n {
			b.SendOneWay(<-b.Reads)
		}
	}()
	var rtts []time.Duration
	for range n {
		start := time.Now()
		if err := a.SendOneWay(frag(0, "ping")); err != nil {
			t.Fatal(err)
		}
		<-a.Reads
		rtts = append(rtts, time.Since(start))
	}
	<-echoed
	slices.Sort(rtts)
	return rtts
}

func TestSlowReaderHurtsOnlyItsOwnCircuit(t *testing.T) {
	inSim(t, circuit.Config{}, func(t *testing.T, p *simPair) {
		slowA, slowB := p.openCircuit(t, nil)
		a, b := p.openCircuit(t, nil)
		before := pingTimes(t, a, b, 200)

		const total = 5000 // of 1 KiB: several windows
		sent := make(chan error, 1)
		go func() {
			payload := make([]byte, 1024)
			for i := range int64(total) {
				if err := slowA.Send(context.Background(), &circuit.Fragment{FragPart: i, Payload: payload}); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		slept := time.After(10 * time.Second)
		time.Sleep(time.Second) // the window is full by now
		if err := slowA.SendOneWay(frag(0, "")); err != circuit.ErrBacklog {
			t.Errorf("SendOneWay to a reader that sleeps: %v, want ErrBacklog", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := slowA.Send(ctx, frag(0, "")); err != context.DeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("Send returned %v after %v, want its ctx's end", err, time.Since(start))
		}
		during := pingTimes(t, a, b, 200)
		if p99 := during[198]; p99 > 2*before[198] {
			t.Errorf("p99 beside a sleeping reader is %v, was %v", p99, before[198])
		}
		<-slept
		for i := range int64(total) {
			if f := <-slowB.Reads; f.FragPart != i {
				t.Fatalf("part %d, want %d", f.FragPart, i)
			}
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

func TestIdleConnectionLives(t *testing.T) {
	inSim(t, circuit.Config{}, func(t *testing.T, p *simPair) {
		a, b := p.openCircuit(t, nil)
		time.Sleep(10 * time.Minute)
		if rtt := pingTimes(t, a, b, 1)[0]; rtt > 25*time.Millisecond {
			t.Errorf("after 10 minutes of silence a round trip takes %v", rtt)
		}
	})
}

// untilEnd returns how long it takes until c's Context ends.
func untilEnd(c *circuit.Circuit) time.Duration {
	start := time.Now()
	<-c.Context.Done()
	return time.Since(start)
}

func wantLost(t *testing.T, c *circuit.Circuit, unacked int) {
	t.Helper()
	le, ok := errors.AsType[*circuit.LostError](context.Cause(c.Context))
	if !ok || !errors.Is(le, circuit.ErrPeerLost) || le.Unacked != unacked {
		t.Errorf("cause is %v, want a LostError with %d unacknowledged", context.Cause(c.Context), unacked)
	}
}

func TestVanishedPeerIsNoticedWhenIdle(t *testing.T) {
	inSim(t, circuit.Config{NoResume: true}, func(t *testing.T, p *simPair) {
		a, b := p.openCircuit(t, frag(1, "x"))
		<-b.Reads
		time.Sleep(time.Minute)
		p.hb.Vanish()
		if d := untilEnd(a); d > 15*time.Second {
			t.Errorf("noticed after %v, want at most 15 s", d)
		}
		wantLost(t, a, 0)
		if d := untilEnd(b); d > 15*time.Second { // cut off, but alive
			t.Errorf("noticed at the other end after %v more", d)
		}
		if !errors.Is(context.Cause(a.Context), transport.ErrLost) {
			t.Errorf("cause is %v, want it to match transport.ErrLost", context.Cause(a.Context))
		}
	})
}

func TestVanishedPeerIsNoticedSoonerWithDataOutstanding(t *testing.T) {
	inSim(t, circuit.Config{NoResume: true}, func(t *testing.T, p *simPair) {
		a, _ := p.openCircuit(t, nil)
		b, a2 := func() (x, y *circuit.Circuit) {
			x, err := p.b.link.Open(t.Context(), p.b.params(nil))
			if err != nil {
				t.Fatal(err)
			}
			return x, <-p.a.news
		}()
		time.Sleep(time.Minute)
		p.net.Partition(p.ha.Addr(), p.hb.Addr())
		for i := range int64(3) {
			a.SendOneWay(frag(i, "x"))
			b.SendOneWay(frag(i, "x"))
		}
		start := time.Now()
		<-a.Context.Done()
		<-b.Context.Done()
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("noticed after %v, want at most 6 s", d)
		}
		wantLost(t, a, 3)
		wantLost(t, b, 3)
		<-a2.Context.Done()
		synctest.Wait() // the owners are told of it right after
		if p.a.count() != 0 || p.b.count() != 0 {
			t.Error("circuits are left over")
		}
	})
}

// Packets still come, but nothing of ours arrives: the sender must not go on
// believing.
func TestOneWayCutIsNoticedByTheSender(t *testing.T) {
	inSim(t, circuit.Config{NoResume: true}, func(t *testing.T, p *simPair) {
		a, b := p.openCircuit(t, nil)
		stop := make(chan struct{})
		talked := make(chan struct{})
		go func() { // b keeps talking
			defer close(talked)
			for {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
					b.SendOneWay(frag(0, "still here"))
				}
			}
		}()
		p.net.Cut(p.ha.Addr(), p.hb.Addr())
		a.SendOneWay(frag(1, "into the void"))
		start := time.Now()
		for range a.Reads {
		}
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("noticed after %v, want at most 6 s", d)
		}
		close(stop)
		<-talked
		<-a.Context.Done() // at the same time, and perhaps a moment later
		wantLost(t, a, 1)
	})
}

// A long fragment on a slow path takes longer than Silence to be
// acknowledged, and the link must bear with it.
func TestSlowPathIsNotALostOne(t *testing.T) {
	inSim(t, circuit.Config{}, func(t *testing.T, p *simPair) {
		p.net.SetDefault(simnet.Link{Latency: 10 * time.Millisecond, Bandwidth: 64 << 10, Queue: 64 << 10})
		a, b := p.openCircuit(t, &circuit.Fragment{Payload: make([]byte, 1<<20)})
		start := time.Now()
		f, ok := <-b.Reads
		if !ok || len(f.Payload) != 1<<20 {
			t.Fatalf("1 MiB at 64 KiB/s: %v", context.Cause(a.Context))
		}
		if d := time.Since(start); d < 10*time.Second {
			t.Errorf("it took %v, too fast to prove anything", d)
		}
	})
}

func TestContextEndsAfterFiveSecondsIfNobodyReads(t *testing.T) {
	inSim(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: 8 << 10})}, func(t *testing.T, p *simPair) {
		a, b := p.openCircuit(t, nil)
		const total = 30 // of 1 KiB: more than the window, so some wait at the sender
		go func() {
			for i := range int64(total) {
				a.Send(context.Background(), &circuit.Fragment{FragPart: i, Payload: make([]byte, 1024)})
			}
			a.Close()
		}()
		time.Sleep(time.Second)
		f := <-b.Reads
		for f.FragPart < total-6 { // then the rest fits the window, and nobody reads
			f = <-b.Reads
		}
		time.Sleep(time.Second)
		d := untilEnd(b)
		if d < 3*time.Second || d > 6*time.Second {
			t.Errorf("the Context ended %v after the last read and a second, want about 4 s", d)
		}
		if context.Cause(b.Context) != circuit.ErrRemoteClosed {
			t.Errorf("cause: %v", context.Cause(b.Context))
		}
		time.Sleep(time.Minute)
		next := f.FragPart + 1
		for f := range b.Reads {
			if f.FragPart != next {
				t.Fatalf("part %d, want %d", f.FragPart, next)
			}
			next++
		}
		if next != total {
			t.Errorf("what was left ends at %d of %d", next, total)
		}
	})
}

// A closed circuit that nobody takes is given up in the end, at both sides. As
// long as not everything has arrived, the close is not told as a clean one.
func TestUnreadCircuitIsGivenUp(t *testing.T) {
	inSim(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: 8 << 10})}, func(t *testing.T, p *simPair) {
		a, b := p.openCircuit(t, nil)
		for range 2 { // the window there, and then the one here
			for a.SendOneWay(&circuit.Fragment{Payload: make([]byte, 1024)}) == nil {
			}
			time.Sleep(time.Second)
		}
		a.Close()
		if d := untilEnd(b); d < time.Minute || d > 5*time.Minute {
			t.Errorf("given up after %v, want 2 to 4 min", d)
		}
		if cause := context.Cause(b.Context); !errors.Is(cause, circuit.ErrPeerLost) {
			t.Errorf("what was cut short ends with %v", cause)
		}
		time.Sleep(5 * time.Minute)
		if _, ok := <-b.Reads; ok {
			t.Error("unread fragments are kept for ever")
		}
		if n := len(p.a.link.Circuits()) + len(p.b.link.Circuits()); n != 0 {
			t.Errorf("%d circuits are left", n)
		}
	})
}

func TestOpeningTimesOutWhenThePeerTakesNone(t *testing.T) {
	inSim(t, circuit.Config{}, func(t *testing.T, p *simPair) {
		for range cap(p.b.news) {
			if _, err := p.a.link.Open(t.Context(), p.a.params(nil)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := p.a.link.Open(ctx, p.a.params(nil))
		re, refused := errors.AsType[*circuit.RefusedError](err)
		if err != circuit.ErrOpenTimeout && !(refused && re.Code == circuit.RefusedBusy) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d > 3100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		time.Sleep(time.Second)
		if got := p.b.count(); got != cap(p.b.news) {
			t.Errorf("the acceptor owns %d circuits, want %d", got, cap(p.b.news))
		}
	})
}
