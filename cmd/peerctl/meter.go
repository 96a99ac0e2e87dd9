package main

import (
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// A meter is a progress bar on stderr. A nil meter shows nothing. update may
// be called from any goroutine.
type meter struct {
	progress *mpb.Progress
	bar      *mpb.Bar
}

// newMeter returns nil unless a person is looking.
func (a *app) newMeter() *meter {
	if a.asJSON || !isTerminal(a.stderr) {
		return nil
	}
	p := mpb.New(mpb.WithOutput(a.stderr), mpb.WithWidth(64))
	bar := p.AddBar(0,
		mpb.PrependDecorators(decor.CountersKibiByte("% .1f / % .1f")),
		mpb.AppendDecorators(
			decor.AverageSpeed(decor.SizeB1024(0), "% .1f"),
			decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace),
		),
	)
	return &meter{progress: p, bar: bar}
}

// update shows how many of total bytes are done. A total that is not known
// grows with them.
func (m *meter) update(done, total int64) {
	if m == nil {
		return
	}
	m.bar.SetTotal(max(done, total)+1, false) // at the total the bar would be over
	m.bar.SetCurrent(done)
}

// close leaves the bar as it is and gives the terminal back.
func (m *meter) close() {
	if m == nil {
		return
	}
	m.bar.Abort(false)
	m.progress.Wait()
}
