package files

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport/identity"
)

func TestPlacesByConfig(t *testing.T) {
	for _, c := range []struct{ all, perNode, want, wantPerNode int }{
		{256, 0, 256, 64},
		{256, 7, 256, 7},
		{256, -1, 256, 0},
		{3, 0, 3, 1},
		{1, 0, 1, 1},
		{-1, 0, 0, 64},
		{-1, -1, 0, 0},
		{-1, 9, 0, 9},
	} {
		p := newPlaces(c.all, c.perNode)
		if cap(p.all) != c.want || max(p.perNode, 0) != c.wantPerNode {
			t.Errorf("%d and %d: %d and %d", c.all, c.perNode, cap(p.all), p.perNode)
		}
	}
}

// A sender is a node that asks for places in a bubble.
type sender struct {
	p    *places
	node identity.NodeID
	got  []func()
}

func (s *sender) ask(ctx context.Context, n int) {
	for range n {
		go func() {
			if pl, ok := s.p.take(ctx, s.node, func() {}); ok {
				s.p.mu.Lock()
				s.got = append(s.got, pl.give)
				s.p.mu.Unlock()
			}
		}()
	}
	synctest.Wait()
}

func (s *sender) give(n int) {
	s.p.mu.Lock()
	back := slices.Clone(s.got[:n])
	s.got = slices.Delete(s.got, 0, n)
	s.p.mu.Unlock()
	for _, give := range back {
		give()
	}
	synctest.Wait()
}

func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(5, 3)
		a, b, c := sender{p: p, node: identity.NodeID{1}}, sender{p: p, node: identity.NodeID{2}}, sender{p: p, node: identity.NodeID{3}}
		want := func(why string, nA, nB, nC, known int) {
			t.Helper()
			if len(a.got) != nA || len(b.got) != nB || len(c.got) != nC || len(p.nodes) != known {
				t.Errorf("%s: %d, %d and %d places of %d nodes, want %d, %d and %d of %d",
					why, len(a.got), len(b.got), len(c.got), len(p.nodes), nA, nB, nC, known)
			}
		}
		ctx, gone := context.WithCancel(t.Context())
		a.ask(ctx, 10)
		want("one alone", 3, 0, 0, 1)
		b.ask(t.Context(), 4)
		want("all are taken", 3, 2, 0, 2)
		a.give(1)
		want("to who has waited for one of all", 2, 3, 0, 2)
		b.give(1)
		want("back to the one", 3, 2, 0, 2)
		c.ask(t.Context(), 1)
		gone()
		synctest.Wait()
		a.give(3)
		want("who is gone wants none", 0, 3, 1, 2)
		b.give(3)
		want("the last one", 0, 0, 1, 1)
		c.give(1)
		want("nothing is kept", 0, 0, 0, 0)
		if len(p.all) != 0 {
			t.Errorf("%d places are lost", len(p.all))
		}
	})
}

// Who waits is told so while something moves, and not in vain.
func TestWhoWaitsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(1, 1)
		first, _ := p.take(t.Context(), identity.NodeID{1}, func() { t.Error("told though it had not to wait") })
		var told atomic.Int64
		var wg sync.WaitGroup
		for i := range 2 { // one for a place of all, and one for one of its own
			wg.Go(func() {
				pl, ok := p.take(t.Context(), identity.NodeID{byte(2 - i)}, func() { told.Add(1) })
				if !ok {
					t.Error("no place")
					return
				}
				pl.give()
			})
		}
		for i, moves := range []int64{0, 1, 0, 5, 0} {
			p.moved.Add(moves * leastMoved)
			p.moved.Add(leastMoved / 2) // is too little, also if it comes again and again
			before := told.Load()
			time.Sleep(tellEvery)
			synctest.Wait()
			if n := told.Load() - before; n != 2*min(moves, 1) {
				t.Errorf("step %d: %d moves, and %d were told", i, moves, n)
			}
		}
		before := told.Load()
		first.give()
		wg.Wait()
		p.moved.Add(leastMoved)
		time.Sleep(time.Minute)
		if told.Load() != before {
			t.Error("told after it had got a place")
		}
	})
}

// A sender is slow only while it could send and does not, whether somebody
// waits or not.
func TestWhoIsTooSlow(t *testing.T) {
	attached := true
	pc := pace{holder: holder{attached: func() bool { return attached }}}
	step := func(why string, wrote int64, d time.Duration, want bool) {
		t.Helper()
		pc.wrote.Add(wrote)
		if got := pc.tooSlow(d); got != want {
			t.Errorf("%s: %v", why, got)
		}
	}
	step("a minute", 0, time.Minute, false)
	attached = false
	step("no connection", 0, time.Hour, false)
	attached = true
	pc.busy.Store(true)
	step("it waits for the disk", 0, time.Hour, false)
	pc.busy.Store(false)
	step("two minutes", leastKept-1, time.Minute, true)
	step("enough came", 1, time.Minute, false)
	step("a minute again", 0, time.Minute, false)
	step("enough once more", leastKept, time.Hour, false)
}
