package attacktest

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
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
	control      *window // nil: not measured
	lines        int
	most         string // the message with the most lines
	mostLines    int
	measured     int // how often
}

// maxLines is how many records of one message a case may leave, and how many
// more for each second it takes.
//
// maxAudit is the same for refusals in the audit log, where those count as one
// message that differ: a node keeps so many of one node apart in a minute.
const maxLines, maxLinesPerSecond, maxAudit = 64, 1, 160

// run attacks, and checks everything that has to hold after every attack.
//
// The attacker, the node and the pair share the processors of one machine,
// which they would not, had the attacker one of its own. So the pair's p99
// under attack is held against the larger one of two: that in quiet, just
// before, and that of a control, just after, in which this process is as busy
// as it was and sends into a hole. What the node does about the attack is in
// neither. A p99 that is too high is measured again, as the machine has other
// things to do, too: a fault of the node would be there each time.
func (a *arena) run(t *testing.T, at attack, r *row) {
	t.Helper()
	most := volume(2, 4)
	for {
		r.quiet, r.control = a.quiet(t), nil
		busy := a.once(t, at, r)
		if r.slow(3) || *full {
			r.control = a.control(t, busy, r.took)
		}
		r.measured++
		if t.Failed() || !r.slow(3) {
			return
		}
		if r.measured == most {
			t.Errorf("the honest pair's p99 is %v under attack, %v in quiet and %v in the control: more than three times as much, %d times in a row",
				r.under.P99, r.quiet.P99, r.control.P99, most)
			return
		}
		t.Logf("p99 %v after %v, and %v in the control: once more", r.under.P99, r.quiet.P99, r.control.P99)
		a.calm = nil
	}
}

// slow reports whether the p99 under attack is more than times that in quiet
// or in the control. What is below the length of two turns that a scheduler
// gives to a process is no figure of the node's: three processes share the
// processors here.
func (r *row) slow(times time.Duration) bool {
	floor := 5 * time.Millisecond
	if raceDetector || !*full { // beside all other tests: no figure at all, but for a node that stands still
		floor = 2 * time.Second
	}
	base := r.quiet.P99
	if r.control != nil {
		base = max(base, r.control.P99)
	}
	return r.under.P99 > max(times*base, floor)
}

// maxControl bounds how long a control takes: as long as the case has, so that
// it has as much from the rest of the machine, but not for ever.
const maxControl = 5 * time.Second

// control measures the pair while this process is busy for such a part of the
// time, with sending packets that go nowhere.
func (a *arena) control(t *testing.T, busy float64, took time.Duration) *window {
	t.Helper()
	hole, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 8)})
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	from, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 8)})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { burn(from, hole.LocalAddr(), busy, stop) })
	a.pair.must(t, order{Do: "mark"})
	a.pair.must(t, order{Do: "await", N: max(samples, int(min(took, maxControl)/pace()))})
	w := a.pair.must(t, order{Do: "window"}).Window
	close(stop)
	wg.Wait()
	return w
}

func burn(from net.PacketConn, to net.Addr, busy float64, stop chan struct{}) {
	const turn = 2 * time.Millisecond
	tick := time.NewTicker(turn)
	defer tick.Stop()
	packet := make([]byte, firstPacket)
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for end := time.Now().Add(time.Duration(min(busy, 1) * float64(turn))); time.Now().Before(end); {
			from.WriteTo(packet, to)
		}
	}
}

// processor is how long this process has had one.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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

// once attacks once and fills in the row. It returns which part of the time
// this process has had a processor.
func (a *arena) once(t *testing.T, at attack, r *row) (busy float64) {
	t.Helper()
	a.node.must(t, order{Do: "logs"})
	a.node.forgetPeak(t)
	a.pair.must(t, order{Do: "mark"})
	begin, used := time.Now(), processor(t)
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
	busy = (processor(t) - used).Seconds() / r.took.Seconds()
	r.reacted = a.reacted
	a.check(t, r)
	return busy
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
	most := 5 * time.Second
	if raceDetector || !*full { // as in slow
		most = 20 * time.Second
	}
	if took := a.newcomer(t); took > most {
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
		bound := maxLines
		if msg == "audit" {
			bound = maxAudit
		}
		if bound += maxLinesPerSecond * int(r.took.Seconds()); n > bound {
			t.Errorf("%d lines say %q %s, want at most %d", n, msg, logs.Samples[msg], bound)
		}
	}
	for _, msg := range slices.Sorted(maps.Keys(logs.Logs)) {
		a.heard[msg] += logs.Logs[msg]
		t.Logf("%d lines: %s %s", logs.Logs[msg], msg, logs.Samples[msg])
	}
	if n := len(a.node.said.String()); n > 0 {
		t.Errorf("the node has written to stderr: %.1000s", a.node.said.String())
	}
}

// checkHeard wants each kind of thing that has happened in the log. Not in
// each case: what comes often is counted there, and told with the next line.
func (a *arena) checkHeard(t *testing.T) {
	t.Helper()
	for _, msg := range []string{
		"inbound connection refused", "inbound connection has failed", "circuit: bad stream", "circuit: protocol fault",
		"circuit: connection has ended", "refused", "service panicked", "audit",
	} {
		if a.heard[msg] == 0 {
			t.Errorf("the log never says %q", msg)
		}
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
	b.WriteString("| case | tries | answered | time | peak memory over the start | p99 in quiet | attacker busy elsewhere | under attack | log lines |\n")
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %d | %d | %.1f s | %s | %s | %s | %s | %d |\n", r.name, r.tries, r.reacted, r.took.Seconds(), mib(r.grown), short(r.quiet), short(r.control), short(r.under), r.lines)
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
