package circuit

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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
)

// control is the state of a carrier's control streams.
type control struct {
	wake  chan struct{} // something must be written at once
	timer *time.Timer   // something may be written now
	watch chan struct{} // there is something to watch over
	doze  *time.Timer   // it is time to look what is idle

	proof   atomic.Int64  // when the other side last showed that it hears us, in ns since start
	rtt     atomic.Int64  // of the last ping that was answered, in ns
	least   atomic.Int64  // the shortest of all, plus one; 0: not known
	pingDue atomic.Bool   // ask for a pong
	pong    atomic.Uint64 // nonce to return, plus one; 0: none
	start   time.Time

	mu    sync.Mutex // never held across a wait
	dirty []*attachment
	spare []*attachment             // empty, to be dirty next
	busy  map[*attachment]struct{}  // not known to be idle
	extra []func(buf []byte) []byte // what else is to be written, once

	acks wireAcks // of controlLoop, to be used again
}

func (k *control) init() {
	k.wake = make(chan struct{}, 1)
	k.watch = make(chan struct{}, 1)
	k.timer = time.NewTimer(ackDelay)
	k.timer.Stop()
	k.doze = time.NewTimer(dozeEvery)
	k.doze.Stop()
	k.start = time.Now()
}

// signal tells a goroutine that waits on ch to look again.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it has been told already
	}
}

// say has the control loop append something to what it writes next.
func (k *control) say(extra func(buf []byte) []byte) {
	k.mu.Lock()
	k.extra = append(k.extra, extra)
	k.mu.Unlock()
	signal(k.wake)
}

// askAck puts a on the list of what to acknowledge.
func (k *control) askAck(a *attachment, u urgency) {
	k.mu.Lock()
	first := len(k.dirty) == 0
	if n := len(k.dirty); n == 0 || k.dirty[n-1] != a {
		k.dirty = append(k.dirty, a)
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
func (car *carrier) controlLoop() {
	s, err := car.conn.OpenStream(car.ctx)
	if err != nil {
		return // the Conn has ended, and acceptLoop sees it
	}
	s.Prioritize(transport.Urgent)
	cfg := &car.link.cfg
	buf := appendSmall(nil, frameSettings, &wireSettings{
		Window:       uint64(cfg.limits.Start),
		MaxPayload:   uint64(cfg.limits.Payload),
		LingerMillis: uint64(cfg.Linger.Milliseconds()),
		MaxArgs:      uint64(cfg.limits.Args),
		MaxArgBytes:  uint64(cfg.limits.ArgBytes),
		MaxText:      uint64(cfg.limits.Text),
	})
	for {
		if len(buf) > 0 {
			// A side that takes no control frames would let the list of
			// circuits to acknowledge grow without end.
			s.SetWriteDeadline(time.Now().Add(cfg.Silence))
			if _, err := s.Write(buf); err != nil {
				car.fail(transport.CodeLost, fmt.Errorf("%w: control frames are not taken: %w", transport.ErrLost, err))
				return
			}
		}
		select {
		case <-car.ctx.Done():
			return
		case <-car.control.wake:
		case <-car.control.timer.C:
		case <-car.control.doze.C:
			car.doze()
			buf = buf[:0]
			continue
		}
		buf = car.appendControl(buf[:0])
	}
}

// appendControl appends everything that is due.
func (car *carrier) appendControl(buf []byte) []byte {
	k := &car.control
	if nonce := k.pong.Swap(0); nonce > 0 {
		buf = appendSmall(buf, framePong, &wirePong{Nonce: nonce - 1})
	}
	if k.pingDue.Swap(false) {
		buf = appendSmall(buf, framePing, &wirePing{Nonce: uint64(time.Since(k.start)) >> 1, Padding: make([]byte, pingPadding)})
	}
	k.mu.Lock()
	dirty, extra := k.dirty, k.extra
	k.dirty, k.extra = k.spare, nil
	k.spare = nil
	k.mu.Unlock()
	for _, more := range extra {
		buf = more(buf)
	}
	acks := &k.acks
	for i, a := range dirty {
		if ack, ok := a.acknowledge(); ok {
			acks.Acks = append(acks.Acks, ack)
		}
		if n := len(acks.Acks); n == maxAcks || n > 0 && i == len(dirty)-1 {
			buf = appendSmall(buf, frameAck, acks)
			acks.Acks = acks.Acks[:0]
		}
	}
	if cap(dirty) <= maxAcks {
		clear(dirty)
		k.mu.Lock()
		k.spare = dirty[:0]
		k.mu.Unlock()
	}
	return buf
}

// readControl reads the other side's control stream until it ends, which it
// does only together with the Conn.
func (car *carrier) readControl(s transport.Stream, first []byte) error {
	if err := car.takeSettings(first); err != nil {
		return err
	}
	s.Close() // this direction is not used
	fr := frameReader{r: s, pool: &car.link.hub.bufs, limit: maxSmallFrame}
	defer fr.release()
	var in controlReader
	for {
		typ, body, err := fr.next()
		if err == nil {
			err = in.take(car, typ, body)
		}
		if err != nil {
			return err
		}
	}
}

// A controlReader is what the reader of a control stream keeps between frames.
type controlReader struct{ acks wireAcks }

func (in *controlReader) take(car *carrier, typ transport.FrameType, body []byte) error {
	switch typ {
	case frameAck:
		if err := parse(body, &in.acks); err != nil {
			return err
		}
		car.onAcks(in.acks.Acks)
	case framePing:
		var p wirePing
		if err := parse(body, &p); err != nil {
			return err
		}
		car.control.pong.Store(p.Nonce%(1<<62) + 1)
		signal(car.control.wake)
	case framePong:
		var p wirePong
		if err := parse(body, &p); err != nil {
			return err
		}
		car.onPong(&p)
	case frameYield:
		var y wireYield
		if err := parse(body, &y); err != nil {
			return err
		}
		car.tell(y.Stream, func(a *attachment) error { return a.onYield(&y) })
	case frameWant:
		var w wireWant
		if err := parse(body, &w); err != nil {
			return err
		}
		car.tell(w.Stream, func(a *attachment) error { return a.onWant(&w) })
	case frameResumed:
		return car.onResumed(body)
	default:
		if !typ.Optional() {
			return faultf("frame type %#x on the control stream", byte(typ))
		}
	}
	return nil
}

// onResumed learns which circuits the other side has. Those that it has opened
// and does not name are gone there.
func (car *carrier) onResumed(body []byte) error {
	var w wireResumed
	if err := parse(body, &w); err != nil {
		return err
	}
	car.mu.Lock()
	again := car.resumed
	car.resumed = !w.More
	car.named += len(w.IDs)
	named := car.named
	car.mu.Unlock()
	switch {
	case again || w.More && len(w.IDs) == 0:
		return faultf("resumed more than once, or without saying anything")
	case named > maxResumed:
		return faultf("more than %d circuits resumed", maxResumed)
	}
	gone := car.link.unnamed(car.seq, &w)
	slices.SortFunc(gone, byNumber)
	for _, c := range gone {
		c.unknownThere(car.seq)
	}
	return nil
}

// unnamed notes the circuits that the other side has named on a carrier and
// returns, with the last of its frames, those that it has opened and has not.
func (l *Link) unnamed(seq int32, w *wireResumed) (gone []*Circuit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range w.IDs {
		if c := l.circuits[id]; c != nil {
			c.named = seq
		}
	}
	if w.More {
		return nil
	}
	for _, c := range l.circuits {
		if c.accepted && c.named < seq {
			gone = append(gone, c)
		}
	}
	return gone
}

// takeSettings learns the other side's limits, once per carrier. The link
// keeps those of its first one: it is the same process.
func (car *carrier) takeSettings(body []byte) error {
	var w wireSettings
	if err := parse(body, &w); err != nil {
		return err
	}
	if w.Window == 0 || w.MaxPayload == 0 {
		return faultf("settings of zero")
	}
	car.mu.Lock()
	again := car.settled
	car.settled = true
	car.mu.Unlock()
	if again {
		return faultf("second control stream")
	}
	l := car.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.remote.Window != 0 {
		return nil
	}
	w.Window = min(w.Window, 1<<30)
	w.MaxPayload = min(w.MaxPayload, 64<<20)
	w.MaxArgs = sizeOr(w.MaxArgs, maxArgs)
	w.MaxArgBytes = sizeOr(w.MaxArgBytes, maxArgsTotal)
	w.MaxText = sizeOr(w.MaxText, maxErr)
	w.LingerMillis = min(w.LingerMillis, uint64(longestLinger.Milliseconds()))
	l.remote = w
	close(l.settings)
	return nil
}

// sizeOr is a bound as the other side has given it, of which 0 says nothing.
func sizeOr(said, most uint64) uint64 {
	if said == 0 {
		return most
	}
	return min(said, most)
}

// onAcks tells circuits what the other side has. An acknowledgement for a
// stream that is gone is late, not wrong.
func (car *carrier) onAcks(acks []wireAck) {
	for _, ack := range acks {
		a := car.on(ack.Stream)
		if a == nil {
			continue
		}
		progress, err := a.onAck(ack)
		if progress {
			car.proved()
		}
		if err != nil {
			a.fault(err)
		}
	}
}

// tell hands what the other side has said about a stream to its attachment. A
// stream that is gone is late, not wrong.
func (car *carrier) tell(stream uint64, on func(*attachment) error) {
	a := car.on(stream)
	if a == nil {
		return
	}
	if err := on(a); err != nil {
		a.fault(err)
	}
}
