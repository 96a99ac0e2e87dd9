package circuit_test

import (
	"runtime"
	"strings"
	"testing"

	"ckt.local/circuit"
)

// TestAllocations sends one way and counts what is allocated for it at both
// ends together, of which the promise is 1.5 for a small fragment, at either,
// and none of this package's own for one of 64 KiB whose receiver releases it:
// what is left is what pools lose at collections, which QUIC's allocations cause.
func TestAllocations(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector has pools forget at random, and allocates itself")
	}
	p := newPair(t, circuit.Config{})
	for _, c := range []struct {
		name              string
		size, n           int
		release           bool
		mostOwn, mostEver float64
	}{
		{"64 B, kept", 64, 200_000, false, 0.5, 1.5},
		{"64 B, released", 64, 200_000, true, 0.1, 1.5},
		{"1 KiB, released", 1 << 10, 50_000, true, 0.2, 10},
		{"64 KiB, released", 64 << 10, 4000, true, 0.25, 400},
	} {
		out, in := p.openCircuit(t, nil)
		send := func(n int) {
			done := make(chan error)
			go func() {
				f := &circuit.Fragment{Payload: make([]byte, c.size)}
				for range n {
					if err := out.Send(t.Context(), f); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
			for f := range in.Fragments(t.Context()) {
				if c.release {
					f.Release()
				}
				if n--; n == 0 {
					break
				}
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		send(c.n / 10) // fills the pools, and the window grows
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		send(c.n)
		runtime.ReadMemStats(&after)
		ever := float64(after.Mallocs-before.Mallocs) / float64(c.n)
		own := ownAllocations(t, func() { send(c.n) }) / float64(c.n)
		t.Logf("%s: %.3f allocations per fragment at both ends, %.4f of this package's own", c.name, ever, own)
		if own > c.mostOwn || ever > c.mostEver {
			t.Errorf("%s: %.3f allocations, %.4f of this package's own, want at most %g and %g", c.name, ever, own, c.mostEver, c.mostOwn)
		}
		out.Close()
	}
}

// ownAllocations counts what this package allocates while f runs: what the
// innermost function that is not the runtime's, or a pool's, belongs to.
func ownAllocations(t *testing.T, f func()) float64 {
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	runtime.MemProfileRate = 1
	before := countOwn(t)
	f()
	return float64(countOwn(t) - before)
}

func countOwn(t *testing.T) (sum int64) {
	runtime.GC()
	runtime.GC() // publishes what the profile has of the cycle before
	records := make([]runtime.MemProfileRecord, 20_000)
	n, ok := runtime.MemProfile(records, true)
	if !ok {
		t.Fatalf("%d stacks in the profile", n)
	}
	for _, r := range records[:n] {
		frames := runtime.CallersFrames(r.Stack())
		for {
			frame, more := frames.Next()
			if !strings.HasPrefix(frame.Function, "runtime.") && !strings.HasPrefix(frame.Function, "sync.") {
				if strings.HasPrefix(frame.Function, "ckt.local/circuit.") {
					sum += r.AllocObjects
				}
				break
			}
			if !more {
				break
			}
		}
	}
	return sum
}
