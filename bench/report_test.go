package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

// newTestReport has ckt at 600 messages a second, and grpc at 100.
func newTestReport() *report {
	r := &report{
		Date: time.Unix(0, 0), Rounds: 3, Seconds: 1, Machine: machine{CPU: "Fast 3000", Cores: 2},
		Contenders: []entrant{{Name: cktName}, {Name: "grpc", Module: "google.golang.org/grpc", Version: "v1"}, {Name: "quic"}},
	}
	for round, v := range []float64{600, 500, 700} {
		r.Results = append(r.Results,
			result{Contender: cktName, Workload: "small", Round: round, Metrics: metrics{
				metricMessages: v, metricRate: v, metricAllocClient: 1, metricAllocServer: 3}},
			result{Contender: "grpc", Workload: "small", Round: round, Metrics: metrics{metricMessages: 1, metricRate: 100}})
	}
	r.Results = append(r.Results, result{Contender: "quic", Workload: "small", Err: "the count is wrong\ngoroutine 1"})
	return r
}

func TestTargetAgainst(t *testing.T) {
	r := newTestReport()
	for _, c := range []struct {
		target  target
		value   float64
		verdict string
	}{
		{target{workload: "small", metrics: []string{metricRate}, rivals: []string{"grpc"}, least: true, limit: 4}, 6, "reached"},
		{target{workload: "small", metrics: []string{metricRate}, rivals: []string{"grpc"}, least: true, limit: 8}, 6, "**missed by 25 %**"},
		{target{workload: "small", metrics: []string{metricRate}, rivals: []string{"grpc"}, limit: 4}, 6, "**missed by 50 %**"},
		{target{workload: "small", metrics: []string{metricAllocClient, metricAllocServer}, limit: 1.5}, 3, "**missed by 100 %**"},
		{target{workload: "small", metrics: []string{metricRate}, rivals: []string{"nats"}, least: true, limit: 4}, math.NaN(), "not measured"},
		{target{workload: "small", metrics: []string{metricRate}, rivals: []string{"nats", "grpc"}, least: true, limit: 4}, 6, "reached"},
	} {
		s := c.target.against(r)
		if s.value != c.value && !(math.IsNaN(s.value) && math.IsNaN(c.value)) || s.verdict() != c.verdict {
			t.Errorf("%+v: %g, %s", c.target, s.value, s.verdict())
		}
	}
}

// The best of several rivals is who has the most for ckt to reach.
func TestTargetTakesTheBestRival(t *testing.T) {
	r := newTestReport()
	r.Results = append(r.Results, result{Contender: "drpc", Workload: "small", Metrics: metrics{metricRate: 300}})
	s := target{workload: "small", metrics: []string{metricRate}, rivals: []string{"grpc", "drpc"}, least: true, limit: 1}.against(r)
	if s.rival != "drpc" || s.value != 2 {
		t.Errorf("%g × %s", s.value, s.rival)
	}
}

func TestMarkdown(t *testing.T) {
	text := newTestReport().markdown([]string{"small.svg"})
	for _, want := range []string{
		"The machine was quiet",
		"| 64 B one way | ≥ 4 × grpc | 6.00 | reached |",
		"| ckt | 600 |",
		"| grpc | 100 (6.00) |",
		"| quic | **failed** |",
		"`the count is wrong`",
		"google.golang.org/grpc v1",
		"plots/small.svg",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("RESULTS.md does not have %q:\n%s", want, text)
		}
	}
	busy := newTestReport()
	busy.Noise.Measured, busy.Noise.Disturbed = 10, 9
	if text := busy.markdown(nil); strings.Index(text, "The machine was busy") > 200 || !strings.Contains(text, "The machine was busy") {
		t.Errorf("a busy machine is not the first thing said:\n%s", text)
	}
}

func TestBenchFormat(t *testing.T) {
	var b strings.Builder
	if err := newTestReport().writeBench(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"cpu: Fast 3000\n", "BenchmarkSmall/contender=ckt 600 600 per_s 1 allocs_client 3 allocs_server\n", "# small/quic failed: the count is wrong\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

func TestExpense(t *testing.T) {
	e := expense{
		client:  [2]usage{{CPU: 1, Mallocs: 10}, {CPU: 2, Mallocs: 30}},
		server:  [2]usage{{CPU: 1, Mallocs: 10}, {CPU: 1.5, Mallocs: 20}},
		machine: [2]ticks{{total: 10, busy: 5}, {total: 20, busy: 7.5}}, // 2.5 s were busy, 1.5 of them ours
		took:    time.Second,
	}
	m := metrics{metricMessages: 10, metricBytes: 1e9}
	e.addTo(m, task{Kind: taskOneWay})
	if m[metricCPU] != 1.5 || m[metricCPUGB] != 1.5 || m[metricAllocClient] != 2 || m[metricAllocServer] != 1 || m[metricOthers] != 0.1 {
		t.Errorf("%v", m)
	}
	e = expense{client: [2]usage{{Heap: 100}, {Heap: 1100}}, server: [2]usage{{RSS: 0}, {RSS: 500}}}
	m = metrics{metricMessages: 10}
	e.addTo(m, task{Kind: taskIdle})
	if m[metricHeapClient] != 100 || m[metricRSSServer] != 50 {
		t.Errorf("%v", m)
	}
}

func TestPlotsAreWritten(t *testing.T) {
	r := newTestReport()
	r.Curves = []point{
		{Curve: curveFragments, X: 1, Metrics: metrics{metricMBps: 1}},
		{Curve: curveFragments, X: 1000, Metrics: metrics{metricMBps: 20}},
	}
	names, err := r.writePlots(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 2 || names[0] != "small.svg" || names[1] != "fragments.svg" {
		t.Errorf("%q", names)
	}
	if text := r.markdown(names); !strings.Contains(text, "Size of fragments") {
		t.Errorf("no curve in\n%s", text)
	}
}
