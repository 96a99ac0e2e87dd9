package peertest_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
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
// sent, read and closed, in simulated time, and lingerLimit how long circuits
// may take that wait for a process that is gone.
const (
	settleLimit = 30 * time.Second
	lingerLimit = 150 * time.Second
)

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
		since := w.now() - w.plan.calm
		switch {
		case e == nil && opening == 0:
			quiet++
			continue
		case e == nil && since < openLimit+settleLimit, e != nil && since < e.settleLimit():
			quiet, w.sum.Settled = 0, since
			continue
		case e == nil:
			w.failf("%d circuits are neither opened nor not, %v after everything was mended", opening, since)
		default:
			w.failf("%v: is not over %v after everything was mended: %s", e, since, statsText(e.c))
		}
		w.dumpGoroutines()
		return
	}
}

// settleLimit is how long after the last mending an end may take to be over:
// longer if the window lets only little through with each round trip, or if
// the other process is gone and cannot be asked.
func (e *end) settleLimit() time.Duration {
	other := e.m.end(1 - e.side)
	if other == nil || e.w.diedOf(other.life) != "" {
		return lingerLimit
	}
	limit := settleLimit
	if plan := e.known(); plan != nil {
		rtt := 2 * (e.w.plan.link.Latency + e.w.plan.link.Jitter)
		limit += time.Duration(plan.flows[0].fragments+plan.flows[1].fragments) * rtt
		limit += plan.flows[0].stall + plan.flows[1].stall // of readers
	}
	return limit
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
