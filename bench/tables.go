package main

import (
	"fmt"
	"math"
	"strings"
)

// A table of RESULTS.md: a row for each contender.
type table struct {
	title   string
	text    string
	columns []column
}

// A column is one metric of one workload.
type column struct {
	head     string
	workload string
	metric   string
	scale    float64 // what the metric is multiplied by; 0: 1
}

// tables are the groups of workloads.
func tables() []table {
	return []table{
		{"There and back", "64 B, answered. p50 and p99 in µs.", []column{
			{"p50", "ping", metricP50, 0}, {"p99", "ping", metricP99, 0}, {"per s", "ping", metricRate, 0},
			{"32 at once: p50", "ping32", metricP50, 0}, {"p99", "ping32", metricP99, 0}, {"per s", "ping32", metricRate, 0},
		}},
		{"One way", "Messages per second until the server has counted them all; CPU seconds of both ends for a million messages; allocations for each message.", []column{
			{"64 B per s", "small", metricRate, 0}, {"CPU s per million", "small", metricCPUMillion, 0},
			{"allocations, sender", "small", metricAllocClient, 0}, {"receiver", "small", metricAllocServer, 0},
			{"1 KiB per s", "kilo", metricRate, 0}, {"CPU s per million", "kilo", metricCPUMillion, 0},
		}},
		{"Bulk", "64 KiB messages one way; CPU seconds of both ends for 1 GB.", []column{
			{"1 channel MB/s", "bulk", metricMBps, 0}, {"CPU s per GB", "bulk", metricCPUGB, 0},
			{"4 channels MB/s", "bulk4", metricMBps, 0}, {"CPU s per GB", "bulk4", metricCPUGB, 0},
		}},
		{"Beside bulk", "Ping of 64 B on one channel while another of the same client is filled with 64 KiB messages. µs.", []column{
			{"p50", "mixed", metricP50, 0}, {"p99", "mixed", metricP99, 0}, {"bulk MB/s meanwhile", "mixed", metricMBps, 0},
		}},
		{"Opening", "Open a channel, 64 B there and back, close. Connect: a new client each time, dial, first answer, hang up. µs.", []column{
			{"p50", "open", metricP50, 0}, {"per s", "open", metricRate, 0}, {"32 at once: per s", "open32", metricRate, 0},
			{"connect p50", "connect", metricP50, 0}, {"p99", "connect", metricP99, 0}, {"per s", "connect", metricRate, 0},
		}},
		{"Fan", "1,000 channels with 64 B there and back every 100 ms each: 10,000 per second are due. µs since a message was due; CPU in cores, of both ends.", []column{
			{"per s", "fan", metricRate, 0}, {"p50", "fan", metricP50, 0}, {"p99", "fan", metricP99, 0}, {"CPU", "fan", metricCPU, 0},
		}},
		{"Idle", "KiB for each channel that is open and silent, with a goroutine that waits for it at each end. Heap and stacks after collection; resident set.", []column{
			{"10,000: heap, client", "idle", metricHeapClient, 1. / 1024}, {"server", "idle", metricHeapServer, 1. / 1024},
			{"RSS, client", "idle", metricRSSClient, 1. / 1024}, {"server", "idle", metricRSSServer, 1. / 1024},
			{"100,000: heap, client", "idle100k", metricHeapClient, 1. / 1024}, {"server", "idle100k", metricHeapServer, 1. / 1024},
			{"RSS, client", "idle100k", metricRSSClient, 1. / 1024}, {"server", "idle100k", metricRSSServer, 1. / 1024},
		}},
	}
}

// write prints the table, with what ckt has divided by what the rival has in
// parentheses. Columns that nobody has are left out.
func (t table) write(b *strings.Builder, r *report) {
	var cols []column
	for _, c := range t.columns {
		for _, e := range r.Contenders {
			if !math.IsNaN(r.median(key{e.Name, c.workload, c.metric})) {
				cols = append(cols, c)
				break
			}
		}
	}
	if len(cols) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n|", t.title, t.text)
	for _, c := range cols {
		fmt.Fprintf(b, " | %s", c.head)
	}
	fmt.Fprintf(b, " |\n|---%s|\n", strings.Repeat("|--:", len(cols)))
	for _, e := range r.Contenders {
		fmt.Fprintf(b, "| %s", e.Name)
		for _, c := range cols {
			fmt.Fprintf(b, " | %s", c.cell(r, e))
		}
		b.WriteString(" |\n")
	}
}

func (c column) cell(r *report, e entrant) string {
	v := r.median(key{e.Name, c.workload, c.metric})
	if math.IsNaN(v) {
		if r.failure(e.Name, c.workload) != "" {
			return "**failed**"
		}
		return "–"
	}
	if c.scale != 0 {
		v *= c.scale
	}
	own := r.median(key{cktName, c.workload, c.metric})
	if c.scale != 0 {
		own *= c.scale
	}
	q := ratio(own, v)
	if e.Name == cktName || math.IsNaN(q) || v < negligible {
		return figure(v)
	}
	return fmt.Sprintf("%s (%.2f)", figure(v), q)
}

// negligible is too little to be divided by.
const negligible = 0.01

// figure prints three digits that matter.
func figure(v float64) string {
	for _, u := range []struct {
		least float64
		name  string
	}{{1e9, " G"}, {1e6, " M"}, {1e4, " k"}} {
		if math.Abs(v) >= u.least {
			div := u.least
			if u.name == " k" {
				div = 1e3
			}
			return digits(v/div) + u.name
		}
	}
	return digits(v)
}

func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.01 || a == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.1g", v)
}
