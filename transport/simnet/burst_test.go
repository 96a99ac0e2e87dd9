package simnet_test

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"ckt.local/transport/simnet"
)

// lostRuns sends packets every gap and returns the lengths of the runs of
// losses.
func lostRuns(t *testing.T, link simnet.Link, packets int, gap time.Duration) (runs []int) {
	bubble(t, 3, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(link)
		a, b := open(t, n, alice), open(t, n, bob)
		for i := range packets {
			write(t, a, bob, strconv.Itoa(i))
			time.Sleep(gap)
		}
		next := 0
		for _, r := range listen(t, b, time.Second) {
			i, err := strconv.Atoi(r.payload)
			if err != nil {
				t.Fatal(err)
			}
			if i > next {
				runs = append(runs, i-next)
			}
			next = i + 1
		}
		lost := uint64(packets - next)
		for _, r := range runs {
			lost += uint64(r)
		}
		if got := counters(n, alice, bob).Dropped; got != (simnet.Drops{Burst: lost}) {
			t.Errorf("drops %+v, want %d in bursts", got, lost)
		}
	})
	return runs
}

func TestBurstsHaveTheirLength(t *testing.T) {
	const packets, enter = 20_000, 0.005
	for _, length := range []float64{0, 1, 8, 40} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			runs := lostRuns(t, simnet.Link{Burst: simnet.Burst{Enter: enter, Length: length}}, packets, 0)
			sum := 0
			for _, r := range runs {
				sum += r
			}
			mean, want := float64(sum)/float64(len(runs)), max(length, 1)
			if math.Abs(mean-want) > want/4 {
				t.Errorf("the mean of %d bursts is %.2f packets, want %v", len(runs), mean, want)
			}
			// Of n packets, those outside of bursts may begin one.
			bursts := packets * enter / (1 + enter*want)
			if math.Abs(float64(len(runs))-bursts) > 4*math.Sqrt(bursts) {
				t.Errorf("%d bursts, want about %.0f", len(runs), bursts)
			}
		})
	}
}

func TestBurstsEndInTime(t *testing.T) {
	for _, tc := range []struct {
		limit time.Duration
		want  int // the longest run, of packets 100 ms apart
	}{
		{0, 10},
		{time.Second, 10},
		{300 * ms, 3},
		{1, 1},
	} {
		link := simnet.Link{Burst: simnet.Burst{Enter: 0.01, Length: math.Inf(1), Limit: tc.limit}}
		runs := lostRuns(t, link, 5000, 100*ms)
		// One burst may begin where another has just ended.
		slices.Sort(runs)
		if median := runs[len(runs)/2]; len(runs) < 20 || median != tc.want {
			t.Errorf("limit %v: of %d bursts the median loses %d packets, want %d", tc.limit, len(runs), median, tc.want)
		}
	}
	endless := simnet.Link{Burst: simnet.Burst{Enter: 1, Length: math.Inf(1), Limit: -1}}
	if runs := lostRuns(t, endless, 1000, time.Hour); len(runs) != 0 {
		t.Errorf("a burst without end has ended: %v", runs)
	}
}

func TestBurstMayLoseAPart(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Burst: simnet.Burst{Enter: 1, Length: 1000, Loss: 0.3}})
		a, _ := open(t, n, alice), open(t, n, bob)
		const packets = 5000
		for range packets {
			write(t, a, bob, "x")
		}
		got := float64(counters(n, alice, bob).Dropped.Burst)
		if slack := 4 * math.Sqrt(packets*0.3*0.7); math.Abs(got-0.3*packets) > slack {
			t.Errorf("%v of %d packets lost, want 30%%", got, packets)
		}
		n.SetDefault(simnet.Link{})
		before := counters(n, alice, bob).Dropped
		for range 100 {
			write(t, a, bob, "x")
		}
		if got := counters(n, alice, bob).Dropped; got != before {
			t.Errorf("a burst goes on after its link: %+v, then %+v", before, got)
		}
	})
}

// What the queue and the MTU do to packets leaves the bursts where they are.
func TestBurstsDependOnOrdinalsAlone(t *testing.T) {
	lost := func(link simnet.Link) map[string]bool {
		missing := map[string]bool{}
		bubble(t, 5, func(t *testing.T, n *simnet.Network) {
			link.Burst = simnet.Burst{Enter: 0.02, Length: 10}
			n.SetDefault(link)
			a, b := open(t, n, alice), open(t, n, bob)
			for i := range 2000 {
				// Every third one is large.
				p := fmt.Sprintf("%0*d", 10+90*(i%3/2), i)
				write(t, a, bob, p)
				missing[p] = true
			}
			for _, r := range listen(t, b, time.Hour) {
				delete(missing, r.payload)
			}
		})
		return missing
	}
	plain, jittered := lost(simnet.Link{}), lost(simnet.Link{Jitter: time.Second, Latency: time.Second, Reorder: 0.5})
	if len(plain) < 100 || !reflect.DeepEqual(plain, jittered) {
		t.Errorf("%d packets lost, with jitter %d: want the same, more than 100", len(plain), len(jittered))
	}
	low := lost(simnet.Link{MTU: 50})
	maps.DeleteFunc(low, func(p string, _ bool) bool { return len(p) > 50 })
	maps.DeleteFunc(plain, func(p string, _ bool) bool { return len(p) > 50 })
	if len(plain) < 100 || !reflect.DeepEqual(plain, low) {
		t.Errorf("%d small packets lost, with a small MTU %d: want the same, more than 100", len(plain), len(low))
	}
}

func TestReorderHoldsBack(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 10 * ms, Jitter: ms, Reorder: 0.25, ReorderDelay: 7 * ms, Duplicate: 0.5})
		a, b := open(t, n, alice), open(t, n, bob)
		const packets = 4000
		for range packets {
			write(t, a, bob, "x")
		}
		var late uint64
		var jitter time.Duration
		for _, r := range listen(t, b, time.Second) {
			switch {
			case r.at >= 10*ms && r.at <= 11*ms:
			case r.at >= 17*ms && r.at <= 18*ms:
				late++
				jitter += r.at - 17*ms
			default:
				t.Fatalf("a packet after %v", r.at)
			}
		}
		if mean := jitter / time.Duration(late); mean < 470*time.Microsecond || mean > 530*time.Microsecond {
			t.Errorf("the mean jitter of those held back is %v, want half a millisecond", mean)
		}
		c := counters(n, alice, bob)
		if c.HeldBack != late {
			t.Errorf("%d counted, %d came late", c.HeldBack, late)
		}
		copies := float64(packets + c.Duplicated)
		if slack := 4 * math.Sqrt(copies*0.25*0.75); math.Abs(float64(late)-copies/4) > slack {
			t.Errorf("%d of %v copies held back, want a quarter", late, copies)
		}
	})
}
