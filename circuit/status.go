package circuit

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Stats counts what went over a circuit.
type Stats struct {
	Opened                      time.Time
	FragmentsSent, FragmentsRcv int64
	BytesSent, BytesRcv         int64 // payloads
	Unacked                     int   // fragments sent and not yet acknowledged
	Unread                      int   // fragments in the inbox
	Duplicates                  int64 // fragments dropped because they came twice
	Replayed                    int64 // fragments sent again on a later attachment
	Attachments                 int   // streams that have carried the circuit so far
}

// Stats returns the circuit's counters as they are now.
func (c *Circuit) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.s
	st := Stats{
		Opened:        c.opened,
		FragmentsSent: int64(s.out.last),
		FragmentsRcv:  int64(s.received),
		BytesSent:     s.bytes.sent,
		BytesRcv:      s.bytes.rcv,
		Unacked:       s.out.unacked(),
		Unread:        s.in.len(),
		Duplicates:    s.dups,
		Replayed:      s.out.replayed,
		Attachments:   s.attachments,
	}
	if s.cause != nil {
		st.Unacked = s.unacked
	}
	return st
}

// State says whether a circuit is carried by a connection just now. One with
// [Config.NoResume] is never seen detached: it ends with its connection.
type State struct {
	Attached    bool
	Ended       bool      // for the user; what was sent before a close may still be under way
	Since       time.Time // when that came to be
	Cause       error     // why it is not attached, or has ended, as the cause of its Context; nil if it is attached
	Attachments int       // streams that have carried it so far
}

// String returns "attached", "detached" or "ended", and why.
func (st State) String() string {
	switch {
	case st.Attached:
		return "attached"
	case st.Ended:
		return fmt.Sprintf("ended: %v", st.Cause)
	}
	return fmt.Sprintf("detached: %v", st.Cause)
}

// State returns the state as it is now. A circuit that is detached takes and
// keeps what is sent as long as the window has room.
func (c *Circuit) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.s.status()
}

func (s *state) status() State {
	st := State{Attached: s.at != nil, Since: s.since, Attachments: s.attachments}
	if s.cause != nil {
		st.Attached, st.Ended, st.Cause, st.Since = false, true, s.cause, s.over
		return st
	}
	if !st.Attached {
		st.Cause = s.lostBy
	}
	return st
}

// States yields the state as it is now and then whenever it has changed, the
// end of the circuit last, or until ctx ends. Changes that follow one another fast may be seen as
// one.
func (c *Circuit) States(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		var last State
		for first := true; ; first = false {
			c.mu.Lock()
			st := c.s.status()
			if c.s.watchers == nil {
				c.s.watchers = make(chan struct{})
			}
			changed := c.s.watchers
			c.mu.Unlock()
			if first || st != last {
				if !yield(st) || st.Ended {
					return
				}
				last = st
				continue // it may have changed while yield ran
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Flush waits until the other side has acknowledged everything that was sent
// before the call: until it is in the inbox there. When the circuit or ctx
// ends first, it returns how many fragments of that are not acknowledged, and
// why it has given up. After [Circuit.Close] it waits for the delivery of what
// was sent.
func (c *Circuit) Flush(ctx context.Context) (unacked int, err error) {
	c.mu.Lock()
	last := c.s.out.last
	c.mu.Unlock()
	for {
		var news chan struct{}
		c.update(func(s *state) {
			unacked, err = int(last-min(s.out.acked, last)), nil
			switch {
			case unacked == 0:
			case s.released || !s.closed && s.sendErr() != nil:
				err = s.sendErr()
			case s.fin != nil:
				err = s.finCause()
			default:
				if s.acks == nil {
					s.acks, s.acksFrom = make(chan struct{}), s.out.acked
				}
				news = s.acks
			}
		})
		if news == nil {
			return unacked, err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return unacked, context.Cause(ctx)
		}
	}
}
