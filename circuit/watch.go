package circuit

import (
	"fmt"
	"time"

	"ckt.local/transport"
)

const (
	// pingEvery is how often the other side is asked for a sign of life while
	// circuits are open and it gives none by itself: often enough that the
	// restart of its process, which answers anything with a reset, is known
	// within a second.
	pingEvery = 600 * time.Millisecond

	// pingPadding makes the packet of a ping longer than the 42 bytes that a
	// QUIC endpoint which does not know the connection leaves without a reset.
	pingPadding = 64

	// suspectAfter is how long a connection may be silent, beside two of its
	// round trips, before another one is tried beside it.
	suspectAfter = time.Second
)

// proved notes that something this side has sent has arrived there: that
// packets come from there proves nothing.
func (car *carrier) proved() {
	car.control.proof.Store(int64(time.Since(car.control.start)))
}

// onPong notes that a ping of ours, which bears its time, has been answered.
func (car *carrier) onPong(p *wirePong) {
	car.proved()
	now := uint64(time.Since(car.control.start)) >> 1
	if p.Nonce <= now { // else it is no ping of ours
		car.control.rtt.Store(int64(now-p.Nonce) << 1)
	}
}

// watch ends the carrier when the other side owes a sign that it hears this
// one, and gives none for Silence. It watches only while a circuit is
// attached: QUIC itself looks after an idle connection.
func (car *carrier) watch() {
	for {
		select {
		case <-car.ctx.Done():
			return
		case <-car.control.watch:
		}
		if err := car.watchBusy(); err != nil {
			car.fail(transport.CodeLost, err)
			return
		}
	}
}

// watchBusy runs while a circuit is attached.
func (car *carrier) watchBusy() error {
	k := &car.control
	silence := car.link.cfg.Silence
	timer := time.NewTimer(0)
	defer timer.Stop()
	since := time.Since(k.start) // silence counts from here at the earliest
	wake := since
	var probes prober
	for car.busy() {
		select {
		case <-car.ctx.Done():
			return nil
		case <-timer.C:
		}
		now := time.Since(k.start)
		if now-wake > 2*time.Second {
			since = now // this process was stopped: the other side is not to blame
		}
		silent := now - max(since, time.Duration(k.proof.Load()))
		if silent >= silence {
			return fmt.Errorf("%w for %v", errSilent, silent.Round(time.Millisecond))
		}
		if silent >= suspectAfter+2*time.Duration(k.rtt.Load()) {
			probes.probe(car)
		}
		wait := pingEvery - silent
		if wait <= 0 {
			k.pingDue.Store(true)
			signal(k.wake)
			wait = min(pingEvery, silence-silent)
		}
		wake = now + wait
		timer.Reset(wait)
	}
	return nil
}

// A prober makes one probe after the other, with a pause between.
type prober struct {
	answered chan struct{} // has a token once the last one is over
	next     time.Time
}

func (p *prober) probe(car *carrier) {
	if p.answered == nil {
		p.answered = make(chan struct{}, 1)
		p.answered <- struct{}{}
	}
	if time.Now().Before(p.next) {
		return
	}
	select {
	case <-p.answered:
		answered := p.answered
		p.next = time.Now().Add(probePause)
		car.link.probe(car, func() { answered <- struct{}{} })
	default:
	}
}
