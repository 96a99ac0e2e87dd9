package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
)

const (
	// defaultLinger is how long a lost connection is waited for.
	defaultLinger = 2 * time.Minute

	// longestLinger is the most that circuits take.
	longestLinger = 24 * time.Hour

	// unnoticed is how long circuits may be detached before anybody is told:
	// when they move from one connection to the next, that is no outage.
	unnoticed = time.Second

	// replayTime is how long circuits that are attached again may take to send
	// what was lost, before it is counted.
	replayTime = 2 * time.Second
)

// lingerOption is a.linger for configurations, in which 0 is the default and
// negative is not at all.
func (a *app) lingerOption() time.Duration {
	if a.linger == 0 {
		return -1
	}
	return a.linger
}

// outages tells on stderr when the circuits of a command have lost their
// connection, and when they have another one. It ends with close.
type outages struct {
	app   *app
	meter *meter // nil: none

	ctx       context.Context
	cancel    context.CancelFunc
	followers sync.WaitGroup
	teller    sync.WaitGroup
	last      chan struct{} // closed when followers have ended
	changed   chan struct{} // has a token when what follows has changed

	mu  sync.Mutex // guards what follows, and is never held across a wait
	now outage

	left int // fragments that were not acknowledged when the command was over, of circuits without a connection
}

// An outage is how the circuits stand.
type outage struct {
	detached int   // circuits
	opening  bool  // a circuit that is to be opened waits for a connection
	settling int   // circuits that are attached again and replay
	ended    bool  // a circuit was not attached again before it was lost or the command was over
	cause    error // of the first detachment
	since    time.Time
	back     time.Time // when the latest circuit was attached again
	replayed int64
}

func (o *outage) lasts() bool { return o.detached > 0 || o.opening }

func (o *outage) over() bool { return !o.lasts() && o.settling == 0 && !o.ended }

// watchOutages starts to tell of the circuits that are given to follow.
func (a *app) watchOutages(ctx context.Context, m *meter) *outages {
	o := &outages{app: a, meter: m, last: make(chan struct{}), changed: make(chan struct{}, 1)}
	o.ctx, o.cancel = context.WithCancel(ctx)
	o.teller.Go(o.tell)
	return o
}

// close returns when nothing more will be said. Nobody may call follow any
// more.
func (o *outages) close() {
	o.cancel()
	o.followers.Wait()
	close(o.last)
	o.teller.Wait()
	o.app.unacked = o.left
}

func (o *outages) update(change func(*outage)) {
	o.mu.Lock()
	change(&o.now)
	o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default: // there is one
	}
}

// begin notes the first sign of an outage.
func (o *outage) begin(cause error, since time.Time) {
	if !o.lasts() && o.settling == 0 {
		*o = outage{cause: cause, since: since, ended: o.ended}
	}
}

// waits is told why a circuit cannot be opened just now.
func (o *outages) waits(err error) {
	o.update(func(now *outage) {
		now.begin(err, time.Now())
		now.opening = true
	})
}

// follow watches an open circuit until its end.
func (o *outages) follow(c *circuit.Circuit) {
	o.attached(time.Now())
	o.followers.Go(func() {
		out, before := false, int64(0)
		var end error // nil: the command ends before the circuit
		for st := range c.States(o.ctx) {
			switch {
			case st.Ended:
				end = st.Cause
			case out && st.Attached:
				out = false
				o.update(func(now *outage) { now.detached, now.settling = now.detached-1, now.settling+1 })
				o.attached(st.Since)
				o.settle(c, before)
			case !out && !st.Attached:
				out, before = true, c.Stats().Replayed
				o.update(func(now *outage) {
					now.begin(st.Cause, st.Since)
					now.detached++
				})
			}
		}
		if out {
			left := 0
			if !errors.Is(end, circuit.ErrPeerLost) {
				left = c.Stats().Unacked
			}
			o.update(func(now *outage) {
				o.left += left
				now.detached--
				now.ended = now.ended || end == nil || errors.Is(end, circuit.ErrPeerLost)
			})
		}
	})
}

// attached: there is a connection.
func (o *outages) attached(since time.Time) {
	o.update(func(now *outage) { now.opening, now.back = false, since })
}

// settle waits until what was lost has been sent again, and counts it.
func (o *outages) settle(c *circuit.Circuit, before int64) {
	ctx, cancel := context.WithTimeout(o.ctx, replayTime)
	defer cancel()
	_, _ = c.Flush(ctx) // whether it gets there is for the command to see
	again := c.Stats().Replayed - before
	o.update(func(now *outage) {
		now.settling--
		now.replayed += again
	})
}

// tell says what people and programs should know.
func (o *outages) tell() {
	var due <-chan time.Time
	told := false
	for last := false; !last; {
		noticed := false
		select {
		case <-o.changed:
		case <-due:
			noticed, due = true, nil
		case <-o.last:
			last = true
		}
		o.mu.Lock()
		now := o.now
		o.mu.Unlock()
		switch {
		case now.lasts() && noticed:
			told = true
			o.tellLost(now)
		case now.lasts() && !told && due == nil && !last:
			due = time.After(unnoticed - time.Since(now.since))
		case now.over() && told:
			told = false
			o.tellResumed(now)
		case !now.lasts():
			due = nil
		}
	}
}

// What happens on the way, for programs.
type (
	detachedEvent struct {
		Code    string  `json:"code"`
		Message string  `json:"message"`
		Linger  float64 `json:"linger_s"` // the other node may wait for less
	}
	resumedEvent struct {
		Code     string  `json:"code"`
		Message  string  `json:"message"`
		Seconds  float64 `json:"seconds"` // without a connection
		Replayed int64   `json:"replayed"`
	}
)

func (o *outages) tellLost(now outage) {
	why := strings.TrimPrefix(now.cause.Error(), transport.ErrLost.Error()+": ")
	left := o.app.linger - time.Since(now.since).Truncate(time.Second)
	text := fmt.Sprintf("connection to %s lost (%s): resuming, giving up in %v at the latest", plain(o.app.host), plain(why), left)
	o.say(text, detachedEvent{Code: "detached", Message: text, Linger: o.app.linger.Seconds()})
}

func (o *outages) tellResumed(now outage) {
	took := now.back.Sub(now.since).Seconds()
	text := fmt.Sprintf("resumed after %s, %s sent again", short(took), number(now.replayed, "fragment"))
	o.say(text, resumedEvent{Code: "resumed", Message: text, Seconds: took, Replayed: now.replayed})
}

func (o *outages) say(text string, event any) {
	switch {
	case o.app.asJSON:
		// Nobody is left to tell that stderr is closed.
		_ = json.NewEncoder(o.app.stderr).Encode(map[string]any{"event": event})
	case !o.meter.say(text):
		o.app.say("%s", text)
	}
}
