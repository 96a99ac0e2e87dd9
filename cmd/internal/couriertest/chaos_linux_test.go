package couriertest

import (
	"flag"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"ckt.local/cmd/internal/nettest"
)

// chaosSeed chooses the order of the faults.
var chaosSeed = flag.Uint64("chaos", 1, "the seed of TestChaos")

// A fault is something to do to a path or a process, and to undo. Each undoing
// leaves all well, but for the addresses, which stay what they are then.
type fault struct {
	name    string
	on, off func()
	moves   bool // an address
}

func nothing() {}

func faults(a, b *nettest.Host, d, p *Process) []fault {
	var all []fault
	for _, end := range []struct {
		name string
		host *nettest.Host
		proc *Process
	}{{"dialler", a, d}, {"acceptor", b, p}} {
		h, proc := end.host, end.proc
		all = append(all,
			fault{name: end.name + " deaf", on: func() { h.Lose(100) }, off: func() { h.Lose(0) }},
			fault{name: end.name + " hears four of five", on: func() { h.Lose(20) }, off: func() { h.Lose(0) }},
			fault{name: end.name + " moves", on: func() { nextAddr(h) }, off: nothing, moves: true},
			fault{name: end.name + " unplugged", on: h.Unplug, off: h.Plug},
			fault{name: end.name + " takes no long packets", on: func() { h.SetMTU(1350) }, off: func() { h.SetMTU(1500) }},
			fault{name: end.name + " stands still", on: func() { proc.Signal(syscall.SIGSTOP) }, off: func() { proc.Signal(syscall.SIGCONT) }},
		)
	}
	return all
}

// Faults of all kinds, two at a time. What is sent after both are over comes
// within 6 s, or 10 s if an address has changed, and nothing is ever lost.
func TestChaos(t *testing.T) {
	t.Parallel()
	dialler, acceptor, a, b := apart(t)
	d, p := start(t, dialler, acceptor, "-rate", load)
	all, rng := faults(a, b, d, p), rand.New(rand.NewPCG(*chaosSeed, 0))
	for range rounds(6, 60) {
		first, second := all[rng.IntN(len(all))], all[rng.IntN(len(all))]
		if first.moves && second.moves {
			second = all[0] // if both move at once, neither can know where the other is
		}
		overlap := time.Duration(rng.IntN(2500)) * time.Millisecond
		hold := time.Duration(rng.IntN(5000)) * time.Millisecond
		t.Logf("%s, after %v %s, for %v", first.name, overlap, second.name, hold)
		first.on()
		<-time.After(overlap)
		second.on()
		<-time.After(hold)
		healed := time.Now()
		first.off()
		second.off()
		within := 6 * time.Second
		if first.moves || second.moves {
			within = 10 * time.Second
		}
		flowsAgain(t, healed, within, d, p)
	}
	finish(t, d, p)
	neverLost(t, d, p)
}
