package limit

import (
	"container/heap"
	"container/list"

	"ckt.local/transport/identity"
)

// A Waiter is somebody who could not Take, and waits for a Release.
type Waiter struct {
	r    Resource
	node identity.NodeID
	wake func()

	// Guarded by Ledger.mu.
	line   *line
	at     int // in line
	need   int64
	number uint64 // of its Wait
}

// NewWaiter returns a Waiter whose wake is called, once for each Wait, from a
// goroutine that releases what it waits for. wake may not wait for anything,
// but it may use the Ledger, and should Take what it wants before it returns:
// by that Release sees how many more to wake.
func NewWaiter(r Resource, node identity.NodeID, wake func()) *Waiter {
	return &Waiter{r: r, node: node, wake: wake}
}

// A queue holds who waits for a resource: nodes take turns, so that one with
// many waiters does not keep others from theirs.
type queue struct {
	turns list.List // of *line, the next one first
	lines map[identity.NodeID]*line
}

// A line is the waiters of one node; there is none without any. Who needs
// least is first, and of equal ones who has waited longest: who needs more than
// there is would keep the others waiting for nothing.
type line struct {
	waiters []*Waiter     // a heap
	turn    *list.Element // in queue.turns
}

func (l *line) Len() int { return len(l.waiters) }

func (l *line) Less(i, j int) bool {
	a, b := l.waiters[i], l.waiters[j]
	return a.need < b.need || a.need == b.need && a.number < b.number
}

func (l *line) Swap(i, j int) {
	l.waiters[i], l.waiters[j] = l.waiters[j], l.waiters[i]
	l.waiters[i].at, l.waiters[j].at = i, j
}

func (l *line) Push(x any) {
	w := x.(*Waiter)
	w.line, w.at = l, len(l.waiters)
	l.waiters = append(l.waiters, w)
}

func (l *line) Pop() any {
	last := len(l.waiters) - 1
	w := l.waiters[last]
	l.waiters[last] = nil
	l.waiters = l.waiters[:last]
	w.line = nil
	return w
}

// Wait has w woken by a Release after which there are need for it. It is the
// caller who has to try once more after Wait: the Release may have been just
// before. Who waits already, now waits for that much.
func (g *Ledger) Wait(w *Waiter, need int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waits++
	w.need, w.number = need, g.waits
	if w.line != nil {
		heap.Fix(w.line, w.at)
		return
	}
	q := &g.queues[w.r]
	l := q.lines[w.node]
	if l == nil {
		if q.lines == nil {
			q.lines = make(map[identity.NodeID]*line)
		}
		l = &line{}
		l.turn = q.turns.PushBack(l)
		q.lines[w.node] = l
	}
	heap.Push(l, w)
}

// Leave takes back a Wait.
func (g *Ledger) Leave(w *Waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked(w)
}

func (g *Ledger) leaveLocked(w *Waiter) {
	l := w.line
	if l == nil {
		return
	}
	heap.Remove(l, w.at)
	if l.Len() == 0 {
		q := &g.queues[w.r]
		q.turns.Remove(l.turn)
		delete(q.lines, w.node)
	}
}

// serve wakes one waiter after the other while there is something for them:
// each of them takes it, or waits no longer, or has been too late and waits
// again. So that nobody is woken for ever who does not take what there is, each
// Release wakes no more than have waited.
func (g *Ledger) serve(r Resource) {
	g.mu.Lock()
	most := 1
	for _, l := range g.queues[r].lines {
		most += l.Len()
	}
	g.mu.Unlock()
	for range most {
		w := g.next(r)
		if w == nil {
			return
		}
		w.wake()
	}
}

// next takes the next waiter out of the queue for whom there is what it needs.
func (g *Ledger) next(r Resource) *Waiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := &g.queues[r]
	for e := q.turns.Front(); e != nil; e = e.Next() {
		w := e.Value.(*line).waiters[0]
		if w.need > g.free(r, g.tab(w.node)) {
			continue
		}
		q.turns.MoveToBack(e)
		g.leaveLocked(w)
		return w
	}
	return nil
}
