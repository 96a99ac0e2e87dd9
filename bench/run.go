package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"
)

// A result is one measurement.
type result struct {
	Contender string
	Workload  string
	Round     int
	Metrics   metrics `json:",omitempty"`
	Err       string  `json:",omitempty"`
}

// A runner measures. One goroutine uses it.
type runner struct {
	opt        options
	contenders []contender
	workloads  []workload
	progress   progress

	results []result
	noise   noise
}

// run measures everything, or as much as there was until ctx ended.
func (r *runner) run(ctx context.Context) error {
	r.noise.LoadBefore = loadNow()
	defer func() { r.noise.LoadAfter = loadNow() }()
	for round := range r.opt.rounds {
		if err := r.round(ctx, round, r.together()); err != nil {
			return err
		}
	}
	for round := range r.opt.aloneRounds {
		if err := r.round(ctx, round, r.alone()); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// together are the workloads that share processes, grouped by their crowd.
func (r *runner) together() [][]workload {
	groups := make([][]workload, 2)
	for _, w := range r.workloads {
		switch {
		case w.alone:
		case w.crowd == few:
			groups[0] = append(groups[0], w)
		default:
			groups[1] = append(groups[1], w)
		}
	}
	return groups
}

// alone are those that have processes of their own.
func (r *runner) alone() [][]workload {
	var groups [][]workload
	for _, w := range r.workloads {
		if w.alone {
			groups = append(groups, []workload{w})
		}
	}
	return groups
}

// round gives every contender its turn, in an order of its own.
func (r *runner) round(ctx context.Context, round int, groups [][]workload) error {
	r.noise.Calibrations = append(r.noise.Calibrations, calibrate())
	before, err := ticksNow()
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(r.opt.seed, uint64(round)))
	for _, i := range random.Perm(len(r.contenders)) {
		for _, group := range groups {
			r.turn(ctx, round, r.contenders[i], group)
		}
	}
	after, err := ticksNow()
	if err != nil {
		return err
	}
	others, steal := shares(before, after)
	r.noise.Others = append(r.noise.Others, others)
	r.noise.Steal = append(r.noise.Steal, steal)
	return ctx.Err()
}

// turn measures one contender with the workloads, in one pair of processes as
// long as nothing fails.
func (r *runner) turn(ctx context.Context, round int, c contender, group []workload) {
	var p *pair
	defer func() {
		if p != nil {
			p.stop()
		}
	}()
	a := c.about()
	for _, w := range group {
		if ctx.Err() != nil {
			return
		}
		if a.lacking(w) != "" {
			continue
		}
		r.progress.step(a.name, w.name)
		m, err := r.undisturbed(func() (metrics, error) { return r.measure(ctx, &p, a.name, w) })
		if ctx.Err() != nil {
			return // it failed because it was interrupted
		}
		r.progress.done()
		res := result{Contender: a.name, Workload: w.name, Round: round, Metrics: m}
		if err != nil {
			res.Err, res.Metrics = err.Error(), nil
			r.progress.say(fmt.Sprintf("FAILED: %s, %s: %v", a.name, w.name, err))
		}
		r.results = append(r.results, res)
	}
}

// undisturbed measures again while other processes had too much of the machine,
// as often as the options say, and returns the attempt in which they had least.
func (r *runner) undisturbed(measure func() (metrics, error)) (metrics, error) {
	best, err := measure()
	for range r.opt.repeats {
		if err != nil || best[metricOthers] <= mostOthers {
			break
		}
		r.noise.Repeated++
		var m metrics
		if m, err = measure(); err == nil && m[metricOthers] < best[metricOthers] {
			best = m
		}
	}
	r.noise.Measured++
	if best[metricOthers] > mostOthers {
		r.noise.Disturbed++
	}
	return best, err
}

// measure starts a pair if there is none, and gives up one that has failed.
func (r *runner) measure(ctx context.Context, p **pair, name string, w workload) (metrics, error) {
	if *p == nil {
		started, err := startPair(ctx, name, w.crowd)
		if err != nil {
			return nil, err
		}
		*p = started
	}
	t := w.task
	t.Seconds = r.opt.seconds * w.share
	if t.forMemory() && r.opt.idle > 0 {
		t.Channels = min(t.Channels, r.opt.idle)
	}
	profiles := ""
	if r.opt.profiles != "" { // those of the last round stay
		profiles = filepath.Join(r.opt.profiles, name+"-"+w.name)
	}
	m, err := (*p).measure(t, profiles)
	if err != nil || w.alone { // memory is measured in fresh processes
		(*p).stop()
		*p = nil
	}
	return m, err
}

// What a measurement takes besides its own time, about.
const (
	overhead      = 250 * time.Millisecond
	aloneOverhead = 6 * time.Second
)

// steps is how many measurements there will be, and how long they will take.
func (r *runner) steps() (n int, estimate time.Duration) {
	for _, c := range r.contenders {
		a := c.about()
		for _, w := range r.workloads {
			switch {
			case a.lacking(w) != "":
			case w.alone:
				n += r.opt.aloneRounds
				estimate += time.Duration(r.opt.aloneRounds) * aloneOverhead
			default:
				n += r.opt.rounds
				each := overhead + time.Duration(1.2*r.opt.seconds*w.share*float64(time.Second))
				estimate += time.Duration(r.opt.rounds) * each
			}
		}
	}
	return n, estimate
}
