package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain makes the test's own program the children of the smoke test.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == childFlag {
		if err := runChild(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

// TestEveryContenderInEveryWorkload runs everything for some milliseconds. That
// counts are exact is checked by the client itself: it fails otherwise.
func TestEveryContenderInEveryWorkload(t *testing.T) {
	var out strings.Builder
	dir := t.TempDir()
	args := []string{"-rounds", "1", "-time", "0.02", "-idle-channels", "50", "-repeats", "0", "-json", "-report", dir}
	if err := bencher(t.Context(), args, &out); err != nil {
		t.Error(err)
	}
	var rep report
	if err := json.Unmarshal([]byte(out.String()), &rep); err != nil {
		t.Fatal(err)
	}
	for _, c := range contenders() {
		a := c.about()
		for _, w := range workloads() {
			checkResult(t, &rep, a, w)
		}
	}
	if _, err := os.Stat(dir + "/" + resultsFile); err != nil {
		t.Error(err)
	}
}

func checkResult(t *testing.T, rep *report, a about, w workload) {
	t.Helper()
	if msg := rep.failure(a.name, w.name); msg != "" {
		t.Errorf("%s, %s: %s", a.name, w.name, msg)
	}
	n := rep.median(key{a.name, w.name, metricMessages})
	switch measured := n > 0; {
	case a.lacking(w) != "" && measured:
		t.Errorf("%s, %s: measured, although it lacks that", a.name, w.name)
	case a.lacking(w) == "" && !measured:
		t.Errorf("%s, %s: not measured", a.name, w.name)
	}
}

// After an interrupt there is what was measured before, and no child.
func TestInterruptedRunPrintsWhatThereIs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	var out strings.Builder
	began := time.Now()
	err := bencher(ctx, []string{"-contenders", "tcp", "-workloads", "ping", "-rounds", "10000", "-time", "0.01"}, &out)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	if !strings.Contains(out.String(), "BenchmarkPing/contender=tcp ") {
		t.Errorf("nothing that was measured is printed:\n%s", out.String())
	}
}

// A child whose count is wrong makes a failure of the measurement, and of the
// program.
func TestWrongCountFails(t *testing.T) {
	ch := &lyingChannel{}
	left := 3
	_, err := sendOne(ch, pingSize, func() bool { left--; return left >= 0 })
	if err == nil || !strings.Contains(err.Error(), "the server has counted") {
		t.Errorf("the error is %v", err)
	}
}

// A lyingChannel loses a message.
type lyingChannel struct{ got tally }

func (c *lyingChannel) send(msg []byte) error {
	if msg[0] == kindSwallow {
		c.got.messages++
		c.got.bytes += uint64(len(msg))
	}
	return nil
}

func (c *lyingChannel) flush() error { return nil }

func (c *lyingChannel) receive(take func([]byte) bool) error {
	c.got.messages--
	take(c.got.encode())
	return nil
}

func (c *lyingChannel) close() error { return nil }
