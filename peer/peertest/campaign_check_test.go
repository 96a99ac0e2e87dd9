package peertest_test

import (
	"errors"
	"fmt"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
)

// reattach is what a connection takes to be made anew once the network works:
// a circuit may be lost only if it never had that long.
const reattach = 7 * time.Second

// A verdict is what an end was told about its circuit's end.
type verdict struct {
	own, clean bool
	remote     *circuit.RemoteError
	lost       *circuit.LostError
}

func verdictOf(err error) (v verdict, ok bool) {
	v.own = errors.Is(err, circuit.ErrClosed)
	v.clean = err == circuit.ErrRemoteClosed
	v.remote, _ = errors.AsType[*circuit.RemoteError](err)
	v.lost, _ = errors.AsType[*circuit.LostError](err)
	kinds := 0
	for _, is := range []bool{v.own, v.clean, v.remote != nil, v.lost != nil} {
		if is {
			kinds++
		}
	}
	return v, kinds == 1 && (v.lost == nil || errors.Is(err, circuit.ErrPeerLost))
}

// open reports whether nobody has ended the circuit at this end.
func (e *end) open() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.closed && e.c.Context.Err() == nil && e.life.ctx.Err() == nil
}

func (e *end) isOver() bool {
	select {
	case <-e.over:
		return true
	default:
		return false
	}
}

// check holds the ends of all circuits to the promise.
func (w *world) check() {
	for _, m := range w.all() {
		for side := range 2 {
			e, other := m.end(side), m.end(1-side)
			if e == nil || !e.isOver() {
				continue
			}
			st := e.c.Stats()
			w.sum.Attachments += st.Attachments
			w.sum.Replayed += st.Replayed
			w.sum.Duplicates += st.Duplicates
			for _, broken := range w.checkEnd(e, other) {
				w.failf("%v: %s", e, broken)
			}
		}
		if m.end(0) != nil {
			w.sum.Circuits++
		}
	}
}

// received is how many fragments have come to the process of an end. Of a
// process that was killed it is the number that it may have acknowledged.
func (e *end) received() int64 {
	if e.atDeath >= 0 {
		return e.atDeath
	}
	return e.c.Stats().FragmentsRcv
}

// drops reports whether what was unread at an end was dropped: because it has
// closed, or its node.
func (e *end) drops() bool { return e.closed || e.life.died != "" }

// checkEnd returns what is wrong with one end. Nothing runs any more, so no
// mutex is needed.
func (w *world) checkEnd(e, other *end) (broken []string) {
	sayf := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	if e.next-1 != e.read && !e.drops() {
		sayf("%d fragments were read, but the first %d have come", e.read, e.next-1)
	}
	if other != nil && e.read > other.sent {
		sayf("%d fragments were read, and %d were sent", e.read, other.sent)
	}
	if e.life.died == "killed" {
		return broken
	}
	v, ok := verdictOf(e.cause)
	if !ok {
		sayf("the end has no cause of one kind: %T %v", e.cause, e.cause)
		return broken
	}
	if got := e.c.Stats().FragmentsRcv; !e.drops() && got != e.read {
		sayf("%d fragments had arrived, and %d could be read", got, e.read)
	}
	switch {
	case v.own && !e.closed && e.life.died != "stopped":
		sayf("is told that it has closed, which it has not")
	case other == nil && e.side == 1: // the opener gave up before it knew that it was open
	case v.clean, v.remote != nil:
		broken = append(broken, checkClosed(e, other, v)...)
	case v.lost != nil:
		broken = append(broken, w.checkLost(e, other, v.lost)...)
	}
	return broken
}

// checkClosed is for an end that was told that the other one has closed.
func checkClosed(e, other *end, v verdict) (broken []string) {
	if other == nil {
		return []string{fmt.Sprintf("%v, but there is no other side", e.cause)}
	}
	want := other.reason
	if !other.closed && other.life.died == "stopped" {
		want = peer.ErrNodeClosed.Error()
	}
	got := ""
	if v.remote != nil {
		got = v.remote.Reason
	}
	switch {
	case !other.closed && other.life.died != "stopped":
		broken = append(broken, fmt.Sprintf("%v, but the other side has not closed", e.cause))
	case got != want && !(other.life.died == "stopped" && got == peer.ErrNodeClosed.Error()):
		broken = append(broken, fmt.Sprintf("the reason is %q, the other side said %q", got, want))
	}
	if !e.drops() && e.read != other.sent {
		broken = append(broken, fmt.Sprintf("%v, after %d of %d fragments", e.cause, e.read, other.sent))
	}
	return broken
}

// checkLost is for an end that was told that the other one is lost.
func (w *world) checkLost(e, other *end, lost *circuit.LostError) (broken []string) {
	w.sum.Lost++
	u := int64(lost.Unacked)
	if !w.plan.circuit.NoResume && u > e.sent-e.floor || u < 0 {
		broken = append(broken, fmt.Sprintf("%d unacknowledged of %d, and %d must have been acknowledged", u, e.sent, e.floor))
	}
	if other == nil {
		return broken
	}
	if acked := e.sent - u; other.received() < acked {
		broken = append(broken, fmt.Sprintf("%d of %d acknowledged, and %d have arrived", acked, e.sent, other.received()))
	}
	if w.plan.circuit.NoResume {
		return broken
	}
	if other.life.died != "" && other.life.diedAt <= e.endedAt {
		return append(broken, w.checkRestart(e, other)...)
	}
	c := w.pairs[pairOf(e.life.host, other.life.host)]
	if had := c.longest(e.endedAt-w.plan.circuit.Linger, e.endedAt); had > reattach {
		broken = append(broken, fmt.Sprintf("it is lost at %v, though the two could talk for %v of the %v before: %v", e.endedAt, had, w.plan.circuit.Linger, lost))
	}
	return broken
}

// checkRestart is for an end whose other side was a process that is gone. Once
// another one can be reached in its place, it must be told: within a second and
// two round trips if the network was well, and as after any other outage if
// not. A process at another address may be one of another machine with the same
// key, so that tells nothing.
func (w *world) checkRestart(e, other *end) (broken []string) {
	if w.plan.mover < 0 || other.life.host == w.plan.mover {
		return nil
	}
	c := w.pairs[pairOf(e.life.host, other.life.host)]
	for _, next := range w.lives {
		if next.host != other.life.host || next.bornAt < other.life.diedAt || next.bornAt > e.endedAt {
			continue
		}
		had := c.longest(next.bornAt, e.endedAt)
		limit := moveLimit
		if had == e.endedAt-next.bornAt {
			limit = time.Second + 4*(w.plan.link.Latency+w.plan.link.Jitter)
			w.sum.RestartLag = max(w.sum.RestartLag, had)
		}
		if had > limit {
			broken = append(broken, fmt.Sprintf("%v, %v after it could have asked the new process", e.cause, had))
		}
	}
	return broken
}
