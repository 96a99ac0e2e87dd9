package circuit_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
)

// A waiter is a Fragments call that runs.
type waiter struct {
	c    *circuit.Circuit
	got  chan *circuit.Fragment
	over chan error // what the call has ended with
}

func fragmentsOf(ctx context.Context, c *circuit.Circuit) *waiter {
	w := &waiter{c, make(chan *circuit.Fragment, 10), make(chan error, 1)}
	go func() {
		var last error
		for f, err := range c.Fragments(ctx) {
			if last = err; f != nil {
				w.got <- f
			}
		}
		w.over <- last
	}()
	return w
}

// sleeps waits until the call has taken the reader's place.
func (w *waiter) sleeps(t *testing.T) {
	t.Helper()
	within(t, time.Second, "an idle circuit is read by who waits for it", w.c.Lent)
}

// inSleep runs f with a circuit both ends of which sleep.
func inSleep(t *testing.T, f func(t *testing.T, p *lasting, a, b *waiter, stop context.CancelFunc)) {
	t.Helper()
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		ca, cb := p.openCircuit(t, nil)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		a, b := fragmentsOf(ctx, ca), fragmentsOf(context.Background(), cb)
		a.sleeps(t)
		b.sleeps(t)
		f(t, p, a, b, stop)
		ca.Close()
		cb.Close()
		<-b.over
	})
}

func TestSleepingCircuitWakesForFragments(t *testing.T) {
	inSleep(t, func(t *testing.T, _ *lasting, a, b *waiter, _ context.CancelFunc) {
		for part := range int64(3) {
			for _, w := range [][2]*waiter{{a, b}, {b, a}} {
				if err := w[0].c.SendOneWay(frag(part, "awake")); err != nil {
					t.Fatal(err)
				}
				if f := <-w[1].got; f.FragPart != part {
					t.Errorf("fragment %d, want %d", f.FragPart, part)
				}
			}
			a.sleeps(t)
			b.sleeps(t)
		}
	})
}

// Whoever waits with a context is let go when that ends, and what comes then is
// read by others.
func TestSleepingCircuitIsLeftByItsReader(t *testing.T) {
	inSleep(t, func(t *testing.T, _ *lasting, a, b *waiter, stop context.CancelFunc) {
		stop()
		if err := <-a.over; err != context.Canceled {
			t.Errorf("ended with %v", err)
		}
		if err := b.c.SendOneWay(frag(1, "for Reads")); err != nil {
			t.Fatal(err)
		}
		if f := <-a.c.Reads; f.FragPart != 1 {
			t.Errorf("fragment %d", f.FragPart)
		}
	})
}

// Of two calls one reads, and when that one ends, the other goes on.
func TestSleepingCircuitPassesFromCallToCall(t *testing.T) {
	inSleep(t, func(t *testing.T, _ *lasting, a, b *waiter, stop context.CancelFunc) {
		other := fragmentsOf(t.Context(), a.c)
		synctest.Wait()
		stop()
		<-a.over
		other.sleeps(t)
		if err := b.c.SendOneWay(frag(1, "for the other")); err != nil {
			t.Fatal(err)
		}
		<-other.got
	})
}

func TestSleepingCircuitSeesTheEnd(t *testing.T) {
	for name, end := range map[string]struct {
		do     func(a, b *circuit.Circuit)
		atA, b error
	}{
		"here":  {func(a, _ *circuit.Circuit) { a.Close() }, circuit.ErrClosed, nil},
		"there": {func(_, b *circuit.Circuit) { b.Close() }, nil, circuit.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			inSleep(t, func(t *testing.T, _ *lasting, a, b *waiter, _ context.CancelFunc) {
				end.do(a.c, b.c)
				if err := <-a.over; !errors.Is(err, end.atA) {
					t.Errorf("this end: %v, want %v", err, end.atA)
				}
				if err := <-b.over; !errors.Is(err, end.b) {
					t.Errorf("the other end: %v, want %v", err, end.b)
				}
				b.over <- nil
			})
		})
	}
}

// A connection that is lost takes nobody's sleep for an end.
func TestSleepingCircuitOutlivesItsConnection(t *testing.T) {
	inSleep(t, func(t *testing.T, p *lasting, a, b *waiter, _ context.CancelFunc) {
		p.outage(20 * time.Second)
		if err := a.c.Send(t.Context(), frag(1, "after")); err != nil {
			t.Fatal(err)
		}
		if f := <-b.got; f.FragPart != 1 {
			t.Errorf("fragment %d", f.FragPart)
		}
		a.sleeps(t)
		b.sleeps(t)
	})
}
