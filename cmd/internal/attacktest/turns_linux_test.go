package attacktest

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// schedulerWait is how long a thread is without a processor when attacker, node
// and pair keep all of them busy: 99 of 100 waits are shorter. How long the turns
// are that a kernel gives depends on its clock (CONFIG_HZ) and its configuration,
// so that is measured, before any of the three runs. No node can answer sooner
// for certain.
func schedulerWait(t *testing.T) time.Duration {
	t.Helper()
	threads := 3 * runtime.NumCPU()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
	waits := make([][]time.Duration, threads)
	var wg sync.WaitGroup
	for i := range waits {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			last := time.Now()
			for end := last.Add(time.Second); last.Before(end); {
				now := time.Now()
				if gap := now.Sub(last); gap > 300*time.Microsecond { // less is an interrupt
					waits[i] = append(waits[i], gap)
				}
				last = now
			}
		})
	}
	wg.Wait()
	all := slices.Concat(waits...)
	if len(all) == 0 {
		t.Fatalf("%d threads on %d processors have not waited for one", threads, runtime.NumCPU())
	}
	slices.Sort(all)
	wait := all[len(all)*99/100]
	t.Logf("a thread waits for a processor up to %v while %d are busy", wait.Round(10*time.Microsecond), threads)
	return wait
}
