package circuit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/limit"
)

// oneEnd is wanted of what a call says when a circuit may end at any moment:
// nil, or one of the ways in which a circuit ends.
func oneEnd(t *testing.T, what string, err error) {
	t.Helper()
	_, remote := errors.AsType[*circuit.RemoteError](err)
	_, refused := errors.AsType[*circuit.RefusedError](err)
	switch {
	case err == nil, remote, refused, err == circuit.ErrBacklog, err == circuit.ErrRemoteClosed:
	case errors.Is(err, circuit.ErrClosed), errors.Is(err, circuit.ErrPeerLost):
	default:
		t.Errorf("%s: %v", what, err)
	}
}

// hammer does to one end of a circuit all that a user may do, at once, and
// returns when the circuit has ended and its cause is known.
func hammer(t *testing.T, c *circuit.Circuit, end func()) {
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for err := error(nil); err == nil; {
				err = c.Send(context.Background(), frag(1, "send"))
				oneEnd(t, "Send", err)
			}
		})
	}
	wg.Go(func() {
		for err := error(nil); err == nil || err == circuit.ErrBacklog; {
			err = c.SendOneWay(&circuit.Fragment{Err: "an error"})
			oneEnd(t, "SendOneWay", err)
			if err == circuit.ErrBacklog { // time stands still in a bubble while anybody spins
				err = c.Send(context.Background(), frag(1, "wait for room"))
			}
		}
	})
	wg.Go(func() {
		for range 3 {
			n, _, err := c.NewCircuit()
			oneEnd(t, "NewCircuit", err)
			if err == nil {
				n.Close()
			}
		}
	})
	last := int64(0)
	for range 2 {
		wg.Go(func() {
			for f, err := range c.Fragments(context.Background()) {
				if f == nil {
					oneEnd(t, "Fragments", err)
				}
			}
		})
	}
	wg.Go(func() {
		for f := range c.Reads {
			if f.Serial <= last {
				t.Errorf("Reads gives %d after %d", f.Serial, last)
			}
			last = f.Serial
		}
	})
	wg.Go(func() {
		for range c.Errors {
		}
	})
	wg.Go(func() {
		c.Stats()
		end()
	})
	wg.Wait()
	<-c.Context.Done()
	cause := context.Cause(c.Context)
	oneEnd(t, "the cause", cause)
	if err := c.SendOneWay(frag(1, "")); err != cause {
		t.Errorf("after the end SendOneWay says %v, and the cause is %v", err, cause)
	}
}

// openBeside is openCircuit while somebody else opens circuits too, which it
// closes.
func (p *pair) openBeside(t *testing.T) (a, b *circuit.Circuit) {
	t.Helper()
	a, b = p.openCircuit(t, nil)
	for b.CircuitID() != a.CircuitID() {
		b.Close()
		b = <-p.b.news
	}
	return a, b
}

// openTen returns both ends of ten circuits.
func (p *pair) openTen(t *testing.T) (ends []*circuit.Circuit) {
	t.Helper()
	for range 10 {
		a, b := p.openCircuit(t, nil)
		ends = append(ends, a, b)
	}
	return ends
}

// hammerAll hammers circuits that something else will end.
func hammerAll(t *testing.T, wg *sync.WaitGroup, ends []*circuit.Circuit) {
	for _, c := range ends {
		wg.Go(func() { hammer(t, c, func() {}) })
	}
}

// closeAll closes what the other side opens besides the circuits under test.
func closeAll(s *side) { takeAll(s, (*circuit.Circuit).Close) }

func TestEverythingAtOnce(t *testing.T) {
	nothing := func(*circuit.Circuit) {}
	ends := map[string]func(c *circuit.Circuit){
		"close":          (*circuit.Circuit).Close,
		"close twice":    func(c *circuit.Circuit) { c.Close(); c.Close() },
		"with a reason":  func(c *circuit.Circuit) { c.CloseWith(errors.New("reason")) },
		"close and with": func(c *circuit.Circuit) { go c.CloseWith(errors.New("reason")); c.Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: 8 << 10})})
			for range 10 {
				for _, endB := range []func(*circuit.Circuit){nothing, end} {
					a, b := p.openBeside(t)
					var wg sync.WaitGroup
					stop := make(chan struct{})
					wg.Go(func() { // what NewCircuit opens
						for {
							select {
							case c := <-p.a.news:
								c.Close()
							case c := <-p.b.news:
								c.Close()
							case <-stop:
								return
							}
						}
					})
					var two sync.WaitGroup
					two.Go(func() { hammer(t, a, func() { end(a) }) })
					two.Go(func() { hammer(t, b, func() { endB(b) }) })
					two.Wait()
					close(stop)
					wg.Wait()
				}
			}
		})
	}
}

// openMany opens circuits in n goroutines until it fails, and reports what
// came of each.
func openMany(t *testing.T, wg *sync.WaitGroup, s *side, n int) {
	for range n {
		wg.Go(func() {
			for {
				c, err := s.link.Open(context.Background(), s.params(frag(1, "first")))
				if err != nil {
					oneEnd(t, "Open", err)
					if errors.Is(err, circuit.ErrOpenTimeout) {
						t.Error("the opening was forgotten")
					}
					return
				}
				c.SendOneWay(frag(2, "second"))
			}
		})
	}
}

// Shutdown while 50 goroutines at each end open circuits: each gets a
// circuit, which ends, or a definite error; nothing is left.
func TestShutdownDuringOpens(t *testing.T) {
	for range 5 {
		p := newPair(t, circuit.Config{})
		var wg sync.WaitGroup
		opened := make(chan struct{}, 1<<16)
		for _, s := range []*side{p.a, p.b} {
			go takeAll(s, func(c *circuit.Circuit) {
				opened <- struct{}{}
				go func() {
					for range c.Reads {
					}
				}()
			})
			openMany(t, &wg, s, 50)
		}
		for range 150 {
			<-opened
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		var both sync.WaitGroup
		for _, s := range []*side{p.a, p.b} {
			both.Go(func() { s.link.Shutdown(ctx, errors.New("going home")) })
		}
		both.Wait()
		cancel()
		wg.Wait()
		if a, b := p.a.count(), p.b.count(); a != 0 || b != 0 {
			t.Errorf("the owners still have %d and %d circuits", a, b)
		}
		if a, b := p.a.link.Leftover(), p.b.link.Leftover(); a != 0 || b != 0 {
			t.Errorf("the links still know %d and %d circuits", a, b)
		}
	}
}

// A socket that closes in the middle of traffic and of openings.
func TestConnectionClosedInTraffic(t *testing.T) {
	for range 5 {
		p := newPair(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: 16 << 10})})
		var wg sync.WaitGroup
		hammerAll(t, &wg, p.openTen(t))
		for _, s := range []*side{p.a, p.b} {
			go closeAll(s)
			openMany(t, &wg, s, 5)
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.N(20))*time.Millisecond)
			defer cancel()
			<-ctx.Done()
			p.ea.Close()
		})
		wg.Wait()
		p.a.link.Wait()
		p.b.link.Wait()
		if a, b := p.a.count(), p.b.count(); a != 0 || b != 0 {
			t.Errorf("the owners still have %d and %d circuits", a, b)
		}
		if a, b := len(p.a.link.Circuits()), len(p.b.link.Circuits()); a != 0 || b != 0 {
			t.Errorf("the links still have %d and %d open circuits", a, b)
		}
	}
}

// Whoever lists a link's circuits sees only those whose other end is known.
func TestListingDuringOpens(t *testing.T) {
	p := newPair(t, circuit.Config{})
	go closeAll(p.b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 300 {
			c, err := p.a.link.Open(t.Context(), p.a.params(nil))
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
		}
	}()
	for {
		for _, c := range p.a.link.Circuits() {
			if c.RemotePeerID() != p.b.id.String() {
				t.Errorf("a circuit to %q is listed", c.RemotePeerID())
			}
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestNewCircuitOnADeadLink(t *testing.T) {
	p := newPair(t, circuit.Config{})
	a, b := p.openCircuit(t, nil)
	p.eb.Close()
	for _, c := range []*circuit.Circuit{a, b} {
		<-c.Context.Done()
		if n, ctx, err := c.NewCircuit(); n != nil || ctx != nil || !errors.Is(err, circuit.ErrPeerLost) {
			t.Errorf("NewCircuit on a dead link: %v, want a LostError", err)
		}
	}
	if _, err := p.a.link.Open(t.Context(), p.a.params(frag(1, "x"))); !errors.Is(err, circuit.ErrPeerLost) {
		t.Errorf("Open on a dead link: %v, want a LostError", err)
	}
}

// After an end of each kind, every call says the same: the cause.
func TestCallsAfterTheEndGiveTheCause(t *testing.T) {
	reason := errors.New("reason")
	shut := func(s *side, reason error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.link.Shutdown(ctx, reason)
	}
	isRemote := func(err error) bool {
		re, ok := errors.AsType[*circuit.RemoteError](err)
		return ok && re.Reason == "reason"
	}
	for _, tc := range []struct {
		name string
		end  func(p *pair, a, b *circuit.Circuit)
		want func(err error) bool
	}{
		{"closed here", func(_ *pair, a, _ *circuit.Circuit) { a.Close() }, func(err error) bool { return err == circuit.ErrClosed }},
		{"closed here with a reason", func(_ *pair, a, _ *circuit.Circuit) { a.CloseWith(reason) }, func(err error) bool {
			return errors.Is(err, circuit.ErrClosed) && errors.Is(err, reason)
		}},
		{"closed there", func(_ *pair, _, b *circuit.Circuit) { b.Close() }, func(err error) bool { return err == circuit.ErrRemoteClosed }},
		{"closed there with a reason", func(_ *pair, _, b *circuit.Circuit) { b.CloseWith(reason) }, isRemote},
		{"link shut down here", func(p *pair, _, _ *circuit.Circuit) { shut(p.a, nil) }, func(err error) bool { return err == circuit.ErrClosed }},
		{"link shut down there", func(p *pair, _, _ *circuit.Circuit) { shut(p.b, reason) }, isRemote},
		{"socket closed here", func(p *pair, _, _ *circuit.Circuit) { p.ea.Close() }, func(err error) bool { return errors.Is(err, circuit.ErrPeerLost) }},
		{"socket closed there", func(p *pair, _, _ *circuit.Circuit) { p.eb.Close() }, func(err error) bool { return errors.Is(err, circuit.ErrPeerLost) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t, circuit.Config{})
			a, b := p.openCircuit(t, nil)
			tc.end(p, a, b)
			<-a.Context.Done()
			cause := context.Cause(a.Context)
			if !tc.want(cause) {
				t.Errorf("the cause is %v", cause)
			}
			if err := a.SendOneWay(frag(1, "x")); err != cause {
				t.Errorf("SendOneWay: %v, want %v", err, cause)
			}
			if err := a.Send(t.Context(), frag(1, "x")); err != cause {
				t.Errorf("Send: %v, want %v", err, cause)
			}
			if f, ok := <-a.Reads; ok {
				t.Errorf("Reads gives %+v", f)
			}
			if f, ok := <-a.Errors; ok {
				t.Errorf("Errors gives %+v", f)
			}
			for f, err := range a.Fragments(t.Context()) {
				if f != nil || err != cause {
					t.Errorf("Fragments: %v, %v, want %v", f, err, cause)
				}
			}
			a.CloseWith(errors.New("too late"))
			if again := context.Cause(a.Context); again != cause {
				t.Errorf("closing changed the cause to %v", again)
			}
			if err := a.SendOneWay(frag(1, "x")); err != cause {
				t.Errorf("SendOneWay after one more close: %v, want %v", err, cause)
			}
		})
	}
}
