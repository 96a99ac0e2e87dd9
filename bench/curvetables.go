package main

import (
	"fmt"
	"math"
	"strings"
)

// A curveTable is a table of RESULTS.md: a row for each x.
type curveTable struct {
	curve, title, x string
	columns         []column // without workloads
}

func curveTables() []curveTable {
	kib := 1. / 1024
	memory := []column{
		{"KiB heap each, client", "", metricHeapClient, kib}, {"server", "", metricHeapServer, kib},
		{"ping p50 µs", "", metricP50, 0}, {"p99", "", metricP99, 0},
		{"64 B one way per s", "", metricRate, 0}, {"CPU s per million", "", metricCPUMillion, 0},
	}
	link := []column{{"MB/s", "", metricMBps, 0}}
	return []curveTable{
		{curveCircuits, "Circuits on one connection, silent beside one that is measured", "circuits", memory},
		{curvePeers, "Nodes connected to one, silent with a circuit each beside one that is measured", "nodes", memory},
		{curveFragments, "Size of fragments, one way", "bytes", []column{
			{"MB/s", "", metricMBps, 0}, {"per s", "", metricRate, 0}, {"CPU s per GB", "", metricCPUGB, 0},
		}},
		{curveDelay, "Round-trip time, on a simulated link of 1 Gbit/s without loss", "ms", link},
		{curveLoss, "Loss, on a simulated link of 1 Gbit/s and 20 ms there and back", "%", link},
	}
}

func (r *report) writeCurves(b *strings.Builder) {
	head := "\n## As it grows\n\nckt alone, one measurement each. Links are simulated, in time that costs nothing.\n"
	for _, t := range curveTables() {
		points := r.pointsOf(t.curve)
		if len(points) == 0 {
			continue
		}
		fmt.Fprintf(b, "%s\n%s:\n\n| %s", head, t.title, t.x)
		head = ""
		for _, c := range t.columns {
			fmt.Fprintf(b, " | %s", c.head)
		}
		fmt.Fprintf(b, " |\n|--:%s|\n", strings.Repeat("|--:", len(t.columns)))
		for _, p := range points {
			fmt.Fprintf(b, "| %s", figure(p.X))
			for _, c := range t.columns {
				fmt.Fprintf(b, " | %s", p.cell(c))
			}
			if p.Err != "" {
				fmt.Fprintf(b, " | **failed**: %s", firstLine(p.Err))
			}
			b.WriteString(" |\n")
		}
	}
}

func (r *report) pointsOf(curve string) []point {
	var out []point
	for _, p := range r.Curves {
		if p.Curve == curve {
			out = append(out, p)
		}
	}
	return out
}

func (p point) cell(c column) string {
	v, ok := p.Metrics[c.metric]
	if !ok || math.IsNaN(v) {
		return "–"
	}
	if c.scale != 0 {
		v *= c.scale
	}
	return figure(v)
}
