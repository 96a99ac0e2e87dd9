package files

import (
	"sync"
	"time"

	"ckt.local/circuit"
)

// maxIdle is how long a sender that could may send nothing before it counts as
// gone. One that waits for this side's disk or credit is not idle: it has sent.
// One whose connection is lost cannot: it has until its circuit ends.
const maxIdle = 2 * time.Minute

// An idle closes a circuit on which nothing comes.
type idle struct {
	c *circuit.Circuit

	mu    sync.Mutex // never held across a wait
	timer *time.Timer
	since time.Time // when nothing came last; zero: nothing is waited for
}

func (i *idle) start() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.since = time.Now()
	if i.timer == nil {
		i.timer = time.AfterFunc(maxIdle, i.expired)
		return
	}
	i.timer.Reset(maxIdle)
}

func (i *idle) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.since = time.Time{}
	i.timer.Stop()
}

func (i *idle) expired() {
	if i.left(i.c.State()) <= 0 {
		i.c.CloseWith(errIdle)
	}
}

// left is how long c may go on without a fragment. If it may, the timer runs
// again.
func (i *idle) left(st circuit.State) time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	left := time.Duration(0)
	switch {
	case i.since.IsZero(), !st.Attached && !st.Ended:
		left = maxIdle
	case st.Since.After(i.since):
		left = maxIdle - time.Since(st.Since)
	default:
		left = maxIdle - time.Since(i.since)
	}
	if left > 0 && !i.since.IsZero() {
		i.timer.Reset(left)
	}
	return left
}
