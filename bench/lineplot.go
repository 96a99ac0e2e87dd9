package main

import (
	imagecolor "image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

func newPlot(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Y.Min = 0
	p.Add(plotter.NewGrid())
	return p
}

// roomForLegend keeps what is drawn below the names of more than one series.
func roomForLegend(p *plot.Plot, series int) {
	p.Legend.Top = true
	if series > 1 {
		p.Y.Max *= 1.2
	}
}

// color is that of the i-th series.
func color(i int) imagecolor.Color {
	all := []imagecolor.RGBA{{R: 0x1f, G: 0x77, B: 0xb4, A: 0xff}, {R: 0xff, G: 0x7f, B: 0x0e, A: 0xff}}
	return all[i%len(all)]
}

// linePlot has a line for each metric. What spans decades is drawn so.
func linePlot(points []point, title, x string, metrics []string) (*plot.Plot, error) {
	p := newPlot(title)
	p.X.Label.Text = x
	drawn := 0
	for i, m := range metrics {
		var xy plotter.XYs
		for _, pt := range points {
			if v, ok := pt.Metrics[m]; ok {
				xy = append(xy, plotter.XY{X: pt.X, Y: v})
			}
		}
		if len(xy) < 2 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(xy)
		if err != nil {
			return nil, err
		}
		line.Color, dots.Color = color(i), color(i)
		line.Width = vg.Points(1.5)
		p.Add(line, dots)
		drawn++
		if len(metrics) > 1 {
			p.Legend.Add(m, line)
		}
	}
	if drawn == 0 {
		return nil, nil
	}
	if least, most := points[0].X, points[len(points)-1].X; least > 0 && most/least >= 100 {
		p.X.Scale = plot.LogScale{}
		p.X.Tick.Marker = plot.LogTicks{Prec: -1}
	}
	roomForLegend(p, drawn)
	return p, nil
}
