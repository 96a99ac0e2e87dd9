package files

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// settleRate is the slowest disk that a receiver is thought to have, in bytes
// a second.
const settleRate = 16 << 20

// A watch notices that a push stands still: the receiver took the circuits,
// and then neither reads nor answers. It is one for all files, so that a few
// that wait for their turn at the receiver stop nothing while others move.
type watch struct {
	limit    time.Duration // negative: for ever
	start    time.Time
	moved    atomic.Int64 // when something last moved, in nanoseconds from start
	opening  atomic.Int64 // circuits that wait for a yes, which has a bound of its own
	settling atomic.Int64 // bytes sent whole, for which no answer came yet
}

func newWatch(limit time.Duration) *watch {
	return &watch{limit: cmp.Or(limit, 30*time.Second), start: time.Now()}
}

func (w *watch) touch() { w.moved.Store(int64(time.Since(w.start))) }

// openingNow tells the watch that a circuit is being opened, until the
// function that it returns is called.
func (w *watch) openingNow() (done func()) {
	w.opening.Add(1)
	return func() {
		w.touch()
		w.opening.Add(-1)
	}
}

// left is how long nothing may move from now on.
func (w *watch) left() time.Duration {
	if w.opening.Load() > 0 {
		return w.limit
	}
	settle := time.Duration(float64(w.settling.Load()) / settleRate * float64(time.Second))
	return w.limit + settle - (time.Since(w.start) - time.Duration(w.moved.Load()))
}

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
