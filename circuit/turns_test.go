package circuit_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/limit"
)

// An opener has at most 1,024 streams that wait for an answer: more would only
// wait at the other side, and be held against it.
func TestOpenersTakeTurns(t *testing.T) {
	const many, turns = 3000, 1024
	ledger := limit.NewLedger(limit.Limits{})
	inLasting(t, circuit.Config{}, circuit.Config{Ledger: ledger}, func(t *testing.T, p *lasting) {
		p.b.hold()
		var opened atomic.Int64
		var all sync.WaitGroup
		for range many {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
				defer cancel()
				c, err := p.a.link.Open(ctx, p.a.params(nil))
				if err != nil {
					t.Error(err)
					return
				}
				opened.Add(1)
				c.Close()
			})
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := p.b.asked.Load(); n != turns || opened.Load() != 0 {
			t.Errorf("%d openings wait for the acceptor, %d are through, want %d and none", n, opened.Load(), turns)
		}
		go func() {
			for c := range p.b.news {
				c.Close()
			}
		}()
		p.b.release()
		all.Wait()
		if opened.Load() != many {
			t.Errorf("%d of %d were opened", opened.Load(), many)
		}
		p.forgotten(t, time.Minute)
	})
}

// Openings that are given up do not keep their places at the other side until
// the time is over that they were told to have.
func TestOpeningsThatAreGivenUpMakeRoom(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		for range 3 {
			p.b.hold()
			ctx, giveUp := context.WithTimeout(context.Background(), 9*time.Minute)
			var all sync.WaitGroup
			for range 4000 {
				all.Go(func() {
					if _, err := p.a.link.Open(ctx, p.a.params(nil)); err == nil {
						t.Error("an opening that nobody has decided about succeeds")
					}
				})
			}
			time.Sleep(time.Second)
			giveUp()
			all.Wait()
			time.Sleep(time.Second)
			if n := p.b.asked.Load(); n != 0 {
				t.Errorf("the acceptor is asked about %d openings that were given up", n)
			}
			p.b.release()
			a, b := p.openCircuit(t, nil)
			if n := a.Stats().Attachments; n != 1 {
				t.Errorf("attached %d times", n)
			}
			a.Close()
			b.Close()
			p.forgotten(t, time.Minute)
		}
	})
}

// An outage, a timeout, and a refusal give the turn back as well.
func TestTurnsAreGivenBack(t *testing.T) {
	const turns = 1024
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		for _, f := range []struct {
			name string
			do   func() error
		}{
			{"timeouts", func() error {
				p.b.hold()
				defer p.b.release()
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				defer cancel()
				_, err := p.a.link.Open(ctx, p.a.params(nil))
				return err
			}},
			{"refusals", func() error {
				q := p.a.params(nil)
				q.ToService = "other"
				_, err := p.a.link.Open(context.Background(), q)
				return err
			}},
		} {
			for i := range 2 * turns {
				if f.do() == nil {
					t.Fatalf("%s: opening %d succeeds", f.name, i)
				}
			}
			for len(p.b.news) > 0 { // released after the opener's time was over
				(<-p.b.news).Close()
			}
			p.forgotten(t, time.Minute)
			if n := p.a.link.Turns(); n != 0 {
				t.Errorf("%s: %d turns are not given back", f.name, n)
			}
			a, b := p.openCircuit(t, nil)
			a.Close()
			b.Close()
		}
		// Circuits take turns on each new connection.
		for range 2 * turns {
			a, b := p.openCircuit(t, nil)
			defer a.Close()
			defer b.Close()
		}
		for range 2 {
			p.outage(20 * time.Second)
			a, b := p.openCircuit(t, nil)
			if err := a.SendOneWay(frag(1, "x")); err != nil {
				t.Fatal(err)
			}
			if f := <-b.Reads; f == nil || f.FragPart != 1 {
				t.Errorf("got %v", f)
			}
			a.Close()
			b.Close()
		}
	})
}

// Circuits are taken up again at once, though the other side has not decided
// yet about as many openings as there may be.
func TestResumptionDoesNotWaitForOpenings(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		var as, bs []*circuit.Circuit
		for range 50 {
			a, b := p.openCircuit(t, nil)
			as, bs = append(as, a), append(bs, b)
		}
		p.b.hold()
		ctx, giveUp := context.WithCancel(context.Background())
		var openings sync.WaitGroup
		for range 3000 {
			openings.Go(func() {
				if _, err := p.a.link.Open(ctx, p.a.params(nil)); err == nil {
					t.Error("an opening that nobody has decided about succeeds")
				}
			})
		}
		time.Sleep(time.Second)
		p.outage(20 * time.Second)
		healed := time.Now()
		for i := range as {
			if err := as[i].SendOneWay(frag(int64(i), "x")); err != nil {
				t.Fatal(err)
			}
		}
		for i := range bs {
			if f := <-bs[i].Reads; f == nil || f.FragPart != int64(i) {
				t.Errorf("circuit %d reads %v", i, f)
			}
		}
		if took := time.Since(healed); took > 6*time.Second {
			t.Errorf("circuits were taken up after %v", took)
		}
		giveUp()
		openings.Wait()
		p.b.release()
		for i := range as {
			as[i].Close()
			bs[i].Close()
		}
		for len(p.b.news) > 0 {
			(<-p.b.news).Close()
		}
		p.forgotten(t, 5*time.Minute)
	})
}
