package circuit

import (
	"fmt"
	"sync/atomic"
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

	// probeGrace is how long, beside two round trips, a connection may go on
	// being silent after the other side has answered a probe beside it.
	probeGrace = 500 * time.Millisecond
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
		rtt := int64(now-p.Nonce) << 1
		car.control.rtt.Store(rtt)
		if least := car.control.least.Load(); least == 0 || rtt < least {
			car.control.least.Store(rtt + 1) // the reader of the control stream is the only one to do so
		}
	}
}

// leastRTT is how long a round trip takes when nothing is in its way, if that
// is known.
func (k *control) leastRTT() (rtt time.Duration, known bool) {
	least := k.least.Load()
	return time.Duration(least), least > 0
}

// ping asks the other side for a pong.
func (k *control) ping() {
	k.pingDue.Store(true)
	signal(k.wake)
}

// watch ends the carrier when the other side owes a sign that it hears this
// one, and gives none for Silence. It watches only while there are
// circuits: QUIC itself looks after an idle connection.
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

// watchBusy runs while there are circuits.
func (car *carrier) watchBusy() error {
	k := &car.control
	silence := car.link.cfg.Silence
	timer := time.NewTimer(0)
	defer timer.Stop()
	since := time.Since(k.start) // silence counts from here at the earliest
	wake := since
	pinged := time.Duration(0) // when a ping went out last
	looks := 0
	probes := &prober{} // a probe may outlive the loop
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
		proof := max(since, time.Duration(k.proof.Load()))
		silent := now - proof
		switch {
		case silent >= silence:
			return fmt.Errorf("%w for %v", errSilent, silent.Round(time.Millisecond))
		case probes.condemn(proof, now, time.Duration(k.rtt.Load())):
			return fmt.Errorf("%w for %v, though the other side answers at its address", errSilent, silent.Round(time.Millisecond))
		case silent >= suspectAfter+2*time.Duration(k.rtt.Load()):
			probes.probe(car, now)
		}
		wait := pingEvery - silent
		if wait <= 0 {
			if now-pinged >= pingEvery {
				pinged = now
				k.ping()
			}
			wait = min(pingEvery/2, silence-silent)
		}
		looks++
		wait += car.link.stagger(looks)
		wake = now + wait
		timer.Reset(wait)
	}
	return nil
}

// A prober makes one probe after the other, with a pause between.
type prober struct {
	began    time.Duration // of the latest probe
	running  atomic.Bool
	answered atomic.Int64 // when a probe was answered, in ns since the carrier's start
}

func (p *prober) probe(car *carrier, now time.Duration) {
	if p.began > 0 && now-p.began < probePause || !p.running.CompareAndSwap(false, true) {
		return
	}
	p.began = now
	car.link.probe(car, func(answered bool) {
		if answered {
			p.answered.Store(int64(time.Since(car.control.start)))
		}
		p.running.Store(false)
	})
}

// condemn reports whether the other side answers where it was, and has had time
// to answer on this connection too, and has not, since before it was asked: it
// has moved, or QUIC waits longer and longer to send anything again.
func (p *prober) condemn(proof, now, rtt time.Duration) bool {
	answered := time.Duration(p.answered.Load())
	return p.began > 0 && proof < p.began && answered > p.began && now-answered >= probeGrace+2*rtt
}
