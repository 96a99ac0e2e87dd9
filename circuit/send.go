package circuit

import (
	"context"
	"time"

	"ckt.local/transport"
)

// SendOneWay queues f and returns at once: nil, or [ErrBacklog] when the
// window is full, a [transport.LimitError] when f is over a limit, or the cause of the
// circuit's end. With an error, nothing was taken.
func (c *Circuit) SendOneWay(f *Fragment) error { return c.trySend(f, nil) }

// Send queues f, waiting for room in the window until ctx ends. Its errors
// are those of [Circuit.SendOneWay], with the cause of ctx's end instead of
// ErrBacklog.
func (c *Circuit) Send(ctx context.Context, f *Fragment) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	err := c.trySend(f, nil)
	if err != ErrBacklog {
		return err
	}
	w := c.link.hub.bufs.senders.get()
	if w.again == nil {
		w.again = make(chan struct{}, 1)
	}
	defer c.leaveSenders(w)
	for {
		if err := c.trySend(f, w); err != ErrBacklog {
			return err
		}
		select {
		case <-w.again:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A sender is a call of Send that waits for room. The circuit's mutex guards
// it while it is in the circuit's list.
type sender struct {
	again  chan struct{} // has room for one: it is time to try again
	listed bool
	next   *sender
}

// trySend queues f. With ErrBacklog it has w, if there is one, told when it is
// time to try again.
func (c *Circuit) trySend(f *Fragment, w *sender) error {
	wf := wireOf(f)
	if err := c.link.checkFragment(&wf, len(f.Payload)); err != nil {
		return err
	}
	need := costOf(&wf, len(f.Payload))
	if taken, err := c.sendNext(&wf, f.Payload, need); taken {
		return err
	}
	var err error
	c.update(func(s *state) {
		switch {
		case s.sendErr() != nil:
			err = s.sendErr()
		case !c.hasRoom(s, need):
			err = ErrBacklog
			if w == nil {
				return
			}
			if s.need == 0 || need < s.need {
				s.need = need
			}
			w.listed, w.next, s.senders = true, s.senders, w
		default:
			err = s.queue(&wf, f.Payload)
			s.eager = true
		}
	})
	return err
}

// callSenders has all that wait for room try again.
func (s *state) callSenders() {
	for w := s.senders; w != nil; {
		next := w.next
		w.listed, w.next = false, nil
		signal(w.again)
		w = next
	}
	s.senders, s.need = nil, 0
}

// leaveSenders ends the waiting of w.
func (c *Circuit) leaveSenders(w *sender) {
	c.update(func(s *state) {
		if !w.listed {
			return
		}
		at := &s.senders
		for *at != w {
			at = &(*at).next
		}
		*at, w.listed, w.next = w.next, false, nil
	})
	select {
	case <-w.again:
	default:
	}
	c.link.hub.bufs.senders.put(w)
}

// sendNext queues a fragment where that is all that changes: there is room,
// and somebody writes, who will look at what there is again. As for
// [Circuit.takeNext], nothing that settle decides depends on it then.
func (c *Circuit) sendNext(w *wireFragment, payload []byte, need int) (taken bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.s
	if s.at == nil || !s.at.flushing || s.cause != nil || s.fin != nil || s.out.cost >= s.most || s.out.cost+need > s.outBooked {
		return false, nil
	}
	return true, s.queue(w, payload)
}

// queue adds a fragment to the outbox.
func (s *state) queue(w *wireFragment, payload []byte) error {
	if err := s.out.add(w, payload); err != nil {
		return err
	}
	s.bytes.sent += int64(len(payload))
	return nil
}

func wireOf(f *Fragment) wireFragment {
	w := wireFragment{Op: int64(f.FragOp), Subject: f.FragSubject, Part: f.FragPart, Err: f.Err}
	if len(f.Args) > 0 {
		w.Args = f.Args
	}
	return w
}

// costOf is the most that a fragment can cost in the outbox: numbers are
// shorter on the wire than the generated code says before it writes them.
func costOf(w *wireFragment, payload int) int {
	return frameCost(transport.MaxFrameHeader+w.Msgsize()+payload, len(w.Args))
}

// sizes are bounds of a fragment.
type sizes struct{ payload, args, argBytes, text uint64 }

func (cfg *Config) sizes() sizes {
	l := &cfg.limits
	return sizes{uint64(l.Payload), uint64(l.Args), uint64(l.ArgBytes), uint64(l.Text)}
}

// checkFragment checks the limits of this side and of the other.
func (l *Link) checkFragment(w *wireFragment, payload int) error {
	if err := l.cfg.sizes().check(w, payload); err != nil {
		return err
	}
	theirs := sizes{l.remote.MaxPayload, l.remote.MaxArgs, l.remote.MaxArgBytes, l.remote.MaxText}
	if err := theirs.check(w, payload); err != nil {
		err.Remote = true
		return err
	}
	return nil
}

// check returns nil if a fragment with that many bytes of payload is within
// the bounds.
func (b sizes) check(w *wireFragment, payload int) *transport.LimitError {
	over := func(what string, size int, limit uint64) *transport.LimitError {
		return &transport.LimitError{What: what, Size: int64(size), Limit: int64(limit)}
	}
	switch {
	case uint64(payload) > b.payload:
		return over("payload", payload, b.payload)
	case uint64(len(w.Subject)) > min(maxSubject, b.text):
		return over("subject", len(w.Subject), min(maxSubject, b.text))
	case uint64(len(w.Err)) > b.text:
		return over("err", len(w.Err), b.text)
	case uint64(len(w.Args)) > b.args:
		return over("args", len(w.Args), b.args)
	case len(w.Args) == 0:
		return nil
	}
	total := 0
	for k, v := range w.Args {
		if len(k) > maxArgKey {
			return over("arg key", len(k), maxArgKey)
		}
		total += len(k) + len(v)
	}
	if uint64(total) > b.argBytes {
		return over("args in bytes", total, b.argBytes)
	}
	return nil
}

// run writes what waits to the stream, job first, and ends when nothing does.
// At most one runs per attachment; it may block in the stream, so it holds no
// lock then. The end of the attachment ends a blocked write.
func (a *attachment) run(job write) {
	if job.none() {
		a.c.update(func(s *state) { job = a.nextWrite(s) })
	}
	for !job.none() {
		a.prioritize(job)
		var err error
		if job.eof {
			err = a.stream.Close()
		} else {
			_, err = a.stream.Write(job.buf)
		}
		job = a.wrote(job, err)
	}
}

// tryRun is run for whoever must not wait: it leaves to a goroutine what the
// stream does not take at once. A goroutine for a single fragment takes longer
// to begin than to run.
func (a *attachment) tryRun(job write) {
	for !job.none() {
		ok, err := false, error(nil)
		switch {
		case job.eof:
			err = a.stream.Close()
			ok = true
		case len(job.buf) <= directMost:
			a.prioritize(job)
			ok, err = a.stream.TryWrite(job.buf)
		}
		if !ok && err == nil {
			go a.run(job) // joined by the link: flushers counts it
			return
		}
		job = a.wrote(job, err)
	}
}

// wrote ends a write and returns the next one.
func (a *attachment) wrote(job write, err error) (next write) {
	a.c.update(func(s *state) {
		if job.chunk != nil {
			s.out.written(job.chunk)
		}
		if err != nil {
			s.leave(a, err, transport.CodeClosed)
		} else if job.eof {
			a.eofSent = true
		}
		next = a.nextWrite(s)
	})
	return next
}

// write is one piece of work for the flusher.
type write struct {
	buf   []byte
	chunk *chunk // that buf is part of
	eof   bool
	bulk  bool // it is much, or more is behind it
}

func (w *write) none() bool { return w.buf == nil && !w.eof }

const (
	// bulkSize is how many bytes that wait make a circuit one that others go
	// before.
	bulkSize = 8 << 10

	// directMost is how many bytes Send writes itself.
	directMost = 1 << 10

	// directOut is what the outbox may hold for that: the stream keeps what it
	// is given until it goes out, and nobody has booked that.
	directOut = 64 << 10

	// burst is how soon after the last write another one makes it worth while
	// to wait for more of them: about as long as it takes to start a goroutine
	// on another processor.
	burst = 20 * time.Microsecond
)

// prioritize has the other circuits go before one that has much to send, and
// has that end with its last write.
func (a *attachment) prioritize(job write) {
	if job.bulk == a.bulk {
		return
	}
	a.bulk = job.bulk
	p := transport.Priority(0)
	if job.bulk {
		p = transport.Bulk
	}
	a.stream.Prioritize(p)
}

// direct reports whether whoever changes the state is to write what there is
// itself, which spares the way through another goroutine: if it is little, and
// not one of many.
func (a *attachment) direct(s *state) bool {
	if len(a.handshake) == 0 && !s.owesFin() && !s.mayData() {
		return true // the end of the stream, which waits for nothing
	}
	if !s.eager || len(a.handshake) > 0 || s.owesFin() {
		return s.eager
	}
	if s.out.cost > directOut || s.out.unsentCost() > frameCost(directMost, 0) {
		return false
	}
	if a.heard { // an answer, or a question after one
		a.heard = false
		return true
	}
	last := a.wroteAt
	a.wroteAt = time.Since(a.car.control.start)
	return a.wroteAt-last > burst
}

// nextWrite picks what to write: the handshake, then the close, which may
// overtake data, then data as far as the credit goes, then the end.
func (a *attachment) nextWrite(s *state) (job write) {
	switch {
	case s.at != a:
	case len(a.handshake) > 0:
		job.buf, a.handshake = a.handshake, nil
	case s.owesFin():
		a.finSent, s.finTold = true, true
		fin := wireFin{Last: s.out.last}
		if s.closeWith != nil {
			fin.Failed, fin.Reason = true, cut(s.closeWith.Error(), maxReason)
		}
		job.buf = appendSmall(nil, frameFin, &fin)
	case s.mayData():
		limit := bufSize
		if s.confirmed && !a.ready {
			limit = earlyData - a.early
		}
		job.chunk, job.buf = s.out.take(limit)
		a.early += len(job.buf)
		job.bulk = len(job.buf) > bulkSize || s.out.unsentCost() > bulkSize
	case s.wantsEOF():
		a.eofAsked, job.eof = true, true
	}
	if job.none() {
		a.flushing = false
		s.flushers--
	}
	return job
}
