package circuit_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"ckt.local/circuit"
)

// usage is what the process holds after garbage collection.
type usage struct {
	heap, stack uint64
	goroutines  int
}

func measure() usage {
	for range 4 { // each collection may shrink stacks by half, and empty one pool generation
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{m.HeapAlloc, m.StackInuse, runtime.NumGoroutine()}
}

// takeAll keeps what the other side opens, until it ends.
func takeAll(s *side, keep func(*circuit.Circuit)) {
	for c := range s.news {
		keep(c)
	}
}

// What a circuit costs includes the goroutine that waits in Fragments, at each
// end, and nothing else runs for it.
func TestIdleCircuitsAreSmall(t *testing.T) {
	p := newPair(t, circuit.Config{})
	a0, _ := p.openCircuit(t, nil) // whatever the first one brings with it does not count
	before := measure()
	n := 10_000
	if raceDetector {
		n = 2000
	}
	wait := func(c *circuit.Circuit) {
		for range c.Fragments(context.Background()) {
		}
	}
	go takeAll(p.b, func(c *circuit.Circuit) {
		go func() {
			c.SendOneWay(<-c.Reads)
			wait(c)
		}()
	})
	for range n {
		c, err := p.a.link.Open(t.Context(), p.a.params(frag(1, "each circuit has been used")))
		if err != nil {
			t.Fatal(err)
		}
		<-c.Reads
		go wait(c)
	}
	soon(t, "each circuit has one goroutine at each end", func() bool {
		return runtime.NumGoroutine() <= before.goroutines+2*n+n/100
	})
	after := measure()
	ends := float64(2 * n)
	per := float64(after.heap-before.heap+after.stack-before.stack) / ends
	t.Logf("%.0f bytes per circuit and end: heap %.0f, stacks %.0f; %.2f goroutines", per,
		float64(after.heap-before.heap)/ends, float64(after.stack-before.stack)/ends,
		float64(after.goroutines-before.goroutines)/ends)
	most := 9.5 * 1024 // how much a stack shrinks depends on when collections were
	if raceDetector {
		// Its frames are larger, and a stack is a power of two: without stacks.
		per, most = float64(after.heap-before.heap)/ends, 5.5*1024
	}
	if per > most {
		t.Errorf("an idle circuit costs %.0f bytes per end, want at most %.0f", per, most)
	}
	runtime.KeepAlive(a0)
}

// The process has a thousand circuits open meanwhile, so that half a percent of
// its heap is about what a connection's own state goes up and down by, and 1
// byte for each cycle of a round; 5 with the race detector, where a cycle takes
// ten times as long.
func TestOpenAndCloseLeaveNothing(t *testing.T) {
	p := newPair(t, circuit.Config{})
	const idle = 1000
	warm, round := 20_000, 50_000
	if raceDetector {
		warm, round = 5000, 10_000
	}
	go takeAll(p.b, func(c *circuit.Circuit) {
		go func() {
			for range c.Reads {
			}
		}()
	})
	for range idle {
		if _, err := p.a.link.Open(t.Context(), p.a.params(nil)); err != nil {
			t.Fatal(err)
		}
	}
	cycles := func(n int) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range n / 8 {
					c, err := p.a.link.Open(context.Background(), p.a.params(frag(1, "x")))
					if err != nil {
						t.Error(err)
						return
					}
					c.Close()
				}
			})
		}
		wg.Wait()
	}
	settled := func() usage {
		for p.a.count() > idle || p.b.count() > idle || p.a.link.Leftover() > idle || p.b.link.Leftover() > idle {
			<-time.After(time.Millisecond)
		}
		return measure()
	}
	cycles(warm) // pools, maps and the runtime's own tables have their size now
	before := settled()
	after := before
	// A leak grows with every round. A map that doubles, because the keys that
	// come and go have filled it up by chance, does so once.
	for i := range 4 {
		cycles(round)
		after = settled()
		t.Logf("heap %d -> %d bytes, goroutines %d -> %d", before.heap, after.heap, before.goroutines, after.goroutines)
		if float64(after.heap) <= 1.005*float64(before.heap) {
			break
		}
		if i == 3 {
			t.Errorf("the heap grows with every %d cycles, at last from %d to %d bytes, more than 0.5 %%", round, before.heap, after.heap)
		}
		before.heap = after.heap
	}
	// One that has done its last work may not be gone yet.
	soon(t, fmt.Sprintf("no more goroutines than the %d before", before.goroutines), func() bool {
		return runtime.NumGoroutine() <= before.goroutines
	})
}
