package couriertest

import (
	"fmt"
	"testing"
	"time"
)

func TestLossyPath(t *testing.T) {
	t.Parallel()
	for percent, count := range map[int]string{1: "4000", 5: "2000", 20: "800"} {
		t.Run(fmt.Sprint(percent, "%"), func(t *testing.T) {
			t.Parallel()
			dialler, acceptor, a, b := apart(t)
			a.Lose(percent)
			b.Lose(percent)
			p := acceptor.Start("-count", count)
			d := dialler.Start("-count", count, "-dial", p.URL)
			begin := time.Now()
			done, _ := compare(t, d, p)
			t.Logf("%d fragments each way in %v", done.Received-1, time.Since(begin).Round(time.Millisecond))
			neverLost(t, d, p)
		})
	}
}

// Long packets vanish on the way to either side, or are refused here.
func TestNarrowPath(t *testing.T) {
	t.Parallel()
	for name, at := range map[string][2]int{"there": {1500, 1300}, "back": {1300, 1500}, "both": {1280, 1280}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dialler, acceptor, a, b := apart(t)
			a.SetMTU(at[0])
			b.SetMTU(at[1])
			p := acceptor.Start("-count", "500", "-size", "16384")
			d := dialler.Start("-count", "500", "-size", "16384", "-dial", p.URL)
			compare(t, d, p)
			neverLost(t, d, p)
		})
	}
}

// A path that is slow is no path that is lost: about 1 MB each way at 1
// Mbit/s.
func TestSlowPath(t *testing.T) {
	t.Parallel()
	dialler, acceptor, a, b := apart(t)
	a.Shape(1_000_000, 60_000)
	b.Shape(1_000_000, 60_000)
	p := acceptor.Start("-count", "64", "-size", "32768")
	d := dialler.Start("-count", "64", "-size", "32768", "-dial", p.URL)
	begin := time.Now()
	compare(t, d, p)
	t.Logf("took %v", time.Since(begin).Round(time.Millisecond))
	neverLost(t, d, p)
}
