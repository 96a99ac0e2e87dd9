package attacktest

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// An attack is one case.
type attack struct {
	name  string
	tries [2]int // at least so many, in quick and in full; one round if that is more

	// round does some tries and returns how many. It is called again until
	// there are enough of them, and enough round trips of the honest pair.
	round func(t *testing.T, a *arena) int
}

// A row is what a case has shown.
type row struct {
	name         string
	tries        int
	reacted      int // of those that a round waits for
	took         time.Duration
	grown        int64 // peak of resident memory, over the start
	quiet, under *window
	lines        int
	most         string // the message with the most lines
	mostLines    int
	again        int // how often it was measured again
}

// maxLines is how many records of one message a case may leave, and how many
// more for each second it takes.
const maxLines, maxLinesPerSecond = 64, 1

// run attacks, and checks everything that has to hold after every attack.
func (a *arena) run(t *testing.T, at attack, r *row) {
	t.Helper()
	for ; ; r.again++ {
		r.quiet = a.quiet(t)
		a.once(t, at, r)
		slow := r.under.P99 > a.patienceOf(r.quiet)
		if !slow || t.Failed() {
			break
		}
		if r.again == 2 {
			t.Errorf("the honest pair's p99 is %v under attack, and %v in quiet: more than three times, three times in a row", r.under.P99, r.quiet.P99)
			break
		}
		t.Logf("p99 %v after %v: once more", r.under.P99, r.quiet.P99)
		a.calm = nil
	}
}

// patienceOf is the highest p99 that passes.
func (a *arena) patienceOf(quiet *window) time.Duration {
	floor := 2 * time.Millisecond
	if !*full || raceDetector {
		floor = 100 * time.Millisecond // beside all other tests: a figure about the machine
	}
	return max(3*quiet.P99, floor)
}

// quiet is a window of the pair without an attack, not older than 5 s.
func (a *arena) quiet(t *testing.T) *window {
	t.Helper()
	if a.calm == nil || *full || time.Since(a.calmAt) > 5*time.Second {
		a.pair.must(t, order{Do: "mark"})
		a.pair.must(t, order{Do: "await", N: volume(samples, 3*samples)})
		a.calm, a.calmAt = a.pair.must(t, order{Do: "window"}).Window, time.Now()
	}
	return a.calm
}

// once attacks once and fills in the row.
func (a *arena) once(t *testing.T, at attack, r *row) {
	t.Helper()
	a.node.must(t, order{Do: "logs"})
	a.node.forgetPeak(t)
	a.pair.must(t, order{Do: "mark"})
	begin := time.Now()
	want, limit := at.tries[0], 2*time.Second
	if *full {
		want, limit = at.tries[1], time.Minute
	}
	a.reacted = 0
	for r.tries = 0; ; {
		r.tries += at.round(t, a)
		n := a.pair.must(t, order{Do: "count"}).N
		if t.Failed() || n >= samples && (r.tries >= want || time.Since(begin) > limit) {
			break
		}
	}
	r.took = time.Since(begin)
	r.reacted = a.reacted
	a.check(t, r)
}

func (a *arena) check(t *testing.T, r *row) {
	t.Helper()
	r.under = a.pair.must(t, order{Do: "window"}).Window
	r.grown = max(r.grown, a.node.peak(t)-a.base)
	if n := room(a.limits); r.grown > n {
		t.Errorf("the node has grown by %d MiB, which is more than its budget and 64 MiB: %d MiB", r.grown>>20, n>>20)
	}
	if r.under.Attachments > 0 {
		t.Errorf("the honest pair's circuit was attached anew %d times", r.under.Attachments)
	}
	a.countLines(t, r)
	if took := a.newcomer(t); took > 5*time.Second {
		t.Errorf("a newcomer had to wait for %v", took)
	}
	a.checkCensus(t)
}

// hold waits while the honest pair makes n round trips.
func (a *arena) hold(t *testing.T, n int) {
	t.Helper()
	n += a.pair.must(t, order{Do: "count"}).N
	a.pair.must(t, order{Do: "await", N: n})
}

func (a *arena) newcomer(t *testing.T) time.Duration {
	t.Helper()
	a.extra++
	return a.pair.must(t, order{Do: "newcomer", N: a.extra}).Took
}

// countLines looks at what the node has logged in the case.
func (a *arena) countLines(t *testing.T, r *row) {
	t.Helper()
	logs := a.node.must(t, order{Do: "logs"})
	r.lines, r.mostLines = 0, 0
	for msg, n := range logs.Logs {
		r.lines += n
		if n > r.mostLines {
			r.most, r.mostLines = msg, n
		}
		if bound := maxLines + maxLinesPerSecond*int(r.took.Seconds()); n > bound {
			t.Errorf("%d lines say %q %s, want at most %d", n, msg, logs.Samples[msg], bound)
		}
	}
	if n := len(a.node.said.String()); n > 0 {
		t.Errorf("the node has written to stderr: %.1000s", a.node.said.String())
	}
}

// checkCensus asks the node who is there: the honest pair with its own peer,
// and nobody where nobody may be.
func (a *arena) checkCensus(t *testing.T) *census {
	t.Helper()
	c := a.node.must(t, order{Do: "census"}).Census
	pair := "echo " + a.honest.ID().String() + " " + a.calm.Peer
	found := 0
	for key, n := range c.Circuits {
		switch {
		case key == pair:
			found += n
		case strings.Contains(key, a.honest.ID().String()), strings.HasSuffix(key, a.calm.Peer), strings.HasPrefix(key, "secret "):
			t.Errorf("there is a circuit that nobody may have: %s", key)
		}
	}
	if found != 1 {
		t.Errorf("the honest pair has %d circuits, want 1", found)
	}
	for key := range c.Sources {
		node, peerID, _ := strings.Cut(key, " ")
		if (node == a.honest.ID().String()) != (peerID == a.calm.Peer) {
			t.Errorf("fragments came from %s, want the honest pair's peer %s exactly with its node", key, a.calm.Peer)
		}
	}
	for _, w := range c.Wrong {
		t.Error(w)
	}
	for key, n := range c.Peers {
		if strings.HasPrefix(key, "secret ") && (n != 1 || key != "secret self") {
			t.Errorf("%d peers: %s", n, key)
		}
	}
	return c
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// table prints the rows, as markdown and at -attack.out too.
func table(t *testing.T, rows []row, limits string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", limits)
	b.WriteString("| case | tries | answered | time | peak memory over the start | p99 in quiet | p99 under attack | log lines |\n")
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %d | %d | %.1f s | %s | %s | %s | %d |\n", r.name, r.tries, r.reacted, r.took.Seconds(), mib(r.grown), short(r.quiet), short(r.under), r.lines)
	}
	t.Log("\n" + b.String())
	if *outFile != "" {
		if err := os.WriteFile(*outFile, []byte(b.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
	worst := slices.MaxFunc(rows, func(x, y row) int { return cmp.Compare(x.grown, y.grown) })
	t.Logf("most memory: %s, %s", worst.name, mib(worst.grown))
}

func short(w *window) string {
	if w == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f ms", w.P99.Seconds()*1000)
}
