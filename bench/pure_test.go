package main

import (
	"errors"
	"flag"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, c := range []struct {
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{nil, 50, 0},
		{hundred[:1], 99, 1},
		{hundred[:2], 50, 1},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{hundred, 0, 1},
	} {
		if got := percentile(c.sorted, c.p); got != c.want {
			t.Errorf("percentile %g of %d samples is %d, not %d", c.p, len(c.sorted), got, c.want)
		}
	}
}

func TestMedianSpreadRatio(t *testing.T) {
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("median of an odd number: %g", got)
	}
	if got := median([]float64{4, 1, 2, 3}); got != 2.5 {
		t.Errorf("median of an even number: %g", got)
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of none: %g", got)
	}
	if got := spread([]float64{100, 120, 110}); math.Abs(got-0.2) > 1e-9 {
		t.Errorf("spread: %g", got)
	}
	if got := spread([]float64{100}); got != 0 {
		t.Errorf("spread of one: %g", got)
	}
	if got := ratio(1, 0); !math.IsNaN(got) {
		t.Errorf("ratio to nothing: %g", got)
	}
}

func TestFigure(t *testing.T) {
	for want, v := range map[string]float64{
		"0.00": 0, "0.05": 0.05, "1.50": 1.5, "12.3": 12.34, "8192": 8192, "12.0 k": 12_000, "3.80 M": 3.8e6, "2.00 G": 2e9, "0.0003": 0.0003,
	} {
		if got := figure(v); got != want {
			t.Errorf("%g is written %q, not %q", v, got, want)
		}
	}
}

func TestVerdict(t *testing.T) {
	quiet := noise{Calibrations: []float64{100, 105, 110}, Measured: 100, Disturbed: 5, Steal: []float64{0}, LoadBefore: 1.5}
	if got := quiet.verdict(2); len(got) != 0 {
		t.Errorf("a quiet machine: %q", got)
	}
	for name, spoil := range map[string]func(*noise){
		"longer in one round": func(n *noise) { n.Calibrations = []float64{100, 130} },
		"in 6 of 100":         func(n *noise) { n.Disturbed = 6 },
		"stolen":              func(n *noise) { n.Steal = []float64{0.1} },
		"load was 4.5":        func(n *noise) { n.LoadBefore = 4.5 },
	} {
		n := quiet
		spoil(&n)
		if got := n.verdict(2); len(got) != 1 || !strings.Contains(got[0], name) {
			t.Errorf("%q: %q", name, got)
		}
	}
}

// The least disturbed attempt counts, and there are no more than are allowed.
func TestUndisturbed(t *testing.T) {
	r := &runner{opt: options{repeats: 2}}
	attempts := []float64{0.5, 0.2, 0.3, 0}
	got, err := r.undisturbed(func() (metrics, error) {
		m := metrics{metricOthers: attempts[0]}
		attempts = attempts[1:]
		return m, nil
	})
	if err != nil || got[metricOthers] != 0.2 || len(attempts) != 1 {
		t.Errorf("%v, %v, %v left", got, err, attempts)
	}
	if want := (noise{Measured: 1, Repeated: 2, Disturbed: 1}); !reflect.DeepEqual(r.noise, want) {
		t.Errorf("%+v", r.noise)
	}
	if got, _ := r.undisturbed(func() (metrics, error) { return metrics{metricOthers: mostOthers}, nil }); len(got) != 1 || r.noise.Repeated != 2 {
		t.Errorf("a quiet one was repeated: %+v", r.noise)
	}
}

func TestParseStatAndShares(t *testing.T) {
	before, err := parseStat([]byte("cpu  100 0 100 800 0 5 5 0 0 0\ncpu0 1 2 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := parseStat([]byte("cpu  200 0 200 850 0 5 5 50 0 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	after.own = 1.4 // of 2 s that were busy, of 3 s in all
	others, steal := shares(before, after)
	if math.Abs(others-0.2) > 1e-9 || math.Abs(steal-0.5/3) > 1e-9 {
		t.Errorf("others %g, steal %g", others, steal)
	}
	if _, err := parseStat([]byte("cpu 1 2")); err == nil {
		t.Error("a short line is taken")
	}
	if others, steal := shares(after, after); others != 0 || steal != 0 {
		t.Errorf("in no time: %g, %g", others, steal)
	}
}

func TestCPUModel(t *testing.T) {
	if got := cpuModel("processor\t: 0\nmodel name\t: Fast 3000 @ 3 GHz\n"); got != "Fast 3000 @ 3 GHz" {
		t.Errorf("%q", got)
	}
	if got := cpuModel("nothing"); got != "unknown" {
		t.Errorf("%q", got)
	}
}

func TestParseOptions(t *testing.T) {
	o, err := parseOptions([]string{"-contenders", "ckt, grpc", "-workloads", "small", "-rounds", "3", "-time", "0.5", "-json"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.contenders, []string{"ckt", "grpc"}) || !slices.Equal(o.workloads, []string{"small"}) || o.rounds != 3 || o.seconds != 0.5 || !o.json {
		t.Errorf("%+v", o)
	}
	var help strings.Builder
	if _, err := parseOptions([]string{"-help"}, &help); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-help: %v", err)
	}
	for _, w := range slices.Concat([]string{"Example", "-rounds"}, contenderNames(), workloadNames()) {
		if !strings.Contains(help.String(), w) {
			t.Errorf("the help does not have %q", w)
		}
	}
	for _, args := range [][]string{
		{"-contenders", "nobody"}, {"-workloads", "nothing"}, {"-time", "0"}, {"-rounds", "-1"}, {"more"}, {"-idle-channels", "-5"},
	} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

func TestSession(t *testing.T) {
	var s session
	for range 3 {
		if back, err := s.take(message(kindSwallow, 10)); back != nil || err != nil {
			t.Fatalf("%q, %v", back, err)
		}
	}
	back, err := s.take(message(kindDone, 1))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeTally(back); err != nil || got != (tally{3, 30}) {
		t.Errorf("%v, %v", got, err)
	}
	back, _ = s.take(message(kindDone, 1))
	if got, err := decodeTally(back); err != nil || got != (tally{}) {
		t.Errorf("after it was told: %v, %v", got, err)
	}
	echo := message(kindEcho, 64)
	if back, err := s.take(echo); err != nil || !slices.Equal(back, echo) {
		t.Errorf("%q, %v", back, err)
	}
	for _, bad := range [][]byte{nil, {'?'}} {
		if _, err := s.take(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, err := decodeTally(echo); err == nil {
		t.Error("an echo is taken for a count")
	}
}
