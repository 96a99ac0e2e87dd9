package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
)

// A point is one measurement of how ckt behaves as something grows.
type point struct {
	Curve   string
	Series  string `json:",omitempty"` // of curves with more than one line
	X       float64
	Metrics metrics `json:",omitempty"`
	Err     string  `json:",omitempty"`
}

// The curves. Those of links come from TestLinkCurve, in simulated time.
const (
	curveCircuits  = "circuits"
	curvePeers     = "peers"
	curveFragments = "fragments"
	curveDelay     = "delay"
	curveLoss      = "loss"
)

// A step is one x of a curve, measured in processes of its own.
type step struct {
	curve string
	x     int
	tasks []task
}

// growth is what the curves consist of. The silent channels or clients
// come first and stay while what follows is measured.
func growth(seconds float64) []step {
	beside := []task{
		{Kind: taskPing, Channels: 1, Seconds: seconds / 2},
		{Kind: taskOneWay, Channels: 1, Size: pingSize, Seconds: seconds / 2},
	}
	var out []step
	for _, n := range []int{1, 10, 100, 1000, 10_000, 100_000} {
		out = append(out, step{curveCircuits, n, append([]task{{Kind: taskIdle, Channels: n}}, beside...)})
	}
	for _, n := range []int{1, 10, 100, 1000} {
		out = append(out, step{curvePeers, n, append([]task{{Kind: taskClients, Channels: n}}, beside...)})
	}
	for _, n := range []int{1, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20} {
		out = append(out, step{curveFragments, n, []task{{Kind: taskOneWay, Channels: 1, Size: n, Seconds: seconds / 2}}})
	}
	return out
}

func curveSteps() int { return len(growth(1)) }

// curves measures all of them with ckt.
func (r *runner) curves(ctx context.Context) ([]point, error) {
	var out []point
	for _, s := range growth(r.opt.seconds) {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		r.progress.step(cktName, fmt.Sprintf("%s %d", s.curve, s.x))
		m, err := s.measure(ctx)
		r.progress.done()
		p := point{Curve: s.curve, X: float64(s.x), Metrics: m}
		if err != nil {
			p.Err = err.Error()
			r.progress.say(fmt.Sprintf("FAILED: %s, %d: %v", s.curve, s.x, err))
		}
		out = append(out, p)
	}
	return out, nil
}

// measure returns the metrics of all tasks together.
func (s step) measure(ctx context.Context) (metrics, error) {
	p, err := startPair(ctx, cktName, many)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	all := metrics{}
	for _, t := range s.tasks {
		m, err := p.measure(t, "")
		if err != nil {
			return all, fmt.Errorf("%s: %w", t.Kind, err)
		}
		if t.Kind == taskPing { // its rate is not that of the messages one way
			m = metrics{metricP50: m[metricP50], metricP99: m[metricP99]}
		}
		maps.Copy(all, m)
	}
	return all, nil
}

// readCurve reads the points that a test has written.
func readCurve(file string) ([]point, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []point
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return out, nil
}
