package peertest_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// The flags of the campaign.
var (
	simSeeds = flag.Int("sim.seeds", 20, "how many seeds the campaign runs")
	simFirst = flag.Uint64("sim.first", 1, "the first one of them")
	simSeed  = flag.Uint64("sim.seed", 0, "run this seed alone")
	simLimit = flag.Duration("sim.limit", 20*time.Second, "real time that a seed may take; with the race detector five times as much")
	simKeep  = flag.Bool("sim.keep", false, "with -artifacts: keep what seeds that pass have done, too")
	simSame  = flag.Int("sim.same", 0, "how many times TestCampaignSameTrace runs each of its seeds")
	simChild = flag.Uint64("sim.child", 0, "run this seed in this process: the campaign asks its children for it")
)

// TestCampaign runs generated workloads over the shipped code in simulated
// networks that fail in every way, and holds what comes of them to the promise
// of docs/reliability.md. What a seed does follows from it alone.
func TestCampaign(t *testing.T) {
	if *simChild != 0 {
		runChild(t, *simChild)
		return
	}
	c := newCampaign(t)
	for _, o := range c.run(seedsOfFlags()) {
		if len(o.Errors) > 0 {
			t.Errorf("seed %d fails\n%s", o.Seed, o.failure())
		}
	}
	t.Logf("%v", &c.sum)
}

// failure tells what is wrong with a seed, and how to see it again.
func (s *summary) failure() string {
	var b strings.Builder
	fmt.Fprintf(&b, "    to see it again: go test ./peer/peertest -run '^TestCampaign$' -sim.seed=%d -artifacts%s\n", s.Seed, raceFlag())
	fmt.Fprintf(&b, "    what happened, and what went over the network, is in %s\n", cmp.Or(s.Kept, "no file: the process has died"))
	for _, err := range s.Errors[:min(len(s.Errors), 3)] {
		fmt.Fprintf(&b, "    %s\n", err)
	}
	return b.String()
}

// seedsOfFlags returns the seeds that the flags ask for.
func seedsOfFlags() []uint64 {
	if *simSeed != 0 {
		return []uint64{*simSeed}
	}
	var seeds []uint64
	for i := range *simSeeds {
		seeds = append(seeds, *simFirst+uint64(i))
	}
	return seeds
}

// resultMark begins the line with the summary of a child.
const resultMark = "\x01sim "

// runChild runs one seed and tells the parent what has come of it.
func runChild(t *testing.T, seed uint64) {
	debug.SetTraceback("all")
	limit := *simLimit * raceFactor()
	late := time.AfterFunc(limit, func() { panic(fmt.Sprintf("seed %d: not over after %v of real time", seed, limit)) })
	defer late.Stop()
	runSeed(t, seed, func(s *summary) {
		line, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\n%s%s\n", resultMark, line)
	})
}

// TestCampaignSameTrace runs each seed several times, and nearly all of them
// must send the same packets at the same times in every run: then a seed that
// fails can be seen to fail again. The rest differs because Go lets chance
// decide between timers of one instant and between cases of a select, and
// preempts goroutines by real time. It wants a machine that is not busy.
func TestCampaignSameTrace(t *testing.T) {
	if *simSame == 0 {
		t.Skip("takes -sim.same")
	}
	seeds := seedsOfFlags()
	var runs []uint64
	for _, seed := range seeds {
		for range *simSame {
			runs = append(runs, seed)
		}
	}
	c := newCampaign(t)
	c.workers = 1 // a process that has to wait for a processor preempts its goroutines when it gets one
	traces := make(map[uint64]map[uint64]int)
	for _, o := range c.run(runs) {
		if traces[o.Seed] == nil {
			traces[o.Seed] = make(map[uint64]int)
		}
		traces[o.Seed][o.Trace]++
	}
	same := 0
	for _, seed := range seeds {
		if len(traces[seed]) == 1 {
			same++
			continue
		}
		t.Logf("seed %d has %d traces in %d runs: %v", seed, len(traces[seed]), *simSame, traces[seed])
	}
	t.Logf("%d of %d seeds have one trace in %d runs each", same, len(seeds), *simSame)
	if same*20 < len(seeds)*19 {
		t.Errorf("want one trace of 19 seeds in 20 at least")
	}
}
