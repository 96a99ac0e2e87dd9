package couriertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	ckt "ckt.local"
)

// Operations of fragments.
const (
	opHello = 1 + iota // who is at this end
	opData
	opEnd // the last one of this direction
)

// quiet is how long nothing may come before it is a gap.
const quiet = 250 * time.Millisecond

// A run is one circuit of a courier.
type run struct {
	*courier
	c      *ckt.Circuit
	opener bool
	met    chan struct{} // closed when peer is known
	ended  chan struct{} // closed when the other side has sent all it will
	said   chan struct{} // closed when this side has
	peer   uint32        // the life at the other end

	sent     atomic.Uint64
	received atomic.Uint64
	newest   atomic.Int64
	arrival  time.Time // of the last fragment; the receiver's
}

func newRun(c *courier, circuit *ckt.Circuit) *run {
	return &run{courier: c, c: circuit, met: make(chan struct{}), ended: make(chan struct{}), said: make(chan struct{})}
}

// run returns when the circuit has ended, and whether all is done.
func (r *run) run(ctx context.Context) (done bool) {
	defer r.c.Close()
	ctx, cancel := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	helpers.Go(func() { r.watch(ctx) })
	helpers.Go(func() { r.progress(ctx) })
	helpers.Go(func() { r.send(ctx) })
	end := r.receive(ctx)
	cancel()
	helpers.Wait()
	return r.conclude(end)
}

// conclude reports how the circuit has ended.
func (r *run) conclude(end error) (done bool) {
	stats := r.c.Stats()
	e := Event{Peer: r.peer, Sent: r.sent.Load(), Received: r.received.Load(), Unacked: stats.Unacked,
		Attachments: stats.Attachments, Replayed: stats.Replayed, Duplicates: stats.Duplicates}
	select {
	case <-r.ended:
		e.Kind = Done
		if end == nil {
			r.report.event(e)
			return true
		}
		r.wrong("all has arrived, but the circuit ended with: %v", end)
		return false
	default:
	}
	e.Kind, e.Text = Lost, fmt.Sprint(end)
	if lost, ok := errors.AsType[*ckt.LostError](end); ok {
		e.Unacked = lost.Unacked
	}
	e.Restarted = restarted(end)
	r.report.event(e)
	return false
}

// receive takes what comes, until there is no more; the opener closes then.
func (r *run) receive(ctx context.Context) error {
	r.arrival = time.Now()
	for f, err := range r.c.Fragments(ctx) {
		if err != nil {
			return err
		}
		if err := r.take(f); err != nil {
			r.wrong("fragment %d: %v", f.Serial, err)
			return err
		}
		if f.FragOp == opEnd {
			close(r.ended)
			if r.count == 0 {
				r.stop()
			}
			if r.opener {
				<-r.said // it ends, if not by itself, then with the circuit
				return r.deliver(ctx)
			}
		}
	}
	return nil
}

// take checks one fragment.
func (r *run) take(f *ckt.Fragment) error {
	now := time.Now()
	if since := now.Sub(r.arrival); since > quiet {
		r.report.event(Event{Kind: Gap, From: r.arrival, To: now, Peer: r.peer})
	}
	r.arrival = now
	p, err := unpack(f.Payload)
	if err != nil {
		return err
	}
	if f.FragOp == opHello {
		return r.meet(f, p)
	}
	want := r.received.Load() + 1
	switch {
	case r.peer == 0:
		return errors.New("came before any hello")
	case p.from != r.peer || p.to != r.life:
		return fmt.Errorf("from life %d to life %d came to life %d, which talks to life %d", p.from, p.to, r.life, r.peer)
	case p.number != want || f.FragPart != int64(want) || f.Serial != int64(want)+1:
		return fmt.Errorf("number %d (part %d, serial %d) came after %d", p.number, f.FragPart, f.Serial, want-1)
	}
	r.newest.Store(p.sent.UnixNano())
	r.received.Store(want)
	return nil
}

// meet learns who is at the other end.
func (r *run) meet(f *ckt.Fragment, p parcel) error {
	if r.peer != 0 || f.Serial != 1 || p.to != 0 && p.to != r.life {
		return fmt.Errorf("hello from life %d to life %d came to life %d", p.from, p.to, r.life)
	}
	r.peer = p.from
	close(r.met)
	r.report.event(Event{Kind: Opened, Peer: r.peer})
	return nil
}

func (r *run) wrong(format string, args ...any) {
	r.report.event(Event{Kind: Wrong, Peer: r.peer, Text: fmt.Sprintf(format, args...)})
}

// send sends until it is told to finish, or has sent what it has, or the
// circuit ends: that the receiver tells.
func (r *run) send(ctx context.Context) {
	defer close(r.said)
	select {
	case <-r.met:
	case <-ctx.Done():
		return
	}
	if !r.opener && r.put(ctx, opHello, 0, 0) != nil {
		return
	}
	due := time.Now()
	for n := uint64(1); ; n++ {
		if due = due.Add(r.every); time.Since(due) > time.Second {
			due = time.Now() // what was not sent meanwhile is not made up for
		}
		op := opData
		if !r.until(ctx, due) || r.count > 0 && n > r.count {
			op = opEnd
		}
		size := rand.IntN(r.size + 1)
		if err := r.put(ctx, op, n, size); err != nil || op == opEnd {
			return
		}
	}
}

// until waits for that time, and says no if sending is to end.
func (r *run) until(ctx context.Context, due time.Time) bool {
	select {
	case <-r.finish:
		return false
	default:
	}
	wait := time.Until(due)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-r.finish:
		return false
	case <-ctx.Done():
		return true // the sending will fail
	case <-timer.C:
		return true
	}
}

func (r *run) put(ctx context.Context, op int, n uint64, size int) error {
	p := parcel{from: r.life, to: r.peer, number: n, sent: time.Now()}
	err := r.c.Send(ctx, &ckt.Fragment{FragOp: op, FragPart: int64(n), Payload: p.pack(size)})
	if err == nil {
		r.sent.Store(n)
	}
	return err
}

// progress tells ten times a second how far it has come.
func (r *run) progress(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var told Event
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		e := Event{Kind: Progress, Sent: r.sent.Load(), Received: r.received.Load()}
		if e != told && e.Received > 0 {
			told = e
			e.Newest = time.Unix(0, r.newest.Load())
			r.report.event(e)
		}
	}
}
