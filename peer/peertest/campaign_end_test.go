package peertest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"ckt.local/circuit"
)

// An end is one end of a circuit in a run, with the goroutines that use it:
// a writer, a reader and one that closes. They belong to the end's life.
type end struct {
	w    *world
	life *life
	c    *circuit.Circuit
	m    *meeting
	side int // 0: the opener

	wrote  chan struct{} // closed when the writer is through with its plan
	gotAll chan struct{} // closed when everything that the plan of the other side has has come
	over   chan struct{} // closed when the Context has ended and nothing more comes
	news   int64         // what had come and gone when the circuit was moved to another stream

	mu       sync.Mutex
	plan     *circuitPlan // nil while the acceptor does not know it
	sent     int64        // fragments that the circuit has taken
	read     int64        // fragments read
	next     int64        // serial that has not been read
	ahead    map[int64]bool
	peeked   bool  // the first fragment of Reads was taken apart from the others
	lastErr  int64 // serial of the last fragment of Errors
	lastRead int64 // likewise of Reads
	closed   bool  // this end has called Close
	reason   string
	floor    int64 // at least so many of sent are acknowledged
	atDeath  int64 // what had arrived when the process was killed; -1: it was not
	cause    error
	endedAt  time.Duration // when the cause was there; the Context may end later
}

func (e *end) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := -1
	if e.plan != nil {
		id = e.plan.id
	}
	return fmt.Sprintf("circuit %d, %s, life %d of host %d", id, sideName(e.side), e.life.n, e.life.host)
}

func sideName(side int) string { return [2]string{"opener", "acceptor"}[side] }

// begin starts the goroutines of an end.
func (w *world) begin(l *life, c *circuit.Circuit, side int, plan *circuitPlan, sent int64) *end {
	e := &end{
		w: w, life: l, c: c, side: side, plan: plan, sent: sent, next: 1, atDeath: -1,
		wrote: make(chan struct{}), gotAll: make(chan struct{}), over: make(chan struct{}),
		ahead: make(map[int64]bool),
	}
	if !w.enlist(e) {
		return nil
	}
	l.wg.Go(e.run)
	return e
}

// run reads until nothing more comes. It starts the rest when it is known what
// the circuit is for.
func (e *end) run() {
	defer close(e.over)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(e.watch)
	wg.Go(e.watchStates)
	if plan := e.learn(); plan != nil {
		e.checkGotAll()
		wg.Go(func() { e.write(plan) })
		wg.Go(func() { e.finish(plan) })
	}
	e.readAll()
}

// learn returns the plan of the circuit: by the opener's word, or by the first
// fragment. It returns nil if the circuit ends first.
func (e *end) learn() *circuitPlan {
	if plan := e.known(); plan != nil {
		return plan
	}
	select {
	case <-e.m.known:
		plan := e.m.end(0).known()
		e.mu.Lock()
		e.plan = plan
		e.mu.Unlock()
		return plan
	case f, ok := <-e.c.Reads:
		if !ok {
			return nil
		}
		id, _, _, err := parseSubject(f.FragSubject)
		if err != nil || id >= len(e.w.plan.circuits) {
			e.w.failf("%v: the first fragment is of %q", e, f.FragSubject)
			return nil
		}
		plan := &e.w.plan.circuits[id]
		e.mu.Lock()
		e.plan, e.peeked = plan, true
		e.mu.Unlock()
		e.take(f)
		return plan
	case <-e.c.Context.Done():
		return nil
	}
}

// watch waits for the end of the Context, which must have one cause for ever.
func (e *end) watch() {
	<-e.c.Context.Done()
	cause := context.Cause(e.c.Context)
	e.mu.Lock()
	e.cause = cause
	e.mu.Unlock()
	e.w.logf("%v: ends: %v", e, cause)
}

// watchStates holds what the circuit says of its attachments to what they are:
// they count upwards, and the last word is the end.
func (e *end) watchStates() {
	var last circuit.State
	for st := range e.c.States(context.Background()) {
		switch {
		case last.Ended:
			e.w.failf("%v: is %v after its end", e, st)
		case st.Attachments < last.Attachments, st.Since.Before(last.Since):
			e.w.failf("%v: is %+v after %+v", e, st, last)
		case st.Attachments > 0 && st.Attached == (st.Cause != nil), st.Ended && st.Attached:
			e.w.failf("%v: the state is %+v", e, st)
		}
		if st.Attached != last.Attached || st.Ended {
			e.w.logf("%v: %v, attachment %d", e, st, st.Attachments)
		}
		last = st
	}
	e.mu.Lock()
	e.endedAt = e.w.now()
	e.mu.Unlock()
	if cause := context.Cause(e.c.Context); !last.Ended || cause != nil && last.Cause != cause {
		e.w.failf("%v: the last state is %v, the cause %v", e, last, cause)
	}
}

// readAll takes what comes in the way that the plan wants.
func (e *end) readAll() {
	loop := true
	if plan := e.known(); plan != nil {
		loop = plan.flows[1-e.side].fragmentsLoop
	}
	if loop {
		for f, err := range e.c.Fragments(context.Background()) {
			if f != nil {
				e.take(f)
			} else {
				e.checkCause("Fragments", err)
			}
		}
		return
	}
	reads, errs := e.c.Reads, e.c.Errors
	for reads != nil || errs != nil {
		select {
		case f, ok := <-reads:
			if !ok {
				reads = nil
				continue
			}
			e.take(f)
		case f, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			e.take(f)
		}
	}
}

func (e *end) known() *circuitPlan {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.plan
}

// take checks one fragment, counts it, and takes its time.
func (e *end) take(f *circuit.Fragment) {
	plan := e.known()
	if plan == nil {
		e.w.failf("%v: fragment %d on a circuit that nobody has opened: %q", e, f.Serial, f.FragSubject)
		return
	}
	_, _, sender, err := parseSubject(f.FragSubject)
	if err == nil {
		err = flow{plan: plan, side: 1 - e.side, life: e.m.sender(1-e.side, sender), seed: e.w.plan.seed}.check(f)
	}
	if err != nil {
		e.w.failf("%v: fragment %d: %v", e, f.Serial, err)
	}
	if order := e.count(f, plan.flows[1-e.side].fragmentsLoop); order != nil {
		e.w.failf("%v: %v", e, order)
	}
	e.w.arrived(len(f.Payload))
	e.checkGotAll()
	fp := plan.flows[1-e.side]
	e.w.slowly(e.life.ctx, fp.readGap)
	if fp.stallAt == f.Serial+1 {
		e.w.slowly(e.life.ctx, fp.stall)
	}
}

// count holds a fragment to the order: all of them in one if they come
// together, those of Reads and those of Errors in one each if not.
func (e *end) count(f *circuit.Fragment, together bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.read++
	last := &e.lastRead
	if f.Err != "" {
		last = &e.lastErr
	}
	switch {
	case f.Serial < e.next || e.ahead[f.Serial]:
		return fmt.Errorf("fragment %d has come twice", f.Serial)
	case f.Serial <= *last:
		return fmt.Errorf("fragment %d has come after %d", f.Serial, *last)
	case together && !e.peeked && f.Serial != e.next:
		return fmt.Errorf("fragment %d has come, and %d has not", f.Serial, e.next)
	}
	*last = f.Serial
	e.ahead[f.Serial] = true
	for e.ahead[e.next] {
		delete(e.ahead, e.next)
		e.next++
	}
	return nil
}

func (e *end) checkGotAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.next <= e.plan.flows[1-e.side].fragments {
		return
	}
	select {
	case <-e.gotAll:
	default:
		close(e.gotAll)
	}
}

// checkCause holds what a call says of the end of the circuit to the cause of
// the Context.
func (e *end) checkCause(who string, err error) {
	if err == nil || e.life.ctx.Err() != nil {
		return
	}
	_, lost := errors.AsType[*circuit.LostError](err)
	_, remote := errors.AsType[*circuit.RemoteError](err)
	if !lost && !remote && !errors.Is(err, circuit.ErrClosed) && !errors.Is(err, circuit.ErrRemoteClosed) {
		e.w.failf("%v: %s says %v, which is no end of a circuit", e, who, err)
	}
}
