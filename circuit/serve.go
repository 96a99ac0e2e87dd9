package circuit

import (
	"context"
	"log/slog"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/limit"
)

const (
	// maxServed is how many streams of the other side on one carrier may be
	// without their first frame or their answer at once; the next ones wait
	// unread. It is what an opener may have under way in both lanes.
	maxServed = maxOpenings + maxResuming

	// servedCost is what such a stream may take, in bytes: a first frame of 8
	// KiB, a goroutine, the stream.
	servedCost = 16 << 10

	// servedFree is how many of them there may be on a carrier for which there is
	// no room in the account: when others of the node have it all, things go on.
	servedFree = 16
)

// served counts the streams of the other side that have no answer yet.
type served struct {
	slots chan struct{}
	left  chan struct{} // a signal that there is one less
}

func (sv *served) init() {
	sv.slots, sv.left = make(chan struct{}, maxServed), make(chan struct{}, 1)
}

// A serving is the place of one stream. The goroutine that serves it owns it.
type serving struct {
	car    *carrier
	booked bool
}

// unbook gives the memory back: the stream is through, or becomes a circuit, which
// books its own.
func (v *serving) unbook() {
	if v.booked {
		v.booked = false
		v.car.link.cfg.Ledger.Release(limit.Inbox, v.car.link.account, servedCost)
	}
}

func (v *serving) end() {
	v.unbook()
	<-v.car.served.slots
	signal(v.car.served.left)
}

// beginServing waits for a place for one more stream, and books it; nil: the
// carrier is over.
func (car *carrier) beginServing() *serving {
	sv := &car.served
	select {
	case sv.slots <- struct{}{}:
	case <-car.ctx.Done():
		return nil
	}
	for {
		_, err := car.link.cfg.Ledger.Acquire(limit.Inbox, car.link.account, servedCost)
		if err == nil || len(sv.slots) <= servedFree {
			return &serving{car: car, booked: err == nil}
		}
		select {
		case <-sv.left:
		case <-car.ctx.Done():
			<-sv.slots
			return nil
		}
	}
}

// acceptLoop takes the streams that the other side opens. It does nothing
// that waits, so one slow opening delays no other.
func (car *carrier) acceptLoop() {
	for {
		s, err := car.conn.AcceptStream(context.Background())
		if err != nil {
			car.fail(transport.CodeClosed, connCause(car.conn, err))
			return
		}
		place := car.beginServing()
		if place == nil {
			continue // until AcceptStream fails
		}
		car.link.wg.Go(func() { car.serveStream(s, place) })
	}
}

// connCause is why conn ended, or err if it does not say.
func connCause(conn transport.Conn, err error) error {
	if cause := context.Cause(conn.Context()); cause != nil {
		return cause
	}
	return err
}

// serveStream finds out what a stream of the other side is for.
func (car *carrier) serveStream(s transport.Stream, place *serving) {
	l := car.link
	var a *attachment
	s.SetReadDeadline(time.Now().Add(l.cfg.OpenTimeout))
	typ, body, err := transport.ReadFrame(s, maxSmallFrame)
	s.SetReadDeadline(time.Time{})
	switch {
	case err == nil && typ == frameSettings:
		place.end()
		err := car.readControl(s, body)
		if car.ctx.Err() == nil {
			car.fail(transport.CodeProtocol, connCause(car.conn, err))
		}
		return
	case err == nil && typ == frameOpen:
		growStack()
		a, err = car.serveOpen(s, body, place)
	case err == nil:
		err = faultf("a stream begins with frame type %#x", byte(typ))
	}
	if err != nil {
		level := slog.LevelDebug // an opener may give up
		if isForeign(err) && car.ctx.Err() == nil {
			level = slog.LevelWarn
		}
		l.cfg.Logger.Log(car.ctx, level, "circuit: bad stream", "node", l.node, "error", err)
		s.Reset(transport.CodeProtocol)
	}
	place.end()
	if a != nil {
		a.rouse() // also if nothing comes: the stack has grown
		a.readLoop()
	}
}

// growStack gives the goroutine the stack that an opening needs, policy and all,
// while there is little on it: to move it from the depth of a policy was a tenth
// of what an acceptor spends.
//
//go:noinline
func growStack() {
	var room [3 << 10]byte
	roomEnd(&room)
}

//go:noinline
func roomEnd(room *[3 << 10]byte) { room[0] = 1 }
