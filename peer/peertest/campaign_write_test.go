package peertest_test

import (
	"context"
	"errors"
	"time"

	"ckt.local/circuit"
)

// write sends what the plan has for this end.
func (e *end) write(plan *circuitPlan) {
	fp := plan.flows[e.side]
	d := newDice(e.w.plan.seed, uint64(100+plan.id*2+e.side))
	fl := flow{plan: plan, side: e.side, life: e.life.n, seed: e.w.plan.seed}
	for serial := e.sentNow() + 1; serial <= fp.fragments; serial++ {
		if serial == fp.fragments-fp.tail+1 {
			e.w.untilCalm(e.c.Context, d.between(0, time.Millisecond))
		}
		if fp.gap > 0 {
			e.w.slowly(e.c.Context, d.between(0, 2*fp.gap))
		}
		if err := e.sendOne(d, fp.send, fl.fragment(serial)); err != nil {
			e.checkCause("Send", err)
			return
		}
		if fp.flushEvery > 0 && serial%fp.flushEvery == 0 {
			e.flush(d)
		}
	}
	close(e.wrote)
}

func (e *end) sentNow() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sent
}

// sendOne has the circuit take one fragment, however often it says that it is
// full.
func (e *end) sendOne(d dice, mode sendMode, f *circuit.Fragment) error {
	if mode == sendMixed {
		mode = sendMode(d.IntN(int(sendMixed)))
	}
	for {
		err := e.trySend(d, mode, f)
		switch {
		case err == nil, e.c.Context.Err() != nil, e.life.ctx.Err() != nil:
			return err
		case err == circuit.ErrBacklog:
			sleep(e.c.Context, d.between(time.Millisecond, 300*time.Millisecond))
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		}
	}
}

// trySend sends and counts in one step: whoever looks at sent must never see
// less than the circuit has.
func (e *end) trySend(d dice, mode sendMode, f *circuit.Fragment) error {
	ctx := e.life.ctx
	if mode == sendBounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.spread(time.Millisecond, 5*time.Second))
		defer cancel()
	}
	e.mu.Lock()
	e.sent++
	e.mu.Unlock()
	var err error
	if mode == sendOneWay {
		err = e.c.SendOneWay(f)
	} else {
		err = e.c.Send(ctx, f)
	}
	if err != nil {
		e.mu.Lock()
		e.sent--
		e.mu.Unlock()
	}
	return err
}

// finish closes the circuit when the plan says so.
func (e *end) finish(plan *circuitPlan) {
	if e.side != plan.close.side && !plan.close.both {
		return
	}
	switch plan.close.when {
	case closePolitely:
		e.await(e.gotAll)
		e.await(e.wrote)
		e.w.slowly(e.c.Context, plan.close.after)
	case closeAbruptly:
		e.await(e.wrote)
	case closeMidway:
		e.w.slowly(e.c.Context, plan.close.after)
	}
	if e.c.Context.Err() != nil || e.life.ctx.Err() != nil {
		return
	}
	var reason error
	e.mu.Lock()
	e.closed = true
	if plan.close.reason {
		e.reason = "enough " + sideName(e.side)
		reason = errors.New(e.reason)
	}
	e.mu.Unlock()
	e.w.logf("%v: closes", e)
	e.c.CloseWith(reason)
}

// await waits for done, or the end of the circuit.
func (e *end) await(done <-chan struct{}) {
	select {
	case <-done:
	case <-e.c.Context.Done():
	}
}

// flush waits until the other side has what was sent, or for a time, and holds
// the answer to what is there.
func (e *end) flush(d dice) {
	sent := e.sentNow()
	ctx, cancel := context.WithTimeout(e.life.ctx, d.spread(10*time.Millisecond, 20*time.Second))
	defer cancel()
	unacked, err := e.c.Flush(ctx)
	other := e.m.end(1 - e.side)
	switch {
	case (err == nil) != (unacked == 0):
		e.w.failf("%v: Flush says %d and %v", e, unacked, err)
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		e.checkCause("Flush", err)
	}
	e.w.count(func(s *summary) { s.Flushes++ })
	if other == nil {
		return
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	if got := other.received(); got < sent-int64(unacked) {
		e.w.failf("%v: Flush says that %d of %d are not acknowledged, and %d have arrived", e, unacked, sent, got)
	}
}
