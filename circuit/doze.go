package circuit

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"time"
)

// A circuit that is idle does without its reader while somebody waits in
// Fragments: that goroutine waits in the stream itself, and starts a reader
// again when something comes. One that is idle and has nobody wait there gets
// another reader, whose stack has not grown.
//
// What puts circuits to sleep is the control loop, dozeEvery after the last
// fragment at the earliest: what is busy pays for it with one look in that time.

// dozeEvery is how often the control loop looks which circuits are idle: seldom
// enough that one with three fragments a second keeps its reader.
const dozeEvery = 400 * time.Millisecond

// A sleep says who reads the stream of an attachment.
type sleep uint8

const (
	awake     sleep = iota // its reader
	dozeAsked              // its reader, which is to stop doing so when it sees the deadline
	dozeOffer              // nobody, until the next Fragments call that waits does, or none waits any more
	dozeLent               // a Fragments call
)

// rouse puts an attachment among those that the control loop looks at.
func (a *attachment) rouse() {
	k := &a.car.control
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.busy) == 0 {
		if k.busy == nil {
			k.busy = map[*attachment]struct{}{}
		}
		k.doze.Reset(dozeEvery)
	}
	k.busy[a] = struct{}{}
}

// unrouse takes it off again: what is over is not to be kept until the control
// loop looks.
func (a *attachment) unrouse() {
	k := &a.car.control
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.busy, a)
}

// doze puts to sleep what has been idle since it was called last.
func (car *carrier) doze() {
	k := &car.control
	k.mu.Lock()
	busy := slices.Collect(maps.Keys(k.busy))
	k.busy = nil
	k.mu.Unlock()
	slices.SortFunc(busy, func(a, b *attachment) int { return byNumber(a.c, b.c) })
	for _, a := range busy {
		if a.isBusy() {
			a.rouse()
		}
	}
}

// isBusy reports whether something has come or gone since the last call. If not,
// it asks the reader to stop.
func (a *attachment) isBusy() (busy bool) {
	idle := false
	a.c.update(func(s *state) {
		news := s.received + s.out.sent + s.took
		busy = s.at == a && (!a.ready || news != a.news || s.in.len() > 0)
		a.news = news
		if idle = s.at == a && !busy && a.sleep == awake; idle {
			a.sleep = dozeAsked
		}
	})
	if idle && a.interrupt() != nil {
		a.c.update(func(*state) { a.sleep = awake }) // a stream that cannot be interrupted keeps its reader
	}
	return busy
}

// interrupt has whoever reads the stream look around.
func (a *attachment) interrupt() error { return a.stream.SetReadDeadline(time.Now()) }

// interrupted reports whether err is only what interrupt leads to.
func (a *attachment) interrupted(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	a.stream.SetReadDeadline(time.Time{}) // before the state is looked at: what changes later interrupts again
	return true
}

// retire is called by the reader when it was interrupted, and reports whether it
// is to end: somebody else reads then.
func (a *attachment) retire() (over bool) {
	a.endBlock()
	again, here := false, false
	a.c.update(func(s *state) {
		asked := a.sleep == dozeAsked
		if asked {
			a.sleep = awake
		}
		here = s.at == a
		over = asked && here && a.fr.r0 == a.fr.r1 && a.fr.skip == 0
		switch {
		case !over:
		case s.waiting > 0:
			a.sleep, s.poke = dozeOffer, true
		default:
			again = true
		}
	})
	switch {
	case again:
		go a.readLoop() // counted as the one before
	case here && !over:
		a.rouse() // in the middle of a frame
	}
	return over
}

// accepts lets a Fragments call that waits be the reader, if there is none.
func (s *state) accepts() *attachment {
	if s.at == nil || s.at.sleep != dozeOffer {
		return nil
	}
	s.at.sleep = dozeLent
	return s.at
}

// settleSleep sees to it that there is a reader if no Fragments call waits, and
// that one which waits in the stream looks at the state when it has to.
func (s *state) settleSleep(todo *after) {
	switch a := s.at; {
	case a == nil:
	case a.sleep == dozeOffer && s.waiting == 0:
		a.sleep, todo.read = awake, a
	case a.sleep == dozeLent && s.poke:
		_ = a.interrupt() // which waits for nothing; a stream that has ended needs none
	}
}

// lend has the caller, a Fragments call, wait in the stream: until something
// comes, ctx ends, or the state has changed. What needs room on the stack is
// elsewhere: one that has done nothing but wait has 2 KiB, and this fits.
func (c *Circuit) lend(ctx context.Context, a *attachment) {
	if ctx.Done() != nil {
		c.returned(a.readUntil(ctx))
	} else {
		n, err := a.stream.Read(a.fr.idle[:])
		c.returned(a, n, err)
	}
}

func (a *attachment) readUntil(ctx context.Context) (_ *attachment, n int, err error) {
	defer context.AfterFunc(ctx, func() { _ = a.interrupt() })()
	n, err = a.stream.Read(a.fr.idle[:])
	return a, n, err
}

// returned ends lend, with what has been read.
func (c *Circuit) returned(a *attachment, n int, err error) {
	if n > 0 {
		a.fr.begin(n)
	}
	a.interrupted(err)
	c.update(func(s *state) {
		a.sleep = awake
		s.waiting--
	})
	go a.readLoop() // counted as the one before; it gets the error again, if there is one
	a.rouse()
}

// begin takes the first n bytes, which were read into idle.
func (fr *frameReader) begin(n int) {
	fr.buf = fr.pool.get()
	fr.r0, fr.r1 = 0, copy(fr.buf, fr.idle[:n])
}
