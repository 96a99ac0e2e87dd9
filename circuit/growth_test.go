package circuit_test

import (
	"context"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/limit"
	"ckt.local/transport/simnet"
)

// inLong runs f with a pair that a path of a bandwidth, in bytes a second, and
// 100 ms joins.
func inLong(t *testing.T, bandwidth int64, cfgA, cfgB circuit.Config, f func(t *testing.T, p *lasting)) {
	t.Helper()
	batched := func(c net.PacketConn) net.PacketConn { return &batchSocket{PacketConn: c} }
	synctest.Test(t, func(t *testing.T) {
		runLasting(t, simnet.Link{Latency: 50 * time.Millisecond, Bandwidth: bandwidth, Queue: -1}, batched, cfgA, cfgB, f)
	})
}

const (
	gigabit = 125e6

	// A path and a window that are a sixteenth of the real ones cost the test
	// a sixteenth of the time.
	smallPath   = gigabit / 16
	smallWindow = 1 << 16
)

// A batchSocket hands packets over in batches, as kernels do. Without it,
// quic-go acknowledges every other packet by itself, and does not get round to
// open its windows before the sender stands still.
type batchSocket struct {
	net.PacketConn
	last time.Time
}

func (s *batchSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.PacketConn.ReadFrom(b)
	if now := time.Now(); now != s.last { // not from the batch before
		time.Sleep(200 * time.Microsecond)
		s.last = time.Now()
	}
	return n, from, err
}

// stream sends fragments as fast as it can, until ctx ends.
func stream(ctx context.Context, c *circuit.Circuit, size int) {
	f := &circuit.Fragment{Payload: make([]byte, size)}
	for c.Send(ctx, f) == nil {
	}
}

// rate reads what comes for a while and returns how many bytes a second.
func rate(c *circuit.Circuit, d time.Duration) float64 {
	start, n := time.Now(), 0
	for time.Since(start) < d {
		n += len((<-c.Reads).Payload)
	}
	return float64(n) / time.Since(start).Seconds()
}

// drain reads everything that comes, until the circuit ends.
func drain(c *circuit.Circuit) {
	go func() {
		for range c.Reads {
		}
	}()
}

// One circuit fills a long path, and when it has done so it gives back what it
// needed for that.
func TestWindowGrowsAndShrinks(t *testing.T) {
	inLong(t, gigabit, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); stream(ctx, a, 64<<10) }()
		rate(b, 1500*time.Millisecond)
		if r := rate(b, 500*time.Millisecond); r < 0.8*gigabit {
			t.Errorf("%.0f MB/s on a path of 125", r/1e6)
		}
		for _, s := range []*side{p.a, p.b} {
			if s.link.Booked() < 2<<20 {
				t.Errorf("%d are booked, so the window of 1 MiB was enough", s.link.Booked())
			}
		}
		stop()
		drain(b)
		<-done
		p.unused(t, 20*time.Second)

		// It is none the worse for that: one round trip for what it has for
		// certain, and one for the rest. The asking for credit is for what is
		// queued by then; on a processor of its own it may overtake this loop.
		sendAtOnce(t, a, 100)
		if f := flush(t.Context(), a); f.err != nil || f.took > 250*time.Millisecond {
			t.Errorf("%+v", f)
		}
	})
}

// sendAtOnce queues n small fragments before anything else runs.
func sendAtOnce(t *testing.T, c *circuit.Circuit, n int) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range n {
		if err := c.SendOneWay(frag(0, "x")); err != nil {
			t.Fatal(err)
		}
	}
}

// unused waits until both sides have given back all that they can.
func (p *lasting) unused(t *testing.T, d time.Duration) {
	t.Helper()
	synctest.Wait() // a link forgets a circuit before everybody has given back what it took for it
	start := time.Now()
	for p.a.link.Booked() != 0 || p.b.link.Booked() != 0 {
		if time.Sleep(time.Second); time.Since(start) > d {
			t.Errorf("idle for %v, and %d and %d bytes are booked", d, p.a.link.Booked(), p.b.link.Booked())
			return
		}
	}
}

// A path that is cut in the middle of it, or a circuit that is closed, gives
// everything back too.
func TestGrownWindowAcrossAnOutage(t *testing.T) {
	cfg := circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: smallWindow})}
	inLong(t, smallPath, cfg, cfg, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); stream(ctx, a, 4<<10) }()
		rate(b, time.Second)
		if p.b.link.Booked() <= smallWindow {
			t.Fatal("the window has not grown")
		}
		drain(b)
		p.outage(20 * time.Second)
		within(t, 6*time.Second, "attached again", func() bool { return a.State().Attached && b.State().Attached })
		time.Sleep(200 * time.Millisecond)
		stop()
		<-done
		if f := flush(t.Context(), a); f.err != nil {
			t.Error(f.err)
		}
		if s := b.Stats(); s.FragmentsRcv != a.Stats().FragmentsSent || s.Attachments != 2 {
			t.Errorf("%+v and %+v", a.Stats(), s)
		}
		p.unused(t, 20*time.Second)
		stopped := make(chan struct{})
		go func() { defer close(stopped); stream(context.Background(), a, 4<<10) }()
		time.Sleep(300 * time.Millisecond)
		a.Close()
		<-stopped
		p.forgotten(t, time.Second)
		p.unused(t, 0)
	})
}

// Where windows may not grow, or there is too little memory for it, they stay as
// they are, and all works as it did. Whose bound it is makes no difference.
func TestGrowthIsBounded(t *testing.T) {
	none, large := limit.Circuit{Window: smallWindow, MaxWindow: -1}, limit.Circuit{Window: smallWindow}
	small := limit.Circuit{Window: smallWindow, Inbox: 6 * smallWindow, Replay: 6 * smallWindow}
	for _, tc := range []struct {
		name         string
		a, b         limit.Circuit
		least, limit float64 // MB/s
	}{
		{"none", none, none, 0.3, 0.7},
		{"none at the sender", none, large, 0.3, 0.7},
		{"none at the receiver", large, none, 0.3, 0.7},
		{"small", small, small, 0.8, 2.7},
		{"large", large, large, 5, 7.9},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfgA, cfgB := circuit.Config{Ledger: circuit.Bounded(tc.a)}, circuit.Config{Ledger: circuit.Bounded(tc.b)}
			inLong(t, smallPath, cfgA, cfgB, func(t *testing.T, p *lasting) {
				a, b := p.openCircuit(t, nil)
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); stream(ctx, a, 4<<10) }()
				rate(b, 2*time.Second)
				if r := rate(b, time.Second) / 1e6; r < tc.least || r > tc.limit {
					t.Errorf("%.1f MB/s, want from %.1f to %.1f", r, tc.least, tc.limit)
				}
				stop()
				drain(b)
				<-done
				p.unused(t, 20*time.Second)
			})
		})
	}
}

// The reader is what holds the sender up here, so a larger window would only
// hold more that is unread.
func TestSlowReaderDoesNotGrowTheWindow(t *testing.T) {
	inLong(t, gigabit, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); stream(ctx, a, 64<<10) }()
		for range 100 {
			<-b.Reads
			time.Sleep(50 * time.Millisecond) // 1.3 MB/s: the window is good for ten
		}
		if used := p.b.link.Booked(); used > 2<<20 {
			t.Errorf("the receiver has booked %d", used)
		}
		if used := p.a.link.Booked(); used > 2<<20 {
			t.Errorf("the sender has booked %d", used)
		}
		stop()
		drain(b)
		<-done
	})
}

// Many circuits share the memory of their node.
func TestCircuitsShareTheMemory(t *testing.T) {
	cfg := circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: smallWindow, Inbox: 8 * smallWindow})}
	inLong(t, smallPath, cfg, cfg, func(t *testing.T, p *lasting) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{}, 10)
		for range cap(done) {
			a, b := p.openCircuit(t, nil)
			drain(b)
			go func() { stream(ctx, a, 4<<10); done <- struct{}{} }()
		}
		for range 15 {
			time.Sleep(100 * time.Millisecond)
			if n := p.b.link.Booked(); n > 8*smallWindow {
				t.Errorf("overdrawn: %d are booked", n)
			}
		}
		if n := p.b.link.Booked(); n < 4*smallWindow {
			t.Errorf("%d are booked, and more are wanted", n)
		}
		stop()
		for range cap(done) {
			<-done
		}
		p.unused(t, 20*time.Second)
	})
}
