package main

import (
	"fmt"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// A meter is a progress bar on stderr. A nil meter shows nothing. update may
// be called from any goroutine.
type meter struct {
	progress *mpb.Progress
	bar      *mpb.Bar
}

// unknownTotal is for a meter that cannot tell how much there will be.
const unknownTotal = 0

// newMeter returns nil unless a person is looking. total is in bytes; update
// may correct it, unless it is unknownTotal.
func (a *app) newMeter(total int64) *meter {
	if a.asJSON || !isTerminal(a.stderr) {
		return nil
	}
	width, _, err := term.GetSize(int(a.stderr.Fd()))
	if err != nil {
		width = 80
	}
	before := decor.CountersKibiByte("% .1f / % .1f")
	style := mpb.BarFillerBuilder(mpb.BarStyle())
	if total == unknownTotal {
		before, style = decor.CurrentKibiByte("% .1f"), mpb.NopStyle()
	}
	after := []decor.Decorator{decor.AverageSpeed(decor.SizeB1024(0), "% .1f"), decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace)}
	const narrowest = 70 // columns that both leave to the bar
	if width < narrowest || total == unknownTotal {
		after = after[:1]
	}
	p := mpb.New(mpb.WithOutput(a.stderr), mpb.WithWidth(64))
	// mpb completes a bar that was made with a total as soon as it is
	// reached; this one ends with close.
	bar := p.New(0, style, mpb.PrependDecorators(before), mpb.AppendDecorators(after...))
	return &meter{progress: p, bar: bar}
}

// update shows how many of total bytes are done.
func (m *meter) update(done, total int64) {
	if m == nil {
		return
	}
	m.bar.SetTotal(total, false)
	m.bar.SetCurrent(done)
}

// say prints a line above the bar, if there is one.
func (m *meter) say(line string) bool {
	if m == nil {
		return false
	}
	_, err := fmt.Fprintln(m.progress, line)
	return err == nil
}

// close takes the bar away and gives the terminal back: what is said next
// tells how it ended.
func (m *meter) close() {
	if m == nil {
		return
	}
	m.bar.Abort(true)
	m.progress.Wait()
}
