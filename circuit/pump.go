package circuit

import (
	"context"
	"iter"
	"time"
)

// startPump decides that pump is to run.
func (c *Circuit) startPump(s *state, todo *after) {
	s.pumping, todo.pump = true, true
	if c.wake == nil {
		c.wake = make(chan struct{}, 1)
	}
}

// pump offers what is in the inbox on Reads and Errors. It runs only while
// there is something to offer and no Fragments call takes it, and pops a
// fragment only when a reader has it: so the state always knows what is
// unread. The circuit's owner ends it by closing the circuit.
func (c *Circuit) pump() {
	lastRead := time.Now()
	for {
		o := c.offer()
		if o.done {
			return
		}
		var quiet *time.Timer
		var quietC <-chan time.Time
		if o.over {
			quiet = time.NewTimer(time.Until(lastRead.Add(o.patience)))
			quietC = quiet.C
		}
		select {
		case o.reads <- o.read:
			lastRead = time.Now()
			c.update(func(s *state) { s.handed(&s.in.reads, o.read) })
		case o.errs <- o.err:
			lastRead = time.Now()
			c.update(func(s *state) { s.handed(&s.in.errs, o.err) })
		case <-c.wake:
			if !o.over {
				lastRead = time.Now() // patience counts from the end at the earliest
			}
		case <-quietC:
			c.update((*state).nobodyReads)
		}
		if quiet != nil {
			quiet.Stop()
		}
	}
}

// handed counts f as taken, unless a close has emptied the inbox meanwhile.
func (s *state) handed(q *queue, f *Fragment) {
	if q.n > 0 && q.head() == f {
		s.took += uint64(q.pop(s.in.pool).cost)
	}
}

// offer is what the pump holds out.
type offer struct {
	reads, errs chan<- *Fragment // nil: nothing for it
	read, err   *Fragment
	over        bool          // nothing more will arrive
	patience    time.Duration // how long to wait for a reader then
	done        bool          // nothing to do; the pump has ended
}

func (c *Circuit) offer() (o offer) {
	c.update(func(s *state) {
		if s.in.len() == 0 || s.iterating > 0 {
			s.pumping, s.offering, s.poke, o.done = false, false, true, true
			return
		}
		s.offering = true
		if s.in.reads.n > 0 {
			o.reads, o.read = c.reads, s.in.reads.head()
		}
		if s.in.errs.n > 0 {
			o.errs, o.err = c.errs, s.in.errs.head()
		}
		o.over = s.arrivedAll()
		o.patience = quietAfterEnd
		if s.ended {
			o.patience += keepUnread
		}
	})
	return o
}

// nobodyReads is called when an ended circuit was not read for its patience.
func (s *state) nobodyReads() {
	if s.ended {
		s.took += s.dropUnread()
	}
	s.quiet = true
}

// Fragments ranges over what arrives, in order, until the circuit or ctx
// ends. A fragment that carries Err comes with a [RemoteError] of that text,
// and the range goes on. After the last fragment comes (nil, cause), unless
// the circuit's end was a clean close of the other side. While it runs, Reads
// and Errors give nothing; several at once share the fragments.
func (c *Circuit) Fragments(ctx context.Context) iter.Seq2[*Fragment, error] {
	return func(yield func(*Fragment, error) bool) {
		c.update(func(s *state) {
			s.iterating++
			if c.arrived == nil {
				c.arrived = make(chan struct{}, 1)
			}
			if s.at != nil {
				s.at.rouse()
			}
			if s.pumping {
				signal(c.wake)
			}
		})
		defer c.update(func(s *state) {
			s.iterating--
			s.poke = true // what woke this call up may be another one's
		})
		for {
			f, lent, cause := c.take(ctx)
			var err error
			switch {
			case lent != nil:
				c.lend(ctx, lent) // here, where the stack is not deep
				continue
			case f == nil && cause == ErrRemoteClosed:
				return
			case f == nil:
				yield(nil, cause)
				return
			case f.Err != "":
				err = &RemoteError{Reason: f.Err}
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

// take waits for the next fragment. Without one it returns why there will be
// none, or what the caller is to lend itself to.
func (c *Circuit) take(ctx context.Context) (f *Fragment, lent *attachment, cause error) {
	waited := int32(0)
	for {
		if ctx.Err() != nil {
			if waited > 0 {
				c.update(func(s *state) { s.waiting-- })
			}
			return nil, nil, context.Cause(ctx)
		}
		if waited == 0 {
			if f = c.takeNext(); f != nil {
				return f, nil, nil
			}
		}
		wait := false
		c.update(func(s *state) {
			s.waiting, waited = s.waiting-waited, 0
			it, ok := item{}, false
			if !s.offering {
				it, ok = s.in.next()
			}
			switch {
			case ok:
				f = it.f
				s.took += uint64(it.cost)
				if s.stall != nil {
					s.stall.Reset(quietAfterEnd)
				}
			case s.cause != nil && (s.closed || s.arrivedAll()) && !s.pumping:
				cause = s.cause
			default:
				wait, waited = true, 1
				s.waiting++
				lent = s.accepts()
			}
			s.poke = !wait && s.iterating > 1 // the next one may find something too
		})
		if !wait || lent != nil {
			return f, lent, cause
		}
		select {
		case <-c.arrived:
		case <-ctx.Done():
		}
	}
}

// takeNext takes a fragment where that is all that changes: others are left,
// nobody else takes any, and no credit is to be given for them, or it is due
// already. What settle decides does not depend on it then, so it is not asked:
// most fragments of a busy circuit go this way.
func (c *Circuit) takeNext() *Fragment {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.s
	if s.in.reads.n < 2 || s.in.errs.n > 0 || s.pumping || s.iterating != 1 || s.closed || s.stall != nil || s.cause != nil {
		return nil
	}
	it := &s.in.reads.first.items[s.in.reads.first.at]
	took := s.took + uint64(it.cost)
	room := took + uint64(s.inBooked)
	wants := s.want.Upto > 0 && (s.want.Next > room || s.want.Upto > s.want.Next && s.inBooked < s.window)
	credit := s.asked < ackAtOnce && int64(room-s.granted) >= int64(s.quarter())
	if wants || credit || s.inBooked > s.window {
		return nil
	}
	s.took = took
	return s.in.reads.pop(s.in.pool).f
}

// settleStall does for Fragments calls what pump does for readers: a user who
// does not take what is left after the end, perhaps because it waits for the
// Context, gets its end all the same.
func (c *Circuit) settleStall(s *state) {
	waits := s.iterating > 0 && s.in.len() > 0 && !s.ended && s.arrivedAll()
	switch {
	case waits && s.stall == nil:
		s.stall = time.AfterFunc(quietAfterEnd, func() {
			c.update(func(s *state) { s.quiet = s.quiet || s.stall != nil })
		})
	case !waits && s.stall != nil:
		s.stall.Stop()
		s.stall = nil
	}
}
