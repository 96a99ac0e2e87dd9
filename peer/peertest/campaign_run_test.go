package peertest_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
)

// settleLimit is how long after the last mending everything may take to be
// sent, read and closed, in simulated time.
const settleLimit = 150 * time.Second

// runSeed runs the plan of a seed and reports what has come of it: once if all
// is well, and before the world is taken down as well if something is broken,
// because that may never end then.
func runSeed(t *testing.T, seed uint64, report func(*summary)) {
	began := time.Now()
	var w *world
	tell := func() {
		w.sum.Errors = w.errs
		if len(w.errs) > 0 || *simKeep {
			w.keep(t)
		}
		report(&w.sum)
	}
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, newPlan(seed))
		w.run()
		if len(w.errs) > 0 {
			tell()
		}
		w.end()
	})
	w.sum.Real = time.Since(began)
	tell()
	for _, err := range w.errs {
		t.Error(err)
	}
}

// run lets the plan happen.
func (w *world) run() {
	w.greet()
	for _, s := range w.script() {
		if d := s.at - w.now(); d > 0 {
			time.Sleep(d)
		}
		s.do()
	}
	w.mend()
	w.settle()
	w.check()
	w.sum.Virtual = w.now()
	w.sum.Trace = w.sim.Network.Fingerprint()
}

// A step is something that the goroutine of the run does at a time.
type step struct {
	at time.Duration
	do func()
}

func (w *world) script() []step {
	var steps []step
	for i := range w.plan.circuits {
		c := &w.plan.circuits[i]
		steps = append(steps, step{c.at, func() { w.open(c) }})
	}
	for _, f := range w.plan.faults {
		steps = append(steps, step{f.at, func() { w.begins(f) }})
		if f.lasts > 0 {
			steps = append(steps, step{f.at + f.lasts, func() { w.ends(f) }})
		}
	}
	for _, m := range w.plan.moved {
		steps = append(steps, step{m.at, func() { w.supersede(m.circuit) }})
	}
	steps = append(steps, step{w.plan.calm, func() {}})
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return steps
}

// supersede moves a circuit of the plan to another stream.
func (w *world) supersede(id int) {
	for _, m := range w.all() {
		o := m.end(0)
		if o == nil || o.known().id != id || !o.open() || !supersede(o.c) {
			continue
		}
		w.logf("%v: moves to another stream", o)
		w.count(func(s *summary) { s.Faults["superseding"]++ })
	}
}

// touched returns the contacts that a fault is about.
func (w *world) touched(f fault) []*contact {
	var cs []*contact
	for _, p := range w.sortedPairs() {
		if p == pairOf(f.a, f.b) || f.b < 0 && (p.a == f.a || p.b == f.a) {
			cs = append(cs, w.pairs[p])
		}
	}
	return cs
}

func (w *world) sortedPairs() []pair {
	var ps []pair
	for b := range w.plan.hosts {
		for a := range b {
			ps = append(ps, pair{a, b})
		}
	}
	return ps
}

func (w *world) begins(f fault) {
	w.logf("fault: %v", f)
	w.count(func(s *summary) { s.Faults[string(f.kind)]++ })
	switch f.kind {
	case faultKill:
		w.kill(f.a)
	case faultStop:
		w.stop(f.a)
	case faultMove:
		w.move(f.a)
	case faultRebind:
		w.nat.Reboot()
		w.interrupt(f.a)
	default:
		w.eachContact(f, 1)
	}
}

func (w *world) ends(f fault) {
	w.logf("over: %v", f)
	switch f.kind {
	case faultKill, faultStop:
		w.restart(f.a)
	default:
		w.eachContact(f, -1)
	}
}

// eachContact counts a fault in or out where it holds.
func (w *world) eachContact(f fault, n int) {
	for _, c := range w.touched(f) {
		c.update(func() {
			switch f.kind {
			case faultCutOneWay:
				if f.a == c.pair.a {
					c.cuts[0] += n
				} else {
					c.cuts[1] += n
				}
			case faultRough, faultNarrow:
				if n > 0 {
					c.bad = append(c.bad, f)
				} else {
					c.improve(f)
				}
			default:
				c.cuts[0] += n
				c.cuts[1] += n
			}
		})
	}
}

// updateHost updates the contacts of a host whose process has come or gone.
func (w *world) updateHost(i int) {
	for _, c := range w.touched(fault{a: i, b: -1}) {
		c.update(func() {})
	}
}

// kill ends a process without a word. What has arrived at it by now is all
// that may have been acknowledged: acknowledgements on the way are lost.
func (w *world) kill(i int) {
	h := w.hosts[i]
	l := h.life
	if l == nil {
		return
	}
	h.life = nil
	w.updateHost(i)
	for _, m := range w.all() {
		for side := range 2 {
			if e := m.end(side); e != nil && e.life == l {
				rcv := e.c.Stats().FragmentsRcv
				e.mu.Lock()
				e.atDeath = rcv
				e.mu.Unlock()
			}
		}
	}
	w.die(l, "killed")
	h.Kill()
	w.bury(l)
}

// stop closes a node in the ordinary way.
func (w *world) stop(i int) {
	h := w.hosts[i]
	l := h.life
	if l == nil {
		return
	}
	h.life = nil
	w.updateHost(i)
	w.die(l, "stopped")
	if err := h.Stop(); err != nil {
		w.logf("stopping host %d: %v", i, err)
	}
	w.bury(l)
}

func (w *world) die(l *life, how string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.died, l.diedAt = how, w.now()
}

// bury waits for everything that a dead process has left behind.
func (w *world) bury(l *life) {
	l.cancel()
	l.wg.Wait()
}

func (w *world) restart(i int) {
	if w.hosts[i].life != nil {
		return
	}
	w.hosts[i].Start()
	w.updateHost(i)
	w.greet()
}

// greet has the host behind the NAT connect to all others, which could not
// find it otherwise.
func (w *world) greet() {
	if w.plan.behind < 0 || w.hosts[w.plan.behind].life == nil {
		return
	}
	l := w.hosts[w.plan.behind].life
	for i, h := range w.hosts {
		if i == l.host || h.life == nil {
			continue
		}
		l.wg.Go(func() {
			sleep(l.ctx, time.Duration(1+i)*time.Millisecond) // what happens at one instant has no order
			ctx, cancel := context.WithTimeout(l.ctx, time.Minute)
			defer cancel()
			if _, err := l.node.Connect(ctx, h.URL("")); err != nil {
				w.logf("connecting to host %d: %v", i, err)
			}
		})
	}
}

// move gives a host another address.
func (w *world) move(i int) {
	w.moves++
	w.hosts[i].Move(netip.AddrFrom4([4]byte{10, 1, byte(w.moves >> 8), byte(w.moves)}))
	w.interrupt(i)
}

// interrupt is for a host that others see at another address now.
func (w *world) interrupt(i int) {
	for _, c := range w.touched(fault{a: i, b: -1}) {
		c.update(func() {})
		c.interrupt()
	}
}

// mend ends all faults for good.
func (w *world) mend() {
	w.logf("everything is mended")
	for i := range w.hosts {
		w.restart(i)
	}
	for _, p := range w.sortedPairs() {
		c := w.pairs[p]
		c.update(func() { c.cuts, c.bad = [2]int{}, nil })
	}
	close(w.calm)
}

// settle waits until all circuits are over.
func (w *world) settle() {
	for quiet := 0; quiet < 3; { // what was opened last may not have been taken yet
		time.Sleep(500 * time.Millisecond)
		e, opening := w.waiting()
		switch {
		case e == nil && opening == 0:
			quiet++
			if quiet == 1 {
				w.sum.Settled = w.now() - w.plan.calm
			}
			continue
		case w.now() < w.plan.calm+settleLimit:
			quiet = 0
			continue
		case e == nil:
			w.failf("%d circuits are neither opened nor not, %v after everything was mended", opening, settleLimit)
		default:
			w.failf("%v: is not over %v after everything was mended: %s", e, settleLimit, statsText(e.c))
		}
		w.dumpGoroutines()
		return
	}
}

// waiting returns an end that is not over, and how many circuits are being
// opened.
func (w *world) waiting() (e *end, opening int) {
	w.count(func(*summary) { opening = w.opening })
	for _, m := range w.all() {
		for side := range 2 {
			if e := m.end(side); e != nil && !e.isOver() {
				return e, opening
			}
		}
	}
	return nil, opening
}

// dumpGoroutines puts all stacks into the log.
func (w *world) dumpGoroutines() {
	var b bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&b, 1)
	w.logf("%s", &b)
}

// end closes the nodes, which have nothing left to do, unless circuits were
// closed to a process that was gone.
func (w *world) end() {
	for _, c := range w.pairs {
		c.setClean(false)
	}
	w.cancel()
	w.probes.Wait()
	for i, h := range w.hosts {
		if left := h.Node().Listing().Circuits; len(left) > 0 && len(w.errs) == 0 {
			w.failf("host %d still has %d circuits", i, len(left))
		}
		l := h.life
		if err := h.Stop(); err != nil && len(w.errs) == 0 && w.sum.Lost == 0 && len(w.lives) == w.plan.hosts {
			w.failf("closing host %d: %v", i, err)
		}
		w.bury(l)
	}
}

func statsText(c *circuit.Circuit) string {
	s := c.Stats()
	return fmt.Sprintf("(sent %d, unacked %d, received %d, unread %d, cause %v)",
		s.FragmentsSent, s.Unacked, s.FragmentsRcv, s.Unread, context.Cause(c.Context))
}

// keep writes down the events of a run, and what went over its network.
func (w *world) keep(t *testing.T) {
	w.sum.Kept = t.ArtifactDir()
	var events strings.Builder
	fmt.Fprintf(&events, "%+v\n%s\n", w.plan, strings.Join(w.log, "\n"))
	var network bytes.Buffer
	w.sim.Network.Trace().Dump(&network) // a buffer takes it
	for name, text := range map[string][]byte{"events.txt": []byte(events.String()), "network.txt": network.Bytes()} {
		if err := os.WriteFile(filepath.Join(w.sum.Kept, name), text, 0o666); err != nil {
			t.Errorf("keeping what has happened: %v", err)
		}
	}
}
