package peertest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// A campaign runs seeds in child processes, each in one of its own with one
// processor: only then does a seed run in the same way again. There are as many
// children at a time as processors.
type campaign struct {
	t     *testing.T
	began time.Time
	env   []string // for the children

	workers      int  // children at a time
	untilFailure bool // the first seed that fails is the last one

	mu     sync.Mutex // guards what follows
	next   []uint64
	outs   []summary
	sum    summary
	said   time.Time // when progress was told last
	enough bool      // no more seeds
}

func newCampaign(t *testing.T) *campaign {
	return &campaign{t: t, began: time.Now(), workers: runtime.NumCPU(), said: time.Now()}
}

// run runs the seeds and returns what has come of each, in the order in which
// they were over.
func (c *campaign) run(seeds []uint64) []summary {
	c.next = seeds
	var wg sync.WaitGroup
	for range min(c.workers, len(seeds)) {
		wg.Go(func() {
			for seed, ok := c.take(); ok; seed, ok = c.take() {
				c.result(c.child(seed))
			}
		})
	}
	wg.Wait()
	c.sum.Real = time.Since(c.began)
	return c.outs
}

func (c *campaign) take() (uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.next) == 0 || c.enough {
		return 0, false
	}
	seed := c.next[0]
	c.next = c.next[1:]
	return seed, true
}

// result counts what has come of a seed, and tells now and then how far the
// campaign is.
func (c *campaign) result(o summary) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outs = append(c.outs, o)
	c.sum.add(o)
	if len(o.Errors) > 0 && !c.untilFailure {
		fmt.Fprintf(os.Stderr, "campaign: seed %d fails\n%s", o.Seed, o.failure())
	}
	c.enough = c.untilFailure && len(o.Errors) > 0
	if len(c.next) > 0 && time.Since(c.said) > 10*time.Second {
		c.said = time.Now()
		fmt.Fprintf(os.Stderr, "campaign: %d seeds run, %d failed, %d to go, %v\n",
			c.sum.Seeds, c.sum.Failed, len(c.next), time.Since(c.began).Round(time.Second))
	}
}

// child runs one seed in a process of its own.
func (c *campaign) child(seed uint64) summary {
	// The child ends itself, with all its stacks, if it can.
	ctx, cancel := context.WithTimeout(context.Background(), *simLimit*raceFactor()+time.Minute)
	defer cancel()
	args := []string{"-test.run=^TestCampaign$", fmt.Sprintf("-sim.child=%d", seed), "-test.timeout=0"}
	for _, name := range []string{"test.artifacts", "test.outputdir", "sim.limit", "sim.keep"} {
		args = append(args, "-"+name+"="+flag.Lookup(name).Value.String())
	}
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), childEnv()...), c.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	o, told := parseResult(stdout.String())
	o.Seed = seed
	if !told || err != nil && len(o.Errors) == 0 || ctx.Err() != nil {
		o.Errors = append(o.Errors, fmt.Sprintf("the process has died (%v):\n%s\n%s",
			err, cut(stderr.String()), cut(stdout.String())))
	}
	return o
}

// childEnv makes runs of a seed alike: the collector stops goroutines when it
// likes, and the memory profile draws from the same random numbers as select.
// And the race detector would sleep for a second before the process ends.
func childEnv() []string {
	return []string{
		"GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=1GiB", "GODEBUG=memprofilerate=0",
		"GORACE=atexit_sleep_ms=0",
	}
}

// parseResult finds the last summary in what a child has said.
func parseResult(out string) (o summary, told bool) {
	for line := range strings.Lines(out) {
		if text, ok := strings.CutPrefix(line, resultMark); ok {
			o = summary{}
			told = json.Unmarshal([]byte(text), &o) == nil
		}
	}
	return o, told
}

// cut shortens the stacks of a process that has panicked.
func cut(s string) string {
	const most = 6000
	if len(s) <= most {
		return s
	}
	return s[:most] + "\n(cut)"
}
