package couriertest

import (
	"flag"
	"syscall"
	"testing"
	"time"
)

const load = "200" // fragments a second, each way

// busy is what a machine that has other tests to run may add to a promise that
// is of a second or two. At full length this is a campaign, which has a machine
// for itself; else it is package peertest, in virtual time, that holds it.
func busy() time.Duration {
	if *long {
		return 0
	}
	return 4 * time.Second
}

// long asks for as many rounds as the issue names; without it there are fewer
// of those that take long.
var long = flag.Bool("long", false, "run the campaigns at full length")

// rounds is how often a fault is repeated.
func rounds(short, full int) int {
	if *long {
		return full
	}
	return short
}

// here makes two seats on the loopback interface.
func here(t *testing.T) (dialler, acceptor *Seat) {
	t.Helper()
	return NewSeat(t, "dialler", nil, "127.0.0.1:0"), NewSeat(t, "acceptor", nil, "127.0.0.1:0")
}

// start starts both, and returns when fragments come at both ends.
func start(t *testing.T, dialler, acceptor *Seat, args ...string) (d, a *Process) {
	t.Helper()
	a = acceptor.Start(args...)
	d = dialler.Start(append(args, "-dial", a.URL)...)
	flows(time.Now(), Patience, d, a)
	return d, a
}

// flows waits until each gets what was sent after that time.
func flows(since time.Time, limit time.Duration, all ...*Process) {
	for _, p := range all {
		p.t.Helper()
		p.AwaitFlow(since, limit)
	}
}

// finish lets both sides come to their ends and compares their books.
func finish(t *testing.T, d, a *Process) (dDone, aDone Event) {
	t.Helper()
	d.Stop()
	return compare(t, d, a)
}

// A process that is killed and started again at the same address is another
// one: whoever talked to the old one is told so within a second, and nothing
// that was meant for the old one reaches it. The couriers check the latter
// with every fragment.
func TestRestartedAcceptor(t *testing.T) {
	t.Parallel()
	dialler, acceptor := here(t)
	d, a := start(t, dialler, acceptor, "-rate", load)
	for i := range 20 {
		a.Kill()
		absent(i)
		a = acceptor.Start("-rate", load)
		toldOfRestart(t, d, a)
	}
	finish(t, d, a)
}

func TestRestartedDialler(t *testing.T) {
	t.Parallel()
	dialler, acceptor := here(t)
	d, a := start(t, dialler, acceptor, "-rate", load)
	for i := range 20 {
		d.Kill()
		absent(i)
		d = dialler.Start("-rate", load, "-dial", a.URL)
		toldOfRestart(t, a, d)
	}
	finish(t, d, a)
}

// absent lets some time pass between the end of one process and the start of
// the next: mostly none, but also so much that the other side has tried a few
// times to reach it.
func absent(round int) {
	switch round % 10 {
	case 3:
		<-time.After(time.Second)
	case 5:
		<-time.After(3 * time.Second)
	case 7:
		<-time.After(8 * time.Second)
	}
}

// toldOfRestart checks what the survivor reports about the life before this
// one, and that the two talk then.
func toldOfRestart(t *testing.T, survivor, reborn *Process) {
	t.Helper()
	lost := survivor.Await("told of a restart", Patience, func(e Event) bool {
		return e.Kind == Lost && e.Peer == reborn.Life-1
	})
	if !lost.Restarted {
		t.Errorf("life %d: lost for another reason: %s", lost.Peer, lost.Text)
	}
	reachable := reborn.Await("listening", 0, func(e Event) bool { return e.Kind == Listening }).At
	after := lost.At.Sub(reachable)
	t.Logf("life %d: told %v after the new process could be reached", lost.Peer, after.Round(time.Millisecond))
	if after > time.Second+busy() {
		t.Errorf("life %d: told %v after the new process could be reached", lost.Peer, after)
	}
	flows(reachable, Patience, survivor, reborn)
}

// A process that stands still for 40 s and then goes on has lost nothing.
func TestStoppedDialler(t *testing.T) {
	t.Parallel()
	dialler, acceptor := here(t)
	d, a := start(t, dialler, acceptor, "-rate", load)
	standStill(t, d, a)
	finish(t, d, a)
	neverLost(t, d, a)
}

func TestStoppedAcceptor(t *testing.T) {
	t.Parallel()
	dialler, acceptor := here(t)
	d, a := start(t, dialler, acceptor, "-rate", load)
	standStill(t, a, d)
	finish(t, d, a)
	neverLost(t, d, a)
}

func standStill(t *testing.T, stopped, other *Process) {
	t.Helper()
	stopped.Signal(syscall.SIGSTOP)
	<-time.After(40 * time.Second)
	healed := time.Now()
	stopped.Signal(syscall.SIGCONT)
	flowsAgain(t, healed, 6*time.Second, stopped, other)
}

// flowsAgain checks that what was sent after a heal comes at both ends within
// that time, and so does all that was sent before.
func flowsAgain(t *testing.T, healed time.Time, within time.Duration, all ...*Process) {
	t.Helper()
	for _, p := range all {
		took := p.AwaitFlow(healed, Patience).At.Sub(healed)
		t.Logf("%s: fragments came again %v after the heal", p.name, took.Round(time.Millisecond))
		if took > within {
			t.Errorf("%s: fragments came only %v after the heal", p.name, took)
		}
	}
}
