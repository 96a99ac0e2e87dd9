package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// A progress shows how far a run is: a bar on a terminal, a line for each tenth
// elsewhere.
type progress interface {
	// step is called before each measurement.
	step(contender, workload string)
	// done is called after it.
	done()
	// say prints a line.
	say(text string)
	// end gives the terminal back.
	end()
}

// newProgress writes to standard error: results go to standard output.
func newProgress(steps int, estimate time.Duration) progress {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return &lineProgress{out: os.Stderr, steps: steps, estimate: estimate}
	}
	return newBarProgress(steps)
}

type lineProgress struct {
	out      io.Writer
	steps    int
	estimate time.Duration
	begun    int
}

func (p *lineProgress) step(contender, workload string) {
	if p.begun == 0 {
		fmt.Fprintf(p.out, "%d measurements, about %v\n", p.steps, p.estimate.Round(time.Second))
	}
	if tenth := max(1, p.steps/10); p.begun%tenth == 0 {
		fmt.Fprintf(p.out, "%3d %%: %s, %s\n", 100*p.begun/max(1, p.steps), contender, workload)
	}
	p.begun++
}

func (p *lineProgress) done() {}

func (p *lineProgress) say(text string) { fmt.Fprintln(p.out, text) }

func (p *lineProgress) end() {}

type barProgress struct {
	all *mpb.Progress
	bar *mpb.Bar
	set chan string // what is measured now, if it was not drawn yet
}

func newBarProgress(steps int) *barProgress {
	p := &barProgress{all: mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(50)), set: make(chan string, 1)}
	current := ""
	label := decor.Any(func(decor.Statistics) string {
		select {
		case current = <-p.set:
		default:
		}
		return current
	}, decor.WC{W: 28, C: decor.DindentRight})
	p.bar = p.all.AddBar(int64(steps),
		mpb.PrependDecorators(label),
		mpb.AppendDecorators(decor.CountersNoUnit("%d / %d "), decor.AverageETA(decor.ET_STYLE_MMSS)))
	return p
}

func (p *barProgress) step(contender, workload string) {
	select {
	case <-p.set:
	default:
	}
	p.set <- contender + " " + workload
}

func (p *barProgress) done() { p.bar.Increment() }

func (p *barProgress) say(text string) { fmt.Fprintln(p.all, text) }

func (p *barProgress) end() {
	p.bar.Abort(false) // does nothing if it is full
	p.all.Wait()
}
