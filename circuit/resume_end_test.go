package circuit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
)

// lostOf waits for the one end of a circuit that nobody takes up again.
func lostOf(t *testing.T, c *circuit.Circuit) *circuit.LostError {
	t.Helper()
	select {
	case <-c.Context.Done():
	case <-time.After(10 * time.Minute):
		t.Fatal("it does not end")
	}
	le, ok := errors.AsType[*circuit.LostError](context.Cause(c.Context))
	if !ok {
		t.Fatalf("it ends with %v, want a LostError", context.Cause(c.Context))
	}
	return le
}

// What is given up when the linger time is over is counted at both ends.
func TestLingerExpires(t *testing.T) {
	for _, fromB := range []bool{false, true} {
		for _, after := range []int{0, 1, 100} {
			t.Run(fmt.Sprintf("fromB=%v/sent=%d", fromB, after), func(t *testing.T) {
				cfgA, cfgB := circuit.Config{Linger: time.Hour}, circuit.Config{Linger: 20 * time.Second}
				inLasting(t, cfgA, cfgB, func(t *testing.T, p *lasting) { testLinger(t, p, fromB, after) })
			})
		}
	}
}

// testLinger has a send in the outage and b nothing: before it all was
// acknowledged, so the numbers are exact.
func testLinger(t *testing.T, p *lasting, fromB bool, after int) {
	a, b := p.ends(t, fromB)
	for i := range int64(10) {
		a.SendOneWay(frag(i, "there"))
		b.SendOneWay(frag(i, "back"))
		<-a.Reads
		<-b.Reads
	}
	a.Flush(t.Context())
	b.Flush(t.Context())
	cut := time.Now()
	p.partition()
	for i := range int64(after) {
		a.SendOneWay(frag(i, "into the void"))
	}
	a.Flush(t.Context()) // gives up with the circuit
	atA, atB := lostOf(t, a), lostOf(t, b)
	if d := time.Since(cut); d < 20*time.Second || d > 28*time.Second {
		t.Errorf("they end %v after the cut, want 5 s of silence and 20 s of linger", d)
	}
	if atA.Unacked != after || atB.Unacked != 0 {
		t.Errorf("unacknowledged: %d and %d, want %d and 0", atA.Unacked, atB.Unacked, after)
	}
	for _, le := range []*circuit.LostError{atA, atB} {
		if !strings.Contains(le.Error(), "linger of 20s expired") || !errors.Is(le, transport.ErrLost) || !errors.Is(le, circuit.ErrPeerLost) {
			t.Errorf("it ends with %v", le)
		}
	}
	if n := a.Stats().Unacked; n != after {
		t.Errorf("Stats counts %d unacknowledged, want %d", n, after)
	}
	if _, err := a.Flush(t.Context()); after > 0 && err != context.Cause(a.Context) {
		t.Errorf("Flush after the end: %v", err)
	}
	if err := a.SendOneWay(frag(0, "")); err != context.Cause(a.Context) {
		t.Errorf("sending after the end: %v", err)
	}
	p.rejoin()
}

// With fragments under way, what was not acknowledged may have arrived.
func TestLingerExpiresUnderLoad(t *testing.T) {
	for _, fromB := range []bool{false, true} {
		t.Run(fmt.Sprint("fromB=", fromB), func(t *testing.T) {
			cfg := circuit.Config{Linger: 10 * time.Second}
			inLasting(t, cfg, cfg, func(t *testing.T, p *lasting) {
				a, b := p.ends(t, fromB)
				there, back := send(t, a, b, 5*time.Millisecond, 0), send(t, b, a, 5*time.Millisecond, 0)
				time.Sleep(2 * time.Second)
				p.partition()
				atA, atB := lostOf(t, a), lostOf(t, b)
				there.joined.Wait()
				back.joined.Wait()
				p.rejoin()
				for _, f := range []struct {
					*traffic
					unacked int
				}{{there, atA.Unacked}, {back, atB.Unacked}} {
					if missing := int(f.sent.Load() - f.received.Load()); f.unacked < missing || f.unacked > int(f.sent.Load()) || missing == 0 {
						t.Errorf("%d of %d did not arrive, and %d are counted", missing, f.sent.Load(), f.unacked)
					}
				}
			})
		})
	}
}

// An outage that is over in time has not used up the linger of the next one.
func TestLingerStartsAnew(t *testing.T) {
	cfg := circuit.Config{Linger: 20 * time.Second}
	inLasting(t, cfg, cfg, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		flow := send(t, a, b, 100*time.Millisecond, 0)
		for range 10 {
			p.outage(15 * time.Second)
			time.Sleep(5 * time.Second)
		}
		flow.finish()
	})
}

// If either side says so, a circuit ends with its connection.
func TestNoResume(t *testing.T) {
	never := circuit.Config{NoResume: true}
	for _, tc := range []struct {
		name       string
		cfgA, cfgB circuit.Config
	}{{"opener", never, circuit.Config{}}, {"acceptor", circuit.Config{}, never}, {"both", never, never}} {
		t.Run(tc.name, func(t *testing.T) {
			inLasting(t, tc.cfgA, tc.cfgB, func(t *testing.T, p *lasting) {
				a, b := p.openCircuit(t, nil)
				a.SendOneWay(frag(1, "x"))
				<-b.Reads
				a.Flush(t.Context())
				p.partition()
				a.SendOneWay(frag(2, "into the void"))
				start := time.Now()
				atA, atB := lostOf(t, a), lostOf(t, b)
				if d := time.Since(start); d > 6*time.Second {
					t.Errorf("they end after %v", d)
				}
				if atA.Unacked != 1 || atB.Unacked != 0 {
					t.Errorf("unacknowledged: %d and %d, want 1 and 0", atA.Unacked, atB.Unacked)
				}
				if a.Stats().Attachments != 1 || a.Stats().Replayed != 0 {
					t.Errorf("%+v", a.Stats())
				}
				p.rejoin()
				<-p.a.link.Context().Done()
				<-p.b.link.Context().Done()
			})
		})
	}
}

// A process that has restarted is another one, and its predecessor's circuits
// end at once.
func TestRestarted(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		p.partition()
		a.SendOneWay(frag(1, "x"))
		p.a.link.Restarted()
		p.b.link.Restarted()
		if le := lostOf(t, a); le.Unacked != 1 || le.Cause != circuit.ErrPeerRestarted {
			t.Errorf("ends with %v", le)
		}
		if le := lostOf(t, b); le.Unacked != 0 || !errors.Is(le, circuit.ErrPeerRestarted) {
			t.Errorf("ends with %v", le)
		}
		if _, err := p.a.link.Open(t.Context(), p.a.params(nil)); !errors.Is(err, circuit.ErrPeerRestarted) {
			t.Errorf("opening after that: %v", err)
		}
	})
}

// A circuit that its opener has given up in an outage is over at the acceptor
// as soon as the two are in contact again, and the other way round.
func TestGivenUpOnOneSide(t *testing.T) {
	for _, byOpener := range []bool{true, false} {
		t.Run(fmt.Sprint("byOpener=", byOpener), func(t *testing.T) {
			inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
				a, b := p.openCircuit(t, nil)
				beside, besideB := p.openCircuit(t, nil)
				time.Sleep(time.Second)
				p.partition()
				a.SendOneWay(frag(1, "a"))
				b.SendOneWay(frag(1, "b"))
				b.SendOneWay(frag(2, "b"))
				time.Sleep(10 * time.Second)
				gone, left, unacked := a, b, 2
				if !byOpener {
					gone, left, unacked = b, a, 1
				}
				gone.GiveUp(errors.New("no more"))
				time.Sleep(10 * time.Second)
				p.rejoin()
				start := time.Now()
				le := lostOf(t, left)
				if d := time.Since(start); d > 6*time.Second {
					t.Errorf("it ends %v after the heal", d)
				}
				if le.Unacked != unacked || !strings.Contains(le.Error(), "given it up") {
					t.Errorf("it ends with %v, want %d unacknowledged", le, unacked)
				}
				beside.SendOneWay(frag(1, "well"))
				if f := <-besideB.Reads; f.FragPart != 1 {
					t.Error("the circuit beside it is not well")
				}
			})
		})
	}
}
