package files

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"ckt.local/circuit"
)

// The slowest disk and path that a receiver is thought to have, in bytes a
// second, and how much of a file may be on its way: the default window of a
// circuit. Sending is seen to move only when a fragment of 256 KiB has arrived,
// and on a path that many share that takes its time.
const (
	diskRate = 16 << 20
	pathRate = 32 << 10
	underWay = 1 << 20
)

// A watch notices that a push stands still: the receiver took the circuits,
// and then neither reads nor answers. It is one for all files, so that a few
// that wait for their turn at the receiver stop nothing while others move.
type watch struct {
	limit    time.Duration // negative: for ever
	start    time.Time
	moved    atomic.Int64 // when something last moved, in nanoseconds from start
	waited   atomic.Int64 // when the receiver last said that others move there
	gained   atomic.Int64 // when a circuit was opened or data was sent
	opening  atomic.Int64 // circuits that wait for a yes, which has a bound of its own
	settling atomic.Int64 // bytes of files sent whole, for which no answer came yet
	flying   atomic.Int64 // bytes that may be under way

	mu       sync.Mutex // guards what follows, and is never held across a wait
	circuits map[*circuit.Circuit]struct{}
}

// maxTurn is how long a push believes that it waits for others at the receiver,
// and nothing else: long enough for most queues, but not for ever, since who
// says so need not have a queue at all.
const maxTurn = time.Hour

func newWatch(limit time.Duration) *watch {
	return &watch{
		limit: cmp.Or(limit, 30*time.Second), start: time.Now(),
		circuits: make(map[*circuit.Circuit]struct{}),
	}
}

func (w *watch) touch() { w.moved.Store(int64(time.Since(w.start))) }

// waiting tells the watch that a file has no place yet while others move.
func (w *watch) waiting() { w.waited.Store(int64(time.Since(w.start))) }

// last is when something moved, be it others, counted from start.
func (w *watch) last() time.Duration {
	moved := w.moved.Load()
	return time.Duration(max(moved, min(w.waited.Load(), moved+int64(maxTurn))))
}

func (w *watch) gain() { w.gained.Store(int64(time.Since(w.start))) }

// unmoved is for how long no file has come any further.
func (w *watch) unmoved() time.Duration {
	return time.Since(w.start) - time.Duration(w.gained.Load())
}

// openingNow tells the watch that a circuit is being opened, until the
// function that it returns is called.
func (w *watch) openingNow() (done func()) {
	w.opening.Add(1)
	return func() {
		w.touch()
		w.opening.Add(-1)
	}
}

func (w *watch) add(c *circuit.Circuit) {
	w.gain()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.circuits[c] = struct{}{}
}

func (w *watch) remove(c *circuit.Circuit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.circuits, c)
}

// contact tells whether all circuits are attached, and since when.
func (w *watch) contact() (since time.Time, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.circuits {
		st := c.State()
		if !st.Attached && !st.Ended {
			return time.Time{}, false
		}
		if st.Since.After(since) {
			since = st.Since
		}
	}
	return since, true
}

// left is how long nothing may move from now on. What is detached cannot move:
// that has a bound of its own.
func (w *watch) left() time.Duration {
	since, all := w.contact()
	if !all || w.opening.Load() > 0 {
		return w.limit
	}
	still := time.Since(w.start) - w.last()
	if !since.IsZero() {
		still = min(still, time.Since(since))
	}
	more := float64(w.settling.Load())/diskRate + float64(w.flying.Load())/pathRate
	return w.limit + time.Duration(more*float64(time.Second)) - still
}

// sent tells the watch that n bytes of a file were handed to its circuit, after
// before others. What it adds, answered takes away.
func (w *watch) sent(before, n int64) {
	w.touch()
	w.gain()
	w.flying.Add(min(before+n, underWay) - min(before, underWay))
}

// answered tells the watch that nothing of the file is under way any more.
func (w *watch) answered(sent int64) { w.flying.Add(-min(sent, underWay)) }

// guard ends the push with [ErrStalled] when nothing moves. It returns when
// ctx has ended, or it has ended it.
func (w *watch) guard(ctx context.Context, end context.CancelCauseFunc) {
	if w.limit < 0 {
		return
	}
	for {
		left := w.left()
		if left <= 0 {
			end(fmt.Errorf("%w for %v", ErrStalled, w.limit))
			return
		}
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}
