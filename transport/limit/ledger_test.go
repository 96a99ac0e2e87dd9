package limit

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

func TestBoundsOfOneNodeAndOfAll(t *testing.T) {
	g := NewLedger(small())
	a, b, c := node(1), node(2), node(3)
	acquire(t, g, Conns, a, 1, 1)
	acquire(t, g, Conns, a, 1, 2)
	refuse(t, g, Conns, a, 1, transport.LimitError{What: "connections of one node", Limit: 2})
	acquire(t, g, Conns, b, 2, 2)
	refuse(t, g, Conns, c, 1, transport.LimitError{What: "connections", Limit: 4})
	g.Release(Conns, a, 1)
	acquire(t, g, Conns, c, 1, 1)
	refuse(t, g, Conns, a, 1, transport.LimitError{What: "connections", Limit: 4})

	// Who has no key yet counts in all only.
	acquire(t, g, Handshakes, identity.NodeID{}, 3, 0)
	refuse(t, g, Handshakes, identity.NodeID{}, 1, transport.LimitError{What: "handshakes", Limit: 3})

	// The bound of one node cannot be more than that of all.
	refuse(t, g, Replay, a, 101, transport.LimitError{What: "replay bytes of one node", Limit: 100})

	// What cannot be refused is counted, and keeps others out.
	g.Force(Circuits, a, 9)
	refuse(t, g, Circuits, a, 1, transport.LimitError{What: "circuits of one node", Limit: 3})
	refuse(t, g, Circuits, b, 1, transport.LimitError{What: "circuits", Limit: 5})
	g.Release(Circuits, a, 9)
	acquire(t, g, Circuits, b, 3, 3)
}

func TestTakeLeavesSomethingForOthers(t *testing.T) {
	g := NewLedger(small())
	a, b := node(1), node(2)
	for _, c := range []struct {
		why              string
		node             identity.NodeID
		need, want, took int64
	}{
		{"a quarter of what its node may have, but for an eighth", a, 1, 1000, 131},
		{"and of what is left of that", a, 1, 1000, 98},
		{"no more than it wants", a, 1, 10, 10},
		{"what it needs, though that is more than a quarter", a, 250, 250, 250},
		{"more than there is", a, 37, 37, 0},
		{"all there is", a, 36, 1000, 36},
		{"its node has all it may", a, 1, 1, 0},
		{"another one has a quarter of what is free in all", b, 1, 1000, 87},
	} {
		if n := g.Take(Inbox, c.node, c.need, c.want); n != c.took {
			t.Fatalf("%s: took %d, want %d", c.why, n, c.took)
		}
	}
	if u := use(g, "inbox bytes"); u.Used != 612 || u.Top != a || u.TopUsed != 525 || u.Refused != 2 {
		t.Errorf("use: %+v", u)
	}
	// What Take leaves is there for those who begin.
	acquire(t, g, Inbox, a, 75, 600)
}

// A taker waits for memory, and takes what it needs when it is woken.
type taker struct {
	*Waiter
	woken int
	took  int64
}

func wait(g *Ledger, id identity.NodeID, need int64) *taker {
	w := &taker{}
	w.Waiter = NewWaiter(Inbox, id, func() {
		w.woken++
		if n := g.Take(Inbox, id, need, need); n > 0 {
			w.took += n
		} else {
			g.Wait(w.Waiter, need)
		}
	})
	g.Wait(w.Waiter, need)
	return w
}

func TestWaitersOfTheSameNode(t *testing.T) {
	g := NewLedger(small())
	a := node(1)
	acquire(t, g, Inbox, a, 525, 525)
	first, second := wait(g, a, 100), wait(g, a, 100)
	gone := wait(g, a, 100)
	g.Leave(gone.Waiter)
	g.Leave(gone.Waiter)
	g.Release(Inbox, node(2), 0)
	g.Release(Replay, a, 0)
	if first.woken+second.woken > 0 {
		t.Fatal("woken though nothing was released")
	}
	g.Release(Inbox, a, 100)
	if first.took != 100 || second.woken != 0 {
		t.Errorf("the first one took %d; the second one was woken %d times with nothing left", first.took, second.woken)
	}
	g.Release(Inbox, a, 300)
	if second.took != 100 || gone.woken != 0 {
		t.Errorf("the second one took %d; the one that left was woken %d times", second.took, gone.woken)
	}
}

func TestWaitersWhenTheWholeIsScarce(t *testing.T) {
	g := NewLedger(small())
	a, b, c := node(1), node(2), node(3)
	acquire(t, g, Inbox, a, 525, 525)
	g.Force(Inbox, b, 475)
	w := wait(g, c, 50)
	own := wait(g, a, 1)
	// One large piece at once: afterwards nothing is scarce any more.
	g.Release(Inbox, b, 475)
	if w.took != 50 {
		t.Errorf("another node's waiter took %d", w.took)
	}
	if own.woken != 0 {
		t.Error("a node at its own bound was woken by another one's release")
	}
}

func TestAllThatFindSomethingAreWoken(t *testing.T) {
	g := NewLedger(small())
	a, b := node(1), node(2)
	g.Force(Inbox, a, 600)
	g.Force(Inbox, b, 400)
	var all []*taker
	for range 50 {
		all = append(all, wait(g, node(3), 5))
	}
	g.Release(Inbox, a, 600)
	for i, w := range all {
		if w.took != 5 {
			t.Fatalf("number %d took %d", i, w.took)
		}
	}
}

func TestNodesTakeTurns(t *testing.T) {
	g := NewLedger(small())
	g.Force(Inbox, node(1), 500)
	g.Force(Inbox, node(2), 500)
	var many []*taker
	for range 160 {
		many = append(many, wait(g, node(3), 20))
	}
	honest := wait(g, node(4), 20)
	g.Release(Inbox, node(1), 125+40)
	if many[0].took != 20 || honest.took != 20 {
		t.Errorf("of two nodes, one with many waiters took %d, and one with one took %d", many[0].took, honest.took)
	}
	// Those who need more than there is are not woken, and keep nobody waiting.
	modest := wait(g, node(3), 10)
	g.Release(Inbox, node(1), 10)
	if modest.took != 10 {
		t.Errorf("who needs what there is took %d", modest.took)
	}
	for _, w := range many[1:] {
		if w.woken > 0 {
			t.Fatal("woken for too little")
		}
	}
}

// Some nodes at their own bound do not keep another one from beginning.
func TestTheLastEighthIsForTheModest(t *testing.T) {
	g := NewLedger(Limits{Circuit: Circuit{Inbox: 6400, InboxPerNode: 3200}})
	acquire(t, g, Inbox, node(1), 3200, 3200)
	acquire(t, g, Inbox, node(2), 2400, 2400)
	refuse(t, g, Inbox, node(2), 1, transport.LimitError{What: "inbox bytes", Limit: 6400})
	if n := g.Take(Inbox, node(3), 10, 1000); n != 25 { // a quarter of the 100 that it may have
		t.Errorf("a modest node finds %d", n)
	}
	acquire(t, g, Inbox, node(3), 75, 100)
	refuse(t, g, Inbox, node(3), 1, transport.LimitError{What: "inbox bytes", Limit: 6400})
	for i := 4; i < 11; i++ {
		acquire(t, g, Inbox, node(i), 100, 100)
	}
	refuse(t, g, Inbox, node(11), 1, transport.LimitError{What: "inbox bytes", Limit: 6400})
}

func TestWhoNeedsLessThanBeforeSaysSo(t *testing.T) {
	g := NewLedger(small())
	acquire(t, g, Inbox, node(1), 525, 525)
	first, second := wait(g, node(1), 100), wait(g, node(1), 90)
	g.Wait(first.Waiter, 50)
	g.Release(Inbox, node(1), 60)
	if first.woken != 1 || second.woken != 0 {
		t.Errorf("who needs 50 was woken %d times, who needs 90 %d times", first.woken, second.woken)
	}
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewLedger(small())
		a, b := node(1), node(2)
		burst := func(id identity.NodeID) (n int) {
			for g.Allow(Opens, id) == nil {
				n++
			}
			return n
		}
		if n := burst(a); n != 4 {
			t.Errorf("%d at once, want 4", n)
		}
		err := g.Allow(Opens, a)
		if e, ok := errors.AsType[*transport.LimitError](err); !ok || *e != (transport.LimitError{What: "openings per second of one node", Limit: 4}) {
			t.Errorf("err = %v", err)
		}
		if g.Allow(Opens, b) != nil || g.Allow(Starts, a) != nil || g.Allow(Opens, identity.NodeID{}) != nil {
			t.Error("another node, another rate or nobody was refused, too")
		}
		time.Sleep(500 * time.Millisecond)
		if n := burst(a); n != 2 {
			t.Errorf("%d after half a second, want 2", n)
		}
		time.Sleep(time.Hour)
		if n := burst(a); n != 4 {
			t.Errorf("%d after an hour, want 4", n)
		}
		if u := use(g, "openings per second"); u.PerNode != 4 || u.Top != a || u.TopUsed != 4 || u.Refused != 4 || u.Used != 0 || u.Limit != 0 {
			t.Errorf("use: %+v", u)
		}
		free := NewLedger(Limits{Circuit: Circuit{OpensPerSecond: -1}})
		for range 1000 {
			if err := free.Allow(Opens, a); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestPaceSaysHowLongToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewLedger(small())
		a := node(1)
		for i := range 8 {
			wait, err := g.Pace(Opens, a)
			if want := time.Duration(max(0, i-3)) * time.Second / 4; err != nil || wait != want {
				t.Errorf("number %d: wait %v, %v; want %v", i, wait, err, want)
			}
		}
		_, err := g.Pace(Opens, a)
		if e, ok := errors.AsType[*transport.LimitError](err); !ok || e.Limit != 4 {
			t.Errorf("one that would wait for more than a second: %v", err)
		}
		// What was promised is not forgotten with an idle node.
		time.Sleep(1500 * time.Millisecond)
		for i := range 2 * minSweep {
			g.Allow(Hellos, node(2+i))
		}
		if wait, err := g.Pace(Opens, a); err != nil || wait != 0 {
			t.Errorf("wait %v, %v", wait, err)
		}
		if wait, err := g.Pace(Opens, a); err != nil || wait != 0 {
			t.Errorf("the second one: wait %v, %v", wait, err)
		}
		if wait, _ := g.Pace(Opens, a); wait != time.Second/4 {
			t.Errorf("the third one after a second and a half: wait %v", wait)
		}
		for _, id := range []identity.NodeID{{}, a} {
			if wait, err := NewLedger(Limits{Circuit: Circuit{OpensPerSecond: -1}}).Pace(Opens, id); wait != 0 || err != nil {
				t.Errorf("without a bound: %v, %v", wait, err)
			}
		}
	})
}

func TestIdleNodesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewLedger(Limits{})
		acquire(t, g, Conns, node(1), 1, 1)
		for i := range 20 * minSweep {
			g.Allow(Hellos, node(2+i))
			if i%50 == 0 {
				time.Sleep(time.Second)
				g.Uses() // looking keeps nobody
			}
		}
		if n := len(g.nodes); n > 2*minSweep {
			t.Errorf("%d nodes are kept", n)
		}
		acquire(t, g, Conns, node(1), 1, 2)

		// What a node may do per second is not made new by its being forgotten.
		l := NewLedger(small())
		for l.Allow(Hellos, node(1)) == nil {
		}
		for i := range 2 * minSweep {
			l.Allow(Hellos, node(2+i))
		}
		if l.Allow(Hellos, node(1)) == nil {
			t.Error("a node that had used up its rate was forgotten within the second")
		}
	})
}

func TestUses(t *testing.T) {
	g := NewLedger(small())
	a, b := node(1), node(2)
	acquire(t, g, Peers, b, 2, 2)
	acquire(t, g, Peers, a, 2, 2)
	refuse(t, g, Peers, a, 1, transport.LimitError{What: "started peers of one node", Limit: 2})
	want := []string{"handshakes", "connections", "receive bytes", "circuits", "inbox bytes", "replay bytes", "started peers",
		"connections per second", "openings per second", "starts per second"}
	for range 20 {
		rows := g.Uses()
		for i, u := range rows {
			if u.What != want[i] {
				t.Fatalf("row %d is %q", i, u.What)
			}
		}
		// Of two that use the same it is the same one each time.
		if u := rows[Peers]; u != (Use{What: "started peers", Used: 4, Limit: 4, Top: a, TopUsed: 2, PerNode: 2, Refused: 1}) {
			t.Fatalf("use: %+v", u)
		}
	}
}

// The names of limits travel, and package transport replaces what is no name.
func TestNamesTravel(t *testing.T) {
	for _, u := range NewLedger(Limits{}).Uses() {
		for _, what := range []string{u.What, u.What + perNode} {
			if e := transport.RemoteLimit(what, 1); e.What != what {
				t.Errorf("%q arrives as %q", what, e.What)
			}
		}
	}
}

func TestSumsAreRightWithManyAtOnce(t *testing.T) {
	g := NewLedger(Limits{Circuit: Circuit{Inbox: 10_000, InboxPerNode: 3000, Circuits: 30, CircuitsPerNode: 8}})
	var wg sync.WaitGroup
	for i := range 8 {
		id := node(i / 2)
		wg.Go(func() {
			for j := range 500 {
				if _, err := g.Acquire(Circuits, id, 1); err != nil {
					t.Error(err)
				}
				got := make(chan struct{}, 1)
				w := NewWaiter(Inbox, id, func() { got <- struct{}{} })
				n := g.Take(Inbox, id, int64(1+j%900), 2000)
				for n == 0 {
					g.Wait(w, int64(1+j%900))
					if n = g.Take(Inbox, id, int64(1+j%900), 2000); n == 0 {
						<-got
						n = g.Take(Inbox, id, int64(1+j%900), 2000)
					}
				}
				g.Leave(w)
				g.Force(Replay, id, 3)
				g.Uses()
				g.Release(Replay, id, 3)
				g.Release(Inbox, id, n)
				g.Release(Circuits, id, 1)
			}
		})
	}
	wg.Wait()
	for _, u := range g.Uses() {
		if u.Used != 0 || u.TopUsed != 0 {
			t.Errorf("something is left: %+v", u)
		}
	}
	for r := range g.queues {
		if g.queues[r].turns.Len() != 0 || len(g.queues[r].lines) != 0 {
			t.Errorf("somebody waits still for %v", Resource(r))
		}
	}
}
