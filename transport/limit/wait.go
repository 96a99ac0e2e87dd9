package limit

import (
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
	at     *list.Element // in line; nil: not waiting
	number uint64        // of its Wait
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

// A line is the waiters of one node; there is none without any.
type line struct {
	waiters list.List     // of *Waiter, the first one longest
	turn    *list.Element // in queue.turns
}

// Wait has w woken by a Release after which there is something for it. It is
// the caller who has to try once more after Wait: the Release may have been
// just before.
func (g *Ledger) Wait(w *Waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.at != nil {
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
	g.waits++
	w.line, w.at, w.number = l, l.waiters.PushBack(w), g.waits
}

// Leave takes back a Wait.
func (g *Ledger) Leave(w *Waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked(w)
}

func (g *Ledger) leaveLocked(w *Waiter) {
	if w.at == nil {
		return
	}
	q, l := &g.queues[w.r], w.line
	l.waiters.Remove(w.at)
	w.line, w.at = nil, nil
	if l.waiters.Len() == 0 {
		q.turns.Remove(l.turn)
		delete(q.lines, w.node)
	}
}

// maxVain is how many waiters one Release wakes that then do not take
// anything: they need more than there is, or nothing any more.
const maxVain = 16

// serve wakes one waiter after the other while there is something for them.
// Each is woken at most once, also if it waits again.
func (g *Ledger) serve(r Resource) {
	g.mu.Lock()
	last := g.waits
	g.mu.Unlock()
	for vain := 0; vain < maxVain; {
		w, used := g.next(r, last)
		if w == nil {
			return
		}
		w.wake()
		if !g.above(r, used) {
			vain++
		}
	}
}

// next takes the next waiter out of the queue of those whose Wait was not
// after last and whose node may have more: nil if there is none, or nothing
// left to have.
func (g *Ledger) next(r Resource, last uint64) (w *Waiter, used int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	q, used := &g.queues[r], g.all[r].used
	if g.free(r, nil) <= 0 {
		return nil, used
	}
	for e := q.turns.Front(); e != nil; e = e.Next() {
		l := e.Value.(*line)
		w := l.waiters.Front().Value.(*Waiter)
		if w.number > last {
			continue
		}
		if g.free(r, g.nodes[w.node]) <= 0 { // without a tab it uses nothing
			continue
		}
		q.turns.MoveToBack(e)
		g.leaveLocked(w)
		return w, used
	}
	return nil, used
}

func (g *Ledger) above(r Resource, used int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all[r].used > used
}
