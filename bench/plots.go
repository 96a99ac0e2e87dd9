package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A picture is one plot.
type picture struct {
	file string
	make func(r *report) (*plot.Plot, error) // nil, nil: there is nothing to show
}

func pictures() []picture {
	bars := func(file, title, workload string, metrics ...string) picture {
		return picture{file, func(r *report) (*plot.Plot, error) { return barPlot(r, title, workload, metrics) }}
	}
	lines := func(file, title, curve, x string, metrics ...string) picture {
		return picture{file, func(r *report) (*plot.Plot, error) { return linePlot(r.pointsOf(curve), title, x, metrics) }}
	}
	return []picture{
		bars("small.svg", "64 B one way, messages per second", "small", metricRate),
		bars("kilo.svg", "1 KiB one way, messages per second", "kilo", metricRate),
		bars("bulk.svg", "64 KiB one way, MB/s", "bulk", metricMBps),
		bars("ping.svg", "64 B there and back, µs", "ping", metricP50, metricP99),
		bars("mixed.svg", "the same beside bulk, µs", "mixed", metricP50, metricP99),
		bars("open32.svg", "open, there and back, close; 32 at once, per second", "open32", metricRate),
		bars("idle.svg", "an idle channel, bytes", "idle", metricHeapClient, metricHeapServer),
		lines("circuits-memory.svg", "bytes of an idle circuit", curveCircuits, "circuits", metricHeapClient, metricHeapServer),
		lines("circuits-rate.svg", "64 B one way per second beside idle circuits", curveCircuits, "circuits", metricRate),
		lines("peers-memory.svg", "bytes of an idle connection", curvePeers, "nodes", metricHeapClient, metricHeapServer),
		lines("fragments.svg", "MB/s by size of fragments", curveFragments, "bytes", metricMBps),
		lines("delay.svg", "MB/s by round-trip time in ms, 1 Gbit/s", curveDelay, "ms", metricMBps),
		lines("loss.svg", "MB/s by loss in %, 1 Gbit/s, 20 ms", curveLoss, "%", metricMBps),
	}
}

// The size of a plot.
const (
	plotWidth  = 18 * vg.Centimeter
	plotHeight = 9 * vg.Centimeter
)

// writePlots writes those that there are figures for, and returns their names.
func (r *report) writePlots(dir string) (names []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, pic := range pictures() {
		p, perr := pic.make(r)
		if perr == nil && p == nil {
			continue
		}
		if perr == nil {
			perr = save(p, filepath.Join(dir, pic.file))
		}
		if perr != nil {
			err = errors.Join(err, perr)
			continue
		}
		names = append(names, pic.file)
	}
	return names, err
}

func save(p *plot.Plot, file string) error {
	canvas := vgsvg.New(plotWidth, plotHeight)
	p.Draw(draw.New(canvas))
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(f)
	return errors.Join(err, f.Close())
}

// barPlot has a group of bars for each contender.
func barPlot(r *report, title, workload string, metrics []string) (*plot.Plot, error) {
	p := newPlot(title)
	var names []string
	groups := make([]plotter.Values, len(metrics))
	for _, e := range r.Contenders {
		if math.IsNaN(r.median(key{e.Name, workload, metrics[0]})) {
			continue
		}
		names = append(names, e.Name)
		for i, m := range metrics {
			groups[i] = append(groups[i], max(0, r.median(key{e.Name, workload, m})))
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	width := 20 / vg.Length(len(metrics))
	for i, g := range groups {
		bars, err := plotter.NewBarChart(g, vg.Points(float64(width)))
		if err != nil {
			return nil, err
		}
		bars.LineStyle.Width = 0
		bars.Color = color(i)
		bars.Offset = (vg.Length(i) - vg.Length(len(metrics)-1)/2) * width
		p.Add(bars)
		if len(metrics) > 1 {
			p.Legend.Add(metrics[i], bars)
		}
	}
	roomForLegend(p, len(metrics))
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.6, float64(len(names))-0.4
	p.X.Tick.Label.Rotation = math.Pi / 8
	p.X.Tick.Label.XAlign = draw.XRight
	return p, nil
}
