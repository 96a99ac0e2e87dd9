package circuit

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"ckt.local/transport"
)

// A carrier is one connection of a link: each circuit on it has a stream of
// its own, and acknowledgements, credit and pings one more, so that they never
// wait behind data. The link owns its goroutines.
type carrier struct {
	link *Link
	conn transport.Conn
	seq  int32 // 1 for the link's first carrier

	ctx    context.Context // ends with the carrier
	cancel context.CancelCauseFunc

	control control
	served  served

	mu      sync.Mutex // never held across a wait
	over    bool
	settled bool                   // the other side's settings have come
	streams map[uint64]*attachment // those that carry a circuit, by stream
	lanes   [lanes]lane            // circuits that are to be attached here
	resumed bool                   // the other side has named all its circuits
	named   int                    // how many that were
}

func newCarrier(l *Link, conn transport.Conn, seq int32) *carrier {
	car := &carrier{link: l, conn: conn, seq: seq, streams: map[uint64]*attachment{}}
	car.ctx, car.cancel = context.WithCancelCause(context.Background())
	car.control.init()
	car.served.init()
	car.lanes[laneNew].turns = make(chan struct{}, maxOpenings)
	car.lanes[laneResume].turns = make(chan struct{}, maxResuming)
	return car
}

// start runs the carrier's goroutines. The link is alive, and its mutex held.
func (car *carrier) start() {
	car.link.wg.Go(car.acceptLoop)
	car.link.wg.Go(car.controlLoop)
	car.link.wg.Go(car.watch)
}

// gone is closed when the carrier is lost; nil, which waits for ever, if there
// is none.
func (car *carrier) gone() <-chan struct{} {
	if car == nil {
		return nil
	}
	return car.ctx.Done()
}

// fail ends the carrier: what it carries is detached, and the link told. Only
// the first call counts.
func (car *carrier) fail(code transport.Code, cause error) {
	car.mu.Lock()
	first := !car.over
	car.over = true
	car.cancel(cause) // before anybody can see over: what fails because of it must not look like a refusal
	for i := range car.lanes {
		car.lanes[i].queue = nil
	}
	left := slices.Collect(maps.Values(car.streams))
	car.mu.Unlock()
	if !first {
		return
	}
	car.link.cfg.Logger.Debug("circuit: connection has ended", "node", car.link.node, "err", cause)
	slices.SortFunc(left, func(a, b *attachment) int { return byNumber(a.c, b.c) })
	for _, a := range left {
		a.end(cause, transport.CodeClosed)
	}
	car.conn.Close(code, cause.Error())
	car.link.detached(car, cause)
}

// add makes a known as what its stream is for. It fails once the carrier is
// over, when nobody would end a.
func (car *carrier) add(a *attachment) bool {
	car.mu.Lock()
	defer car.mu.Unlock()
	if car.over {
		return false
	}
	car.streams[a.stream.ID()] = a
	if len(car.streams) == 1 {
		signal(car.control.watch)
	}
	return true
}

// on returns what a stream is for, nil if that is over.
func (car *carrier) on(stream uint64) *attachment {
	car.mu.Lock()
	defer car.mu.Unlock()
	return car.streams[stream]
}

func (car *carrier) remove(a *attachment) {
	car.mu.Lock()
	defer car.mu.Unlock()
	delete(car.streams, a.stream.ID())
}

// busy reports whether a circuit is attached, or waits for the other side to
// attach it.
func (car *carrier) busy() bool {
	car.mu.Lock()
	attached := len(car.streams) > 0
	car.mu.Unlock()
	return attached || car.link.awaited()
}

// resumeLater is resume for a carrier that comes right behind another one: a
// side that makes one connection after the other must not have this one send
// everything again each time.
func (car *carrier) resumeLater() {
	select {
	case <-time.After(dialerWait):
		car.resume()
	case <-car.ctx.Done():
	}
}

// resume attaches the circuits that this side has opened, and then tells the
// other side which they are: those it knows besides are gone here. That is so
// for the first connection too: an earlier link of the two may be over at this
// side only.
func (car *carrier) resume() {
	if car.seq > 1 {
		signal(car.control.watch) // also for those that the other side has to attach
	}
	var ids [][16]byte
	for _, c := range car.link.snapshot() {
		if c.resumable() {
			ids = append(ids, c.id)
			car.attachSoon(c)
		}
	}
	car.control.say(func(buf []byte) []byte {
		for {
			n := min(len(ids), maxAcks)
			buf = appendSmall(buf, frameResumed, &wireResumed{IDs: ids[:n], More: n < len(ids)})
			if ids = ids[n:]; len(ids) == 0 {
				return buf
			}
		}
	})
}
