package main

import (
	"fmt"
	"math"
	"strings"
)

// A target is what ckt is to reach, against the best of its rivals in the same
// run, or against a number.
type target struct {
	what     string
	workload string
	metrics  []string // the worst of them counts
	rivals   []string // none: limit is the number itself
	least    bool     // the limit is the least, not the most
	limit    float64
}

// targets are those that the design was given.
func targets() []target {
	rate, mbps, p50, p99 := []string{metricRate}, []string{metricMBps}, []string{metricP50}, []string{metricP99}
	heap := []string{metricHeapClient, metricHeapServer}
	allocs := []string{metricAllocClient, metricAllocServer}
	at := func(what, workload string, metrics, rivals []string, limit float64) target {
		return target{what: what, workload: workload, metrics: metrics, rivals: rivals, limit: limit, least: true}
	}
	most := func(what, workload string, metrics, rivals []string, limit float64) target {
		return target{what: what, workload: workload, metrics: metrics, rivals: rivals, limit: limit}
	}
	grpc, p2p, quic := []string{"grpc"}, []string{"libp2p-quic"}, []string{"quic"}
	return []target{
		at("64 B one way", "small", rate, grpc, 4),
		at("64 B one way, the fastest of", "small", rate, []string{"drpc", "nats"}, 1.5),
		at("bulk, one channel", "bulk", mbps, quic, 1.3),
		at("bulk, one channel", "bulk", mbps, []string{"quic-gro"}, 0.95),
		at("bulk, one channel", "bulk", mbps, p2p, 1.4),
		at("bulk, one channel", "bulk", mbps, grpc, 0.8),
		at("bulk, 4 channels", "bulk4", mbps, grpc, 1),
		at("1 KiB one way", "kilo", rate, grpc, 1.1),
		at("1 KiB one way", "kilo", rate, p2p, 4),
		most("ping p50", "ping", p50, grpc, 1.05),
		most("ping p50", "ping", p50, p2p, 1),
		most("ping p50", "ping", p50, quic, 1.1),
		at("32 pings at a time", "ping32", rate, grpc, 0.8),
		at("32 pings at a time", "ping32", rate, p2p, 1.5),
		at("open, 32 at a time", "open32", rate, grpc, 1),
		at("open, 32 at a time", "open32", rate, p2p, 2.5),
		most("ping p99 beside bulk", "mixed", p99, grpc, 0.5),
		most("ping p99 beside bulk", "mixed", p99, p2p, 0.5),
		most("bytes of an idle channel, of 10,000, at the worse end", "idle", heap, nil, 8<<10),
		most("bytes of an idle channel, of 10,000, at the worse end", "idle", heap, grpc, 0.75),
		most("bytes of an idle channel, of 100,000 on one connection, at the worse end", "idle100k", heap, nil, 8<<10),
		most("allocations per 64 B message, at the worse end", "small", allocs, nil, 1.5),
	}
}

// A score is what became of a target.
type score struct {
	target target
	rival  string  // the best one, "" for a number
	value  float64 // the ratio, or ckt's own figure; NaN: not measured
	off    float64 // by which share of the limit it is missed; not positive: reached
}

// against compares a run with a target.
func (t target) against(r *report) score {
	s := score{target: t, value: math.NaN()}
	own := t.worst(r, cktName)
	if len(t.rivals) == 0 {
		s.value = own
	}
	for _, name := range t.rivals {
		v := ratio(own, t.worst(r, name))
		better := t.least == (v < s.value) // the best rival has the least ratio, or the most
		if !math.IsNaN(v) && (math.IsNaN(s.value) || better) {
			s.value, s.rival = v, name
		}
	}
	s.off = s.value/t.limit - 1
	if t.least {
		s.off = 1 - s.value/t.limit
	}
	return s
}

// worst is the figure of one contender.
func (t target) worst(r *report, contender string) float64 {
	out := math.NaN()
	for _, m := range t.metrics {
		v := r.median(key{contender, t.workload, m})
		if math.IsNaN(out) || t.least == (v < out) {
			out = v
		}
	}
	return out
}

// verdict is a cell of the table.
func (s score) verdict() string {
	switch {
	case math.IsNaN(s.value):
		return "not measured"
	case s.off <= 0:
		return "reached"
	}
	return fmt.Sprintf("**missed by %.0f %%**", 100*s.off)
}

// wanted is the target in words.
func (t target) wanted() string {
	sign, unit := "≤", "×"
	if t.least {
		sign = "≥"
	}
	if len(t.rivals) == 0 {
		return fmt.Sprintf("%s %s", sign, figure(t.limit))
	}
	return fmt.Sprintf("%s %g %s %s", sign, t.limit, unit, strings.Join(t.rivals, ", "))
}
