package simnet

import (
	"sync"
	"time"
)

// A deadline is the time after which a socket's reads or writes fail.
type deadline struct {
	mu      sync.Mutex
	at      time.Time     // zero: never
	timer   *time.Timer   // calls wake at that time; nil if there is no need
	changed chan struct{} // closed, and replaced, when there is news to look at
}

func newDeadline() *deadline {
	return &deadline{changed: make(chan struct{})}
}

// set changes the deadline, also for those who wait already.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = time.Time{}
	if d.timer != nil {
		d.timer.Stop() // if too late, wake runs once more, which harms nobody
		d.timer = nil
	}
	if !t.IsZero() {
		wait := time.Until(t)
		// On the monotonic clock, as the timer is: were the wall clock set
		// back, the timer would find that the deadline is still to come.
		d.at = time.Now().Add(wait)
		if wait > 0 {
			d.timer = time.AfterFunc(wait, d.wake)
		}
	}
	d.broadcast()
}

// wake makes those who wait look again.
func (d *deadline) wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broadcast()
}

// broadcast wakes those who wait. The caller holds d.mu.
func (d *deadline) broadcast() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// passed says whether the deadline has passed, and returns a channel that is
// closed when it is worth asking again.
//
// The clock decides and not the timer: when a packet arrives at the very
// instant of the deadline, the outcome must not depend on which came first.
func (d *deadline) passed() (bool, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.at.IsZero() && !time.Now().Before(d.at), d.changed
}
