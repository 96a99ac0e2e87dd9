package circuit

import (
	"context"

	"ckt.local/transport"
)

// SendOneWay queues f and returns at once: nil, or [ErrBacklog] when the
// window is full, a [transport.LimitError] when f is over a limit, or the cause of the
// circuit's end. With an error, nothing was taken.
func (c *Circuit) SendOneWay(f *Fragment) error {
	_, err := c.trySend(f)
	return err
}

// Send queues f, waiting for room in the window until ctx ends. Its errors
// are those of [Circuit.SendOneWay], with the cause of ctx's end instead of
// ErrBacklog.
func (c *Circuit) Send(ctx context.Context, f *Fragment) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	for {
		room, err := c.trySend(f)
		if err != ErrBacklog {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// trySend queues f. With ErrBacklog it returns a channel that is closed when
// it is time to try again.
func (c *Circuit) trySend(f *Fragment) (room <-chan struct{}, err error) {
	if err := c.link.checkFragment(f); err != nil {
		return nil, err
	}
	c.update(func(s *state) {
		switch {
		case s.sendErr() != nil:
			err = s.sendErr()
		case s.out.cost >= s.most && !c.growOutbox(s):
			if s.room == nil {
				s.room = make(chan struct{})
			}
			room, err = s.room, ErrBacklog
		default:
			err = s.queue(f)
		}
	})
	return room, err
}

// queue adds f to the outbox.
func (s *state) queue(f *Fragment) error {
	w := wireFragment{Op: int64(f.FragOp), Subject: f.FragSubject, Part: f.FragPart, Err: f.Err}
	if len(f.Args) > 0 {
		w.Args = f.Args
	}
	if err := s.out.add(&w, f.Payload); err != nil {
		return err
	}
	s.bytes.sent += int64(len(f.Payload))
	return nil
}

// checkFragment checks the limits of this side and of the other.
func (l *Link) checkFragment(f *Fragment) error {
	if most := min(uint64(l.cfg.limits.Payload), l.remote.MaxPayload); uint64(len(f.Payload)) > most {
		return &transport.LimitError{What: "payload", Size: int64(len(f.Payload)), Limit: int64(int(most))}
	}
	return checkTexts(f.FragSubject, f.Err, f.Args)
}

// checkTexts checks what a fragment carries besides its payload.
func checkTexts(subject, errText string, args map[string]string) error {
	switch {
	case len(subject) > maxSubject:
		return &transport.LimitError{What: "subject", Size: int64(len(subject)), Limit: int64(maxSubject)}
	case len(errText) > maxErr:
		return &transport.LimitError{What: "err", Size: int64(len(errText)), Limit: int64(maxErr)}
	case len(args) > maxArgs:
		return &transport.LimitError{What: "args", Size: int64(len(args)), Limit: int64(maxArgs)}
	}
	total := 0
	for k, v := range args {
		if len(k) > maxArgKey {
			return &transport.LimitError{What: "arg key", Size: int64(len(k)), Limit: int64(maxArgKey)}
		}
		total += len(k) + len(v)
	}
	if total > maxArgsTotal {
		return &transport.LimitError{What: "args in bytes", Size: int64(total), Limit: int64(maxArgsTotal)}
	}
	return nil
}

// run writes what waits to the stream and ends when nothing does. At most one
// runs per attachment; it may block in the stream, so it holds no lock then.
// The end of the attachment ends a blocked write.
func (a *attachment) run() {
	for {
		var job write
		a.c.update(func(s *state) { job = a.nextWrite(s) })
		if job.buf == nil && !job.eof {
			return
		}
		var err error
		if job.eof {
			err = a.stream.Close()
		} else {
			_, err = a.stream.Write(job.buf)
		}
		a.c.update(func(s *state) {
			if job.chunk != nil {
				s.out.written(job.chunk)
			}
			if err != nil {
				s.leave(a, err, transport.CodeClosed)
			} else if job.eof {
				a.eofSent = true
			}
		})
	}
}

// write is one piece of work for the flusher.
type write struct {
	buf   []byte
	chunk *chunk // that buf is part of
	eof   bool
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
	case s.wantsEOF():
		a.eofAsked, job.eof = true, true
	}
	if job.buf == nil && !job.eof {
		a.flushing = false
		s.flushers--
	}
	return job
}
