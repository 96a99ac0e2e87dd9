package couriertest

import (
	"context"
	"time"
)

// restarted reports whether a circuit was lost because the process at its
// other end is another one now.
func restarted(error) bool { return false }

// watch reports the circuit's states.
func (r *run) watch(context.Context) {}

// deliver waits until everything sent has been acknowledged.
func (r *run) deliver(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for r.c.Stats().Unacked > 0 {
		select {
		case <-tick.C:
		case <-r.c.Context.Done():
			return context.Cause(r.c.Context)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
