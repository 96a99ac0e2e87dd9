package files

import (
	"context"
	"sync/atomic"
	"time"
)

// What counts as moving, in bytes: so much of all files since the last time
// that who waits was told, and so much of one file within maxIdle, which is
// 546 bytes a second. A sender that may be silent for maxIdle is cut no sooner
// by the latter if it sends whole fragments, of maxData.
const (
	leastMoved = 10 << 10
	leastKept  = 64 << 10
)

// A holder is the circuit that has a place.
type holder struct {
	cut      func() // takes the place away
	attached func() bool
}

// A pace is how a file gets on in its place.
type pace struct {
	holder
	wrote atomic.Int64 // bytes
	busy  atomic.Bool  // what came is being written: the sender waits for this side

	// What follows is the guard's.
	seen int64         // wrote, when slow began
	slow time.Duration // in which the sender could have sent leastKept, and has not
}

// hold has the guard look at who has a place.
func (p *places) hold(pl *place, h holder) {
	pl.holder = h
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[pl] = struct{}{}
}

// count takes note of n bytes written, and of a file that is complete.
func (p *places) count(pl *place, n int, done bool) {
	pl.wrote.Add(int64(n))
	if done {
		n = max(n, leastMoved)
	}
	p.moved.Add(int64(n))
}

// guard takes the places of those away who are slow while others wait, until
// ctx ends.
func (p *places) guard(ctx context.Context) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for pl, wanted := range p.holders() {
			if pl.tooSlow(tellEvery) && wanted {
				pl.cut()
			}
		}
	}
}

// holders returns who has places, and whether somebody waits for his.
func (p *places) holders() map[*place]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := make(map[*place]bool, len(p.held))
	for pl := range p.held {
		wanted[pl] = p.waiting > 0 || pl.share.waiting > 0
	}
	return wanted
}

// tooSlow tells whether the sender has been slow for maxIdle, of which the
// last part is d. It counts whether somebody waits or not: who comes then need
// not wait that long.
func (pc *pace) tooSlow(d time.Duration) bool {
	wrote := pc.wrote.Load()
	switch {
	case wrote-pc.seen >= leastKept:
		pc.seen, pc.slow = wrote, 0
	case !pc.busy.Load() && pc.attached():
		pc.slow += d
	}
	return pc.slow >= maxIdle
}
