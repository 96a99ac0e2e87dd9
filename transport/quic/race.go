package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
)

// QUIC asks a silent address again 0.2, 0.6, 1.4 and 3 s after the first time,
// and later still. An address that becomes reachable meanwhile is to be found
// sooner than that: while there is no connection, a further handshake begins
// each hedgeAfter, so that no two questions are more than 0.4 s apart.
const (
	hedgeAfter = 980 * time.Millisecond
	maxHedges  = 5 // handshakes of one try at a time

	// hedgeSpread keeps the questions of several handshakes apart: nothing
	// orders what is due at one instant, so a simulation could not be repeated.
	hedgeSpread = 20 * time.Millisecond

	// minTail is how long the other handshakes go on when the hello of the
	// winner is over. That was one round trip already, so what was asked before
	// it should have been answered.
	minTail = 100 * time.Millisecond
)

// errBeaten ends a handshake whose answer comes when another one has won. TLS
// tells the server at once, which then forgets it.
var errBeaten = errors.New("transport/quic: another handshake of the same dial was faster")

// A race is the QUIC handshakes of one try. The first that is complete wins and
// is the only one to say hello.
type race struct {
	ep     *Endpoint
	a      *attempt
	conf   *tls.Config
	ctx    context.Context // of all handshakes; longer than the attempt's, for the tail
	cancel context.CancelFunc
	ended  chan lap // every handshake sends one

	won     atomic.Bool
	running int
	oldest  bool  // the one that began first is running
	late    bool  // its time, if nobody answers, is over
	err     error // of those that have failed
}

// A lap is how one handshake of a race has ended.
type lap struct {
	qc     *quicgo.Conn
	err    error
	oldest bool
}

// newRace prepares a race for the target of a.
func (e *Endpoint) newRace(a *attempt) *race {
	r := &race{ep: e, a: a, conf: e.dialTLS(a.addr, a.pin), ended: make(chan lap)}
	verify := r.conf.VerifyConnection
	r.conf.VerifyConnection = func(cs tls.ConnectionState) error {
		if r.won.Load() {
			return errBeaten
		}
		return verify(cs)
	}
	r.ctx, r.cancel = context.WithCancel(e.ctx)
	return r
}

// run returns the first connection whose handshake is complete. The caller
// calls done when it has no more use for the answers to the others.
func (r *race) run(ctx context.Context) (*quicgo.Conn, error) {
	qc, err := r.first(ctx)
	if err != nil || !r.ep.spawn(r.drain) {
		r.cancel()
		r.drain()
	}
	return qc, err
}

// done ends the handshakes that are left, except for those that are about to
// see that they are beaten: their servers are told, instead of being left with
// half a handshake.
func (r *race) done() { time.AfterFunc(minTail, r.cancel) }

// drain sees all handshakes off.
func (r *race) drain() {
	for ; r.running > 0; r.running-- {
		if l := <-r.ended; l.err == nil {
			l.qc.CloseWithError(quicgo.ApplicationErrorCode(transport.CodeSuperseded), "")
		}
	}
	r.cancel()
}

// first lasts until a handshake is complete or the other side has said no, and
// with silence as long as the oldest handshake.
func (r *race) first(ctx context.Context) (*quicgo.Conn, error) {
	tick := time.NewTicker(hedgeAfter + below(hedgeSpread))
	defer tick.Stop()
	end := time.NewTimer(r.ep.cfg.HandshakeTimeout)
	defer end.Stop()
	r.begin()
	for r.running > 0 && (r.oldest || !r.late) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-end.C:
			r.late = true
		case <-tick.C:
			if r.running < maxHedges && !r.late {
				r.begin()
			}
		case l := <-r.ended:
			r.running--
			if l.err == nil {
				r.won.Store(true)
				return l.qc, nil
			}
			if r.lost(l) {
				return nil, l.err
			}
		}
	}
	return nil, r.err
}

// begin starts a handshake. first or drain receives its end.
func (r *race) begin() {
	oldest := r.running == 0
	r.running++
	r.oldest = r.oldest || oldest
	go func() {
		qc, err := r.ep.tr.Dial(r.ep.withBooking(r.ctx), r.a.addr, r.conf, r.ep.qconf)
		r.ended <- lap{qc: qc, err: err, oldest: oldest}
	}()
}

// lost notes a failed handshake, and reports whether its end decides the race.
// Neither silence nor a server without a place does, as another handshake may
// be on its way or have a place.
func (r *race) lost(l lap) bool {
	if l.oldest {
		r.oldest = false
	}
	if !refused(l.err) && !timedOut(l.err) {
		return true
	}
	if timedOut(l.err) && l.oldest {
		r.late = true
	}
	if r.err == nil || !refused(r.err) {
		r.err = l.err
	}
	return false
}
