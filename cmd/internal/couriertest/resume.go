package couriertest

import (
	"context"
	"errors"

	"ckt.local/circuit"
)

// restarted reports whether a circuit was lost because the process at its
// other end is another one now.
func restarted(end error) bool { return errors.Is(end, circuit.ErrPeerRestarted) }

// watch reports the circuit's states.
func (r *run) watch(ctx context.Context) {
	for s := range r.c.States(ctx) {
		r.report.event(Event{Kind: State, Attached: s.Attached, Attachments: s.Attachments, Text: s.String()})
	}
}

// deliver waits until everything sent has been acknowledged.
func (r *run) deliver(ctx context.Context) error {
	_, err := r.c.Flush(ctx)
	return err
}
