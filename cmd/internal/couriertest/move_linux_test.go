package couriertest

import (
	"fmt"
	"net/netip"
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
	gaps(t, 2*time.Second, d, p)
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

func deafen(a, b *nettest.Host, ends string, percent int) {
	if ends != "acceptor" {
		a.Lose(percent)
	}
	if ends != "dialler" {
		b.Lose(percent)
	}
}
