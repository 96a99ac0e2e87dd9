package couriertest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ckt.local/cmd/internal/nettest"
)

// Whoever dialled may change its address at any time: QUIC follows. Whoever
// was dialled may too, and dials itself then.
func TestMovingDialler(t *testing.T) {
	t.Parallel()
	dialler, acceptor, a, _ := apart(t)
	d, p := start(t, dialler, acceptor, "-rate", load)
	for range 20 {
		move(a, d, p)
	}
	finish(t, d, p)
	neverLost(t, d, p)
	gaps(t, 2*time.Second+busy(), d, p)
}

func TestMovingAcceptor(t *testing.T) {
	t.Parallel()
	dialler, acceptor, _, b := apart(t)
	d, p := start(t, dialler, acceptor, "-rate", load)
	for range 20 {
		move(b, d, p)
	}
	finish(t, d, p)
	neverLost(t, d, p)
	gaps(t, 10*time.Second, d, p)
}

// After the acceptor has moved, the connection is one that it has dialled, and
// then the first dialler moves.
func TestMovingInTurn(t *testing.T) {
	t.Parallel()
	dialler, acceptor, a, b := apart(t)
	d, p := start(t, dialler, acceptor, "-rate", load)
	for range rounds(4, 20) {
		move(b, d, p)
		move(a, d, p)
	}
	finish(t, d, p)
	neverLost(t, d, p)
	gaps(t, 10*time.Second, d, p)
}

// move gives a host another address, and returns when fragments come again at
// both ends.
func move(h *nettest.Host, d, a *Process) {
	nextAddr(h)
	flows(time.Now(), Patience, d, a)
}

func nextAddr(h *nettest.Host) {
	ip := h.Addr().As4()
	ip[2]++
	h.SetAddr(netip.AddrFrom4(ip))
}

// gaps checks the longest time without a fragment at each end.
func gaps(t *testing.T, longest time.Duration, all ...*Process) {
	t.Helper()
	for _, p := range all {
		gap, _ := p.LongestGap()
		t.Logf("%s: the longest gap is %v", p.name, gap.Round(time.Millisecond))
		if gap > longest {
			t.Errorf("%s: nothing came for %v", p.name, gap)
		}
	}
}

// A path on which long packets vanish from now on carries nothing although
// short ones get through.
func TestPathThatGetsNarrow(t *testing.T) {
	t.Parallel()
	dialler, acceptor, a, b := apart(t)
	d, p := start(t, dialler, acceptor, "-rate", load)
	for _, h := range []*nettest.Host{a, b} {
		h.SetMTU(1350)
		flows(time.Now(), Patience, d, p)
	}
	finish(t, d, p)
	neverLost(t, d, p)
	gaps(t, 10*time.Second, d, p)
}

// A path that is gone for a while, in one direction or in both, is taken up
// again.
func TestCutPath(t *testing.T) {
	t.Parallel()
	cuts := []time.Duration{2 * time.Second, 20 * time.Second}
	if *long {
		cuts = append(cuts, 60*time.Second, 100*time.Second)
	}
	for _, cut := range cuts {
		for _, ends := range []string{"both", "dialler", "acceptor"} {
			t.Run(fmt.Sprint(ends, " deaf for ", cut), func(t *testing.T) {
				t.Parallel()
				dialler, acceptor, a, b := apart(t)
				d, p := start(t, dialler, acceptor, "-rate", load)
				deafen(a, b, ends, 100)
				<-time.After(cut)
				healed := time.Now()
				deafen(a, b, ends, 0)
				flowsAgain(t, healed, 6*time.Second, d, p)
				finish(t, d, p)
				neverLost(t, d, p)
			})
		}
	}
}

// Whoever waits in vain is told once, with the number of what may be lost.
func TestCutLongerThanLinger(t *testing.T) {
	t.Parallel()
	dialler, acceptor, a, b := apart(t)
	d, p := start(t, dialler, acceptor, "-rate", load, "-linger", "3s")
	deafen(a, b, "both", 100)
	isLost := func(e Event) bool { return e.Kind == Lost }
	lost := [2]Event{d.Await("told of the loss", Patience, isLost), p.Await("told of the loss", Patience, isLost)}
	healed := time.Now()
	deafen(a, b, "both", 0)
	for i, e := range lost {
		other := lost[1-i]
		// Some may have arrived whose acknowledgements have not. The hello is not in Sent.
		if e.Unacked < int(e.Sent-other.Received) || e.Unacked > int(e.Sent)+1 {
			t.Errorf("%d fragments were sent and %d received, and %d count as unacknowledged", e.Sent, other.Received, e.Unacked)
		}
		if e.Restarted || !strings.Contains(e.Text, "linger of 3s") {
			t.Errorf("lost for another reason: %s", e.Text)
		}
	}
	flows(healed, Patience, d, p) // on a new circuit
	finish(t, d, p)
	for _, c := range []*Process{d, p} {
		if n := c.Count(Lost); n != 1 {
			t.Errorf("%s was told %d times", c.name, n)
		}
	}
}

func deafen(a, b *nettest.Host, ends string, percent int) {
	if ends != "acceptor" {
		a.Lose(percent)
	}
	if ends != "dialler" {
		b.Lose(percent)
	}
}
