package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A noise is what else the machine did during a run.
type noise struct {
	Calibrations []float64 // ms that a fixed amount of work took, before each round
	Others       []float64 // by round: share of the machine that other processes had
	Measured     int       // measurements
	Repeated     int       // attempts that were thrown away because others had too much
	Disturbed    int       // measurements in which others had too much, every time
	Steal        []float64 // by round: share that another machine on the same host had
	LoadBefore   float64   // average of the last minute
	LoadAfter    float64
}

// Beyond these a run is not to be believed.
const (
	mostSpread    = 0.15
	mostSteal     = 0.03
	mostLoad      = 2.0  // before the run, by core; building this program is a load too
	mostDisturbed = 0.05 // of the measurements
)

// mostOthers is the share of the machine that other processes may have while
// something is measured.
const mostOthers = 0.10

// verdict says what was wrong with the time of the run, nothing if it was quiet.
func (n noise) verdict(cores int) []string {
	var out []string
	if s := spread(n.Calibrations); s > mostSpread {
		out = append(out, fmt.Sprintf("the same work took up to %.0f %% longer in one round than in another", 100*s))
	}
	if float64(n.Disturbed) > mostDisturbed*float64(n.Measured) {
		out = append(out, fmt.Sprintf("other processes had more than %.0f %% of the machine in %d of %d measurements",
			100*mostOthers, n.Disturbed, n.Measured))
	}
	if s := largest(n.Steal); s > mostSteal {
		out = append(out, fmt.Sprintf("up to %.0f %% of the machine was stolen by its host", 100*s))
	}
	if n.LoadBefore > mostLoad*float64(cores) {
		out = append(out, fmt.Sprintf("the load was %.1f on %d cores before it began", n.LoadBefore, cores))
	}
	return out
}

func largest(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Max(values)
}

// calibrate returns how many milliseconds a fixed amount of work on every core
// takes: the best of a few, because it is about the machine, not about what else
// runs for a moment.
func calibrate() float64 {
	return min(calibrateOnce(), calibrateOnce(), calibrateOnce())
}

func calibrateOnce() float64 {
	const steps = 1 << 25
	began := time.Now()
	each(runtime.NumCPU(), func(i int) error {
		x := uint64(i + 1)
		for range steps {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		if x == 0 { // it never is, and the compiler does not know
			return errors.New("zero")
		}
		return nil
	})
	return float64(time.Since(began)) / float64(time.Millisecond)
}

// A ticks is what the kernel has counted so far, in seconds of one core.
type ticks struct{ busy, steal, total, own float64 }

// userHZ is the unit of /proc/stat on every Linux there is.
const userHZ = 100

func ticksNow() (ticks, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return ticks{}, err
	}
	t, err := parseStat(text)
	if err != nil {
		return t, err
	}
	self, err := cpuOf(syscall.RUSAGE_SELF)
	if err != nil {
		return t, err
	}
	children, err := cpuOf(syscall.RUSAGE_CHILDREN)
	t.own = (self + children).Seconds()
	return t, err
}

// parseStat reads the first line: user, nice, system, idle, iowait, irq,
// softirq, steal. What interrupts take belongs to nobody.
func parseStat(text []byte) (ticks, error) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return ticks{}, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var n [8]float64
	for i := range n {
		v, err := strconv.ParseFloat(fields[i+1], 64)
		if err != nil {
			return ticks{}, fmt.Errorf("/proc/stat: %w", err)
		}
		n[i] = v / userHZ
	}
	t := ticks{busy: n[0] + n[1] + n[2], steal: n[7]}
	for _, v := range n {
		t.total += v
	}
	return t, nil
}

// shares returns what others and the host had between two looks. Children count
// as own once they have been waited for.
func shares(before, after ticks) (others, steal float64) {
	total := after.total - before.total
	if total <= 0 {
		return 0, 0
	}
	foreign := after.busy - before.busy - (after.own - before.own)
	return math.Max(0, foreign/total), (after.steal - before.steal) / total
}

// loadNow is the load average of the last minute, 0 if nobody knows.
func loadNow() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return v
}
