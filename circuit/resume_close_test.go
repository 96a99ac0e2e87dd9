package circuit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"ckt.local/circuit"
)

var errEnough = errors.New("enough")

// closing is a circuit that is closed while the network is out of order.
type closing struct {
	t          *testing.T
	a, b       *circuit.Circuit
	byA, byB   bool
	sent       int64
	readA, rdB chan int64
}

// newClosing opens a circuit whose ends send n fragments each, and read.
func newClosing(t *testing.T, p *lasting, fromB, byA, byB bool) *closing {
	t.Helper()
	k := &closing{t: t, byA: byA, byB: byB, readA: make(chan int64, 1), rdB: make(chan int64, 1)}
	k.a, k.b = p.ends(t, fromB)
	for _, end := range []struct {
		c *circuit.Circuit
		n chan int64
	}{{k.a, k.readA}, {k.b, k.rdB}} {
		go func() {
			n := int64(0)
			for f := range end.c.Reads {
				if f.FragPart != n {
					t.Errorf("part %d came, want %d", f.FragPart, n)
				}
				n++
			}
			end.n <- n
		}()
	}
	return k
}

func (k *closing) send(n int) {
	for range n {
		k.a.SendOneWay(&circuit.Fragment{FragPart: k.sent, Payload: make([]byte, 1000)})
		k.b.SendOneWay(&circuit.Fragment{FragPart: k.sent, Payload: make([]byte, 1000)})
		k.sent++
	}
}

func (k *closing) close() {
	if k.byA {
		k.a.CloseWith(errEnough)
	}
	if k.byB {
		k.b.CloseWith(errEnough)
	}
}

// check waits for the ends of both ends: who has not closed gets everything
// and the reason.
func (k *closing) check() {
	k.t.Helper()
	for _, end := range []struct {
		name          string
		c             *circuit.Circuit
		closed, other bool
		read          chan int64
	}{{"a", k.a, k.byA, k.byB, k.readA}, {"b", k.b, k.byB, k.byA, k.rdB}} {
		select {
		case <-end.c.Context.Done():
		case <-time.After(time.Minute):
			k.t.Fatalf("%s does not end; it is %v, %+v", end.name, end.c.State(), end.c.Stats())
		}
		n, cause := <-end.read, context.Cause(end.c.Context)
		re, remote := errors.AsType[*circuit.RemoteError](cause)
		switch {
		case end.closed && !(errors.Is(cause, circuit.ErrClosed) && errors.Is(cause, errEnough)):
			k.t.Errorf("%s has closed, and ends with %v", end.name, cause)
		case !end.closed && !(remote && re.Reason == errEnough.Error()):
			k.t.Errorf("%s ends with %v", end.name, cause)
		case !end.closed && n != k.sent:
			k.t.Errorf("%s got %d of %d", end.name, n, k.sent)
		}
		if !end.other {
			if f := flush(k.t.Context(), end.c); end.closed && f != (flushed{}) {
				k.t.Errorf("%s was closed by itself alone, and Flush gives %+v", end.name, f)
			}
		}
	}
}

// forgotten waits until both links have forgotten all circuits.
func (p *lasting) forgotten(t *testing.T, within time.Duration) {
	t.Helper()
	start := time.Now()
	for p.a.link.Leftover()+p.b.link.Leftover() > 0 || p.a.count()+p.b.count() > 0 {
		if time.Sleep(10 * time.Millisecond); time.Since(start) > within {
			t.Errorf("after %v the links know %d and %d circuits, the owners %d and %d", within,
				p.a.link.Leftover(), p.b.link.Leftover(), p.a.count(), p.b.count())
			return
		}
	}
}

// every calls f for all combinations of who opens and who closes.
func every(f func(fromB, byA, byB bool)) {
	for i := range 6 {
		f(i&1 != 0, i>>1 != 1, i>>1 != 0)
	}
}

func TestCloseInAnOutage(t *testing.T) {
	for _, at := range []time.Duration{0, time.Second, 10 * time.Second} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
				var all []*closing
				every(func(fromB, byA, byB bool) { all = append(all, newClosing(t, p, fromB, byA, byB)) })
				for _, k := range all {
					k.send(10)
				}
				time.Sleep(time.Second)
				p.partition()
				time.Sleep(at)
				for _, k := range all {
					k.send(10)
					k.close()
				}
				time.Sleep(20 * time.Second)
				p.rejoin()
				p.forgotten(t, 6*time.Second)
				for _, k := range all {
					k.check()
				}
			})
		})
	}
}

// The connection is cut at some moment of the farewell: after 10 ms the close
// is there, after 20 its answer, and so on; both ways, or one of them.
func TestCloseRacesWithTheLoss(t *testing.T) {
	for _, cut := range []string{"both", "from a", "from b"} {
		t.Run(cut, func(t *testing.T) {
			for at := time.Duration(0); at <= 50*time.Millisecond; at += 4 * time.Millisecond {
				inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) { testCloseRace(t, p, cut, at) })
				if t.Failed() {
					t.Fatalf("the cut comes %v after the close", at)
				}
			}
		})
	}
}

func testCloseRace(t *testing.T, p *lasting, cut string, at time.Duration) {
	var all []*closing
	every(func(fromB, byA, byB bool) {
		all = append(all, newClosing(t, p, fromB, byA, byB), newClosing(t, p, fromB, byA, byB))
	})
	for _, k := range all {
		k.send(2)
	}
	time.Sleep(time.Second)
	for i, k := range all {
		k.send(i % 2 * 50)
		k.close()
	}
	time.Sleep(at)
	if cut != "from b" {
		p.net.Cut(p.ha.Addr(), p.hb.Addr())
	}
	if cut != "from a" {
		p.net.Cut(p.hb.Addr(), p.ha.Addr())
	}
	time.Sleep(8 * time.Second)
	p.rejoin()
	p.forgotten(t, 6*time.Second)
	for _, k := range all {
		k.check()
	}
}

// Shutdown in an outage delivers what was sent when the network is back.
func TestShutdownAcrossAnOutage(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		var all []*closing
		for range 3 {
			all = append(all, newClosing(t, p, false, true, false), newClosing(t, p, true, true, false))
		}
		p.partition()
		for _, k := range all {
			k.send(20)
		}
		time.AfterFunc(20*time.Second, p.rejoin)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := p.a.link.Shutdown(ctx, errEnough); err != nil || time.Since(start) > 26*time.Second {
			t.Errorf("Shutdown: %v after %v", err, time.Since(start))
		}
		for _, k := range all {
			k.check()
		}
	})
}

// One that nobody takes up again is over when its ctx is, and counts.
func TestShutdownIntoTheVoid(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		a, _ := p.openCircuit(t, nil)
		p.partition()
		for i := range int64(7) {
			a.SendOneWay(frag(i, "x"))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		err := p.a.link.Shutdown(ctx, nil)
		le, lost := errors.AsType[*circuit.LostError](err)
		if !lost || le.Unacked != 7 || time.Since(start) != 10*time.Second {
			t.Errorf("Shutdown: %v after %v, want 7 unacknowledged", err, time.Since(start))
		}
		p.rejoin()
	})
}
