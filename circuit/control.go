package circuit

import (
	"context"
	"fmt"
	"time"

	"ckt.local/transport"
)

const (
	// acksAtOnce is how many fragments are acknowledged without delay: few
	// enough that a full window of small ones never waits for ackDelay.
	acksAtOnce = 32

	// ackDelay is how long fewer may wait, so that one frame speaks for
	// many fragments and many circuits.
	ackDelay = 20 * time.Millisecond

	// watchEvery is how often the link looks whether acknowledgements come
	// while some are owed.
	watchEvery = 500 * time.Millisecond
)

func (k *control) init() {
	k.wake = make(chan struct{}, 1)
	k.watch = make(chan struct{}, 1)
	k.timer = time.NewTimer(ackDelay)
	k.timer.Stop()
	k.start = time.Now()
}

// signal tells a goroutine that waits on ch to look again.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it has been told already
	}
}

// askAck puts c on the list of circuits to acknowledge.
func (l *Link) askAck(c *Circuit, u urgency) {
	k := &l.control
	k.mu.Lock()
	first := len(k.dirty) == 0
	if n := len(k.dirty); n == 0 || k.dirty[n-1] != c {
		k.dirty = append(k.dirty, c)
	}
	k.mu.Unlock()
	switch {
	case u == ackAtOnce:
		signal(k.wake)
	case first:
		k.timer.Reset(ackDelay)
	}
}

// controlLoop owns this side's control stream: it opens it and is the only
// one that writes to it.
func (l *Link) controlLoop() {
	s, err := l.conn.OpenStream(l.ctx)
	if err != nil {
		return // the Conn has ended, and acceptLoop sees it
	}
	s.Prioritize(transport.Urgent)
	buf := appendSmall(nil, frameSettings, &wireSettings{
		Window:     uint64(l.cfg.Window),
		MaxPayload: uint64(l.cfg.MaxPayload),
	})
	for {
		if len(buf) > 0 {
			// A side that takes no control frames would let the list of
			// circuits to acknowledge grow without end.
			s.SetWriteDeadline(time.Now().Add(l.cfg.Silence))
			if _, err := s.Write(buf); err != nil {
				l.fail(transport.CodeLost, fmt.Errorf("%w: control frames are not taken: %w", transport.ErrLost, err))
				return
			}
		}
		select {
		case <-l.ctx.Done():
			return
		case <-l.control.wake:
		case <-l.control.timer.C:
		}
		buf = l.appendControl(buf[:0])
	}
}

// appendControl appends everything that is due.
func (l *Link) appendControl(buf []byte) []byte {
	k := &l.control
	if nonce := k.pong.Swap(0); nonce > 0 {
		buf = appendSmall(buf, framePong, &wirePing{Nonce: nonce - 1})
	}
	if k.pingDue.Swap(false) {
		buf = appendSmall(buf, framePing, &wirePing{Nonce: uint64(time.Since(k.start)) >> 1})
	}
	k.mu.Lock()
	dirty := k.dirty
	k.dirty = nil
	k.mu.Unlock()
	var acks wireAcks
	for i, c := range dirty {
		ok := false
		var a wireAck
		c.update(func(s *state) { a, ok = s.acknowledge(l.cfg.Window) })
		if ok {
			a.Stream = c.stream.ID()
			acks.Acks = append(acks.Acks, a)
		}
		if n := len(acks.Acks); n == maxAcks || n > 0 && i == len(dirty)-1 {
			buf = appendSmall(buf, frameAck, &acks)
			acks.Acks = acks.Acks[:0]
		}
	}
	return buf
}

// readControl reads the other side's control stream until it ends, which it
// does only together with the Conn.
func (l *Link) readControl(s transport.Stream, first []byte) error {
	if err := l.takeSettings(first); err != nil {
		return err
	}
	s.Close() // this direction is not used
	fr := frameReader{r: s, pool: &l.bufs, limit: maxSmallFrame}
	var acks wireAcks
	for {
		typ, body, err := fr.next()
		if err != nil {
			fr.release()
			return err
		}
		l.control.heard.Store(int64(time.Since(l.control.start)))
		switch typ {
		case frameAck:
			if err = parse(body, &acks); err == nil {
				l.onAcks(acks.Acks)
			}
		case framePing, framePong:
			var p wirePing
			if err = parse(body, &p); err == nil && typ == framePing {
				l.control.pong.Store(p.Nonce%(1<<62) + 1)
				signal(l.control.wake)
			}
		default:
			if !typ.Optional() {
				err = faultf("frame type %#x on the control stream", byte(typ))
			}
		}
		if err != nil {
			fr.release()
			return err
		}
	}
}

// takeSettings learns the other side's limits, once.
func (l *Link) takeSettings(body []byte) error {
	var w wireSettings
	if err := parse(body, &w); err != nil {
		return err
	}
	if w.Window == 0 || w.MaxPayload == 0 {
		return faultf("settings of zero")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.remote.Window != 0 {
		return faultf("second control stream")
	}
	w.Window = min(w.Window, largestWindow)
	w.MaxPayload = min(w.MaxPayload, largestMaxPayload)
	l.remote = w
	close(l.settings)
	return nil
}

// onAcks tells circuits what the other side has. An acknowledgement for a
// circuit that is gone is late, not wrong.
func (l *Link) onAcks(acks []wireAck) {
	for _, a := range acks {
		l.mu.Lock()
		c := l.circuits[a.Stream]
		l.mu.Unlock()
		if c == nil {
			continue
		}
		ok := true
		c.update(func(s *state) {
			if ok = s.fin != nil || s.lost || s.out.ack(a.Received); ok {
				s.out.credit = max(s.out.credit, a.Credit)
			}
		})
		if !ok {
			c.fault(faultf("acknowledgement of fragment %d, which was not sent", a.Received))
		}
	}
}

// watch ends the link when the other side owes acknowledgements and nothing
// is heard from it. It asks for a pong first, because a long fragment on a
// slow path is acknowledged only when all of it is there.
func (l *Link) watch() {
	k := &l.control
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-k.watch:
		}
		if err := l.watchOutstanding(); err != nil {
			l.fail(transport.CodeLost, err)
			return
		}
	}
}

// watchOutstanding runs while something is owed.
func (l *Link) watchOutstanding() error {
	k := &l.control
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	since := time.Since(k.start) // silence counts from here at the earliest
	last := since
	for k.outstanding.Load() > 0 {
		select {
		case <-l.ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Since(k.start)
		if now-last > 4*watchEvery {
			since = now // this process was stopped: the other side is not to blame
		}
		last = now
		silent := now - max(since, time.Duration(k.heard.Load()))
		if silent >= l.cfg.Silence {
			return fmt.Errorf("%w: nothing acknowledged for %v", transport.ErrLost, silent.Round(time.Millisecond))
		}
		if silent >= watchEvery {
			k.pingDue.Store(true)
			signal(k.wake)
		}
	}
	return nil
}

// acceptLoop takes the streams that the other side opens. It does nothing
// that waits, so one slow opening delays no other.
func (l *Link) acceptLoop() {
	slots := make(chan struct{}, maxOpenings)
	for {
		s, err := l.conn.AcceptStream(context.Background())
		if err != nil {
			l.end(connCause(l.conn, err))
			l.conn.Close(transport.CodeClosed, "")
			return
		}
		select {
		case slots <- struct{}{}:
		case <-l.ctx.Done():
			continue // until AcceptStream fails
		}
		l.wg.Go(func() {
			l.serveStream(s, func() { <-slots })
		})
	}
}

// connCause is why conn ended, or err if it does not say.
func connCause(conn transport.Conn, err error) error {
	if cause := context.Cause(conn.Context()); cause != nil {
		return cause
	}
	return err
}
