package circuit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"ckt.local/circuit"
)

// opened is what a call of Open has returned, and how long it took.
type opened struct {
	c    *circuit.Circuit
	err  error
	took time.Duration
}

// openSoon calls Open in the background, with a bound of d.
func openSoon(s *side, d time.Duration) <-chan opened {
	done := make(chan opened, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		start := time.Now()
		c, err := s.link.Open(ctx, s.params(frag(7, "first")))
		done <- opened{c, err, time.Since(start)}
	}()
	return done
}

// An opening in an outage waits until the network is back, and the acceptor
// gets the circuit once, whatever was lost: the opening, the answer, or both.
func TestOpenInAnOutage(t *testing.T) {
	for _, cut := range []string{"both", "from a", "from b"} {
		for _, at := range []time.Duration{0, 5 * time.Millisecond, 15 * time.Millisecond, 10 * time.Second} {
			t.Run(fmt.Sprint(cut, "/", at), func(t *testing.T) {
				inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) { testOpen(t, p, cut, at) })
			})
		}
	}
}

// testOpen opens a circuit from either side, at before the cut if that is
// short, and after the connection was lost if it is long.
func testOpen(t *testing.T, p *lasting, cut string, at time.Duration) {
	keep, keepB := p.openCircuit(t, nil) // without it the link would end
	time.Sleep(time.Second)
	if at > time.Second {
		p.cut(cut)
		time.Sleep(at)
	}
	fromA, fromB := openSoon(p.a, time.Minute), openSoon(p.b, time.Minute)
	if at <= time.Second {
		time.Sleep(at)
		p.cut(cut)
	}
	time.Sleep(20 * time.Second)
	p.rejoin()
	healed := time.Now()
	a, b := <-fromA, <-fromB
	if d := time.Since(healed); a.err != nil || b.err != nil || d > 6*time.Second {
		t.Fatalf("opened %v after the heal: %v, %v", d, a.err, b.err)
	}
	atB, atA := <-p.b.news, <-p.a.news
	for _, ends := range [][2]*circuit.Circuit{{a.c, atB}, {b.c, atA}} {
		if ends[0].CircuitID() != ends[1].CircuitID() {
			t.Fatal("another circuit was accepted")
		}
		if f := <-ends[1].Reads; f == nil || f.Typ != circuit.CallFirst || f.FragPart != 7 || f.Serial != 1 {
			t.Errorf("the first fragment is %+v", f)
		}
		ends[1].SendOneWay(frag(1, "answer"))
		if f := <-ends[0].Reads; f == nil || f.FragPart != 1 {
			t.Errorf("the answer is %+v", f)
		}
	}
	time.Sleep(time.Minute)
	select {
	case c := <-p.a.news:
		t.Errorf("accepted again: %v", c.CircuitID())
	case c := <-p.b.news:
		t.Errorf("accepted again: %v", c.CircuitID())
	default:
	}
	if !keep.State().Attached || !keepB.State().Attached {
		t.Error("the circuit that was there is not attached")
	}
}

func (p *lasting) cut(which string) {
	if which != "from b" {
		p.net.Cut(p.ha.Addr(), p.hb.Addr())
	}
	if which != "from a" {
		p.net.Cut(p.hb.Addr(), p.ha.Addr())
	}
}

// An opening is over when its time is, also in an outage, and an acceptor who
// had said yes learns of it.
func TestOpenTimesOutInAnOutage(t *testing.T) {
	for _, cut := range []string{"both", "from a", "from b"} {
		t.Run(cut, func(t *testing.T) {
			inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
				p.openCircuit(t, nil)
				time.Sleep(time.Second)
				fromA, fromB := openSoon(p.a, 10*time.Second), openSoon(p.b, 10*time.Second)
				time.Sleep(5 * time.Millisecond) // the openings are under way
				p.cut(cut)
				for _, o := range []opened{<-fromA, <-fromB} {
					if o.err == nil {
						continue // its answer has come
					}
					if o.err != circuit.ErrOpenTimeout || o.took != 10*time.Second {
						t.Errorf("opening: %v after %v", o.err, o.took)
					}
				}
				late := openSoon(p.a, 3*time.Second)
				if o := <-late; cut == "both" && (o.err != circuit.ErrOpenTimeout || o.took != 3*time.Second) {
					t.Errorf("opening in the outage: %v after %v", o.err, o.took)
				}
				p.rejoin()
				for _, s := range []*side{p.a, p.b} {
					for range len(s.news) {
						c := <-s.news
						go func() {
							for range c.Reads { // what is unread keeps a circuit
							}
						}()
					}
				}
				time.Sleep(6 * time.Second)
				want := p.a.link.Leftover() // what is open is so at both ends
				if got := p.b.link.Leftover(); got != want || want < 1 || p.a.count() != want || p.b.count() != want {
					t.Errorf("the links know %d and %d circuits, the owners %d and %d", want, got, p.a.count(), p.b.count())
				}
			})
		})
	}
}

// What the other side has refused is refused after an outage too.
func TestRefusedAfterAnOutage(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		p.openCircuit(t, nil)
		p.b.mu.Lock()
		p.b.refuse = &circuit.Refusal{Code: circuit.RefusedUnauthorized, Reason: "not you"}
		p.b.mu.Unlock()
		p.partition()
		time.Sleep(7 * time.Second)
		o := openSoon(p.a, time.Minute)
		time.Sleep(7 * time.Second)
		p.rejoin()
		got := <-o
		if re, ok := errors.AsType[*circuit.RefusedError](got.err); !ok || re.Code != circuit.RefusedUnauthorized {
			t.Errorf("got %v", got.err)
		}
	})
}

// With a caller that gives no bound, OpenTimeout is it.
func TestOpenTimeoutInAnOutage(t *testing.T) {
	cfg := circuit.Config{OpenTimeout: 12 * time.Second}
	inLasting(t, cfg, cfg, func(t *testing.T, p *lasting) {
		p.openCircuit(t, nil)
		p.partition()
		time.Sleep(8 * time.Second)
		start := time.Now()
		_, err := p.a.link.Open(context.Background(), p.a.params(nil))
		if err != circuit.ErrOpenTimeout || time.Since(start) != 12*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		p.rejoin()
	})
}

// The last circuit is gone and an opening waits: that keeps the link.
func TestOpeningKeepsTheLink(t *testing.T) {
	cfg := circuit.Config{Linger: 10 * time.Second}
	inLasting(t, cfg, cfg, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		p.partition()
		time.Sleep(10 * time.Second)
		o := openSoon(p.a, time.Minute)
		lostOf(t, a)
		lostOf(t, b)
		time.Sleep(5 * time.Second)
		if p.a.link.Context().Err() != nil {
			t.Fatal("the link has ended")
		}
		if p.b.link.Context().Err() == nil {
			t.Error("the other side's link is there, with nothing on it")
		}
		p.rejoin()
		// There the link is a new one's business, so nobody answers here.
		if got := <-o; got.err == nil {
			t.Error("opened")
		}
	})
}
