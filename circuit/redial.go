package circuit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"ckt.local/transport"
)

const (
	// dialerWait and otherWait are how long the two sides wait before they
	// dial anew: the one that dialled first knows an address that worked.
	dialerWait = 200 * time.Millisecond
	otherWait  = 3 * time.Second

	// redialTime bounds one try.
	redialTime = 6 * time.Second

	// patientTry is how long a try takes at least that has waited for an
	// answer. The next one follows at once; after a quicker failure there is
	// a pause, twice as long each time up to
	// dialerPause, or otherPause.
	patientTry  = time.Second
	shortPause  = 100 * time.Millisecond
	dialerPause = time.Second
	otherPause  = 5 * time.Second

	// probePause is between two probes of a connection that is silent.
	probePause = 2 * time.Second

	// keepEvery is how often a link looks for circuits whose linger is over,
	// and for windows to give back.
	keepEvery = time.Second
)

var (
	errSuperseded = fmt.Errorf("%w: another connection has taken its place", transport.ErrLost)
	errSilent     = fmt.Errorf("%w: nothing acknowledged", transport.ErrLost)
	errGone       = errors.New("the other side has given it up")
)

// A lingerError is why a circuit was given up: nothing has taken it up in time.
type lingerError struct {
	linger time.Duration
	lostBy error // why its last attachment ended
	tried  error // what the last try to connect has led to; nil: there was none
}

func (e *lingerError) Error() string {
	s := fmt.Sprintf("linger of %v expired: %v", e.linger, e.lostBy)
	if e.tried != nil {
		s += fmt.Sprintf("; the last try to connect: %v", e.tried)
	}
	return s
}

// Unwrap returns both reasons.
func (e *lingerError) Unwrap() []error {
	if e.tried == nil {
		return []error{e.lostBy}
	}
	return []error{e.lostBy, e.tried}
}

// isFinal reports whether the end of a connection is one of its circuits: one
// side has closed it on purpose, or does not believe in the other's key any
// more, or the other process is another one.
func isFinal(cause error) bool {
	r, ok := errors.AsType[*transport.RemoteError](cause)
	return ok && (r.Code == transport.CodeClosed || r.Code == transport.CodeRevoked) || endsRedials(cause)
}

// endsRedials reports whether no further try to connect makes sense. What the
// other side says to one is no reason to give up: before its key is proved
// anybody may say it, and a refusal may be due to a policy that is just being
// written, or to one that lets this node be dialled but not dial.
func endsRedials(err error) bool {
	return errors.Is(err, ErrPeerRestarted) || errors.Is(err, transport.ErrClosed)
}

// startRedialing is called when a carrier is lost that circuits wait for, with
// mu held and the link alive.
func (l *Link) startRedialing(cause error, lived time.Duration) {
	l.startKeeping()
	if l.redial == nil || l.redialing || l.acceptorSleeps() {
		return
	}
	l.redialing = true
	wait := otherWait
	switch {
	case errors.Is(cause, transport.ErrReset) && lived > dialerWait:
		wait = 0 // the host is there, so there is an answer to be had
	case l.dialed, errors.Is(cause, errSilent): // probes have been under way for longer than the other side waits
		wait = dialerWait
	}
	l.wg.Go(func() { l.redialLoop(wait) })
}

// acceptorSleeps is a planted bug.
func (l *Link) acceptorSleeps() bool { return planted(bugAcceptorNeverRedials) && !l.dialed }

// redialLoop tries to get another connection until there is one.
func (l *Link) redialLoop(wait time.Duration) {
	for try := 0; ; try++ {
		select {
		case <-time.After(l.jitter(try, wait)):
		case <-l.ctx.Done():
		}
		l.mu.Lock()
		if l.cur != nil || l.ended {
			l.redialing = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		began := time.Now()
		err := l.tryRedial()
		if endsRedials(err) {
			l.end(err)
			continue
		}
		l.mu.Lock()
		l.tried = err
		l.mu.Unlock()
		if time.Since(began) >= patientTry {
			wait = shortPause
			continue
		}
		most := otherPause
		if l.dialed {
			most = dialerPause
		}
		wait = min(max(2*wait, shortPause), most)
	}
}

func (l *Link) tryRedial() error {
	if !l.dialed {
		select {
		case l.hub.redials <- struct{}{}:
			defer func() { <-l.hub.redials }()
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
	}
	ctx, cancel := context.WithTimeout(l.ctx, redialTime)
	defer cancel()
	return l.redial(ctx)
}

// probe asks the other side for another connection while the one there is has
// gone silent, so that the answer need not wait until it counts as lost: it may
// be another connection, the news of a restart, or that both sides have this
// one. It returns at once; done is called when the answer is known.
func (l *Link) probe(car *carrier, done func(answered bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.redial == nil || l.ended || l.cur != car || l.acceptorSleeps() {
		return
	}
	l.wg.Go(func() {
		select {
		case <-time.After(l.stagger(int(car.seq))):
		case <-l.ctx.Done():
		}
		err := l.tryRedial()
		done(err == nil)
		if endsRedials(err) {
			l.end(err)
		}
	})
}

// jitter spreads a wait by a quarter either way, so that the many clients of a
// server do not come back together. It follows from the link and the try alone:
// runs of a simulation can be repeated.
func (l *Link) jitter(try int, wait time.Duration) time.Duration {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], l.nonce)
	binary.BigEndian.PutUint64(b[8:], uint64(try))
	h := fnv.New64a()
	h.Write(l.node[:])
	h.Write(b[:]) // never fails
	share := h.Sum64() >> 11 % 1024
	return wait*3/4 + wait/2*time.Duration(share)/1024
}

// stagger is a short wait that keeps apart what would be due at one instant:
// nothing orders that, so a simulation could not be repeated.
func (l *Link) stagger(try int) time.Duration { return l.jitter(try, 8*time.Millisecond) }

// startKeeping starts keep unless it runs, with mu held and the link alive.
func (l *Link) startKeeping() {
	l.keepMore = true
	if !l.keeping {
		l.keeping = true
		l.wg.Go(l.keep)
	}
}

// keepSoon is startKeeping for a circuit whose window has grown, or that has
// been detached alone.
func (l *Link) keepSoon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.startKeeping()
	}
}

// keep runs while a circuit is detached or has more than its share of memory.
func (l *Link) keep() {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.ctx.Done():
			return
		}
		l.mu.Lock()
		l.keepMore = false
		tried := l.tried
		l.mu.Unlock()
		now, linger, again := time.Now(), l.linger(), false
		for _, c := range l.snapshot() {
			again = c.keep(now, linger, tried) || again
		}
		l.mu.Lock()
		if !again && !l.keepMore && l.cur != nil {
			l.keeping = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
}

// awaitCarrier waits until there is a carrier and the other side's settings are
// known.
func (l *Link) awaitCarrier(ctx context.Context) error {
	for {
		l.mu.Lock()
		car, attached := l.cur, l.attached
		if car == nil && attached == nil {
			attached = make(chan struct{})
			l.attached = attached
		}
		l.mu.Unlock()
		if car != nil {
			attached = nil
		}
		ready := l.settings
		if car == nil {
			ready = nil
		}
		select {
		case <-ready:
			return nil
		case <-attached:
		case <-car.gone():
		case <-l.ctx.Done():
			return &LostError{Cause: context.Cause(l.ctx)}
		case <-ctx.Done():
			return openCtxError(ctx)
		}
	}
}

// beginOpening and endOpening keep a link without a carrier alive.
func (l *Link) beginOpening() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opening++
}

func (l *Link) endOpening() {
	l.mu.Lock()
	l.opening--
	idle := l.idleLocked()
	l.mu.Unlock()
	if idle != nil {
		l.end(idle)
	}
}
