package couriertest

import (
	"flag"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ckt.local/cmd/internal/nettest"
)

func TestMain(m *testing.M) {
	// The tests wait most of their time, so more of them go at once than there
	// are processors.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"courier": Main})
}

// apart makes a seat on each of two hosts.
func apart(t *testing.T) (dialler, acceptor *Seat, a, b *nettest.Host) {
	t.Helper()
	a, b = nettest.Pair(t)
	return NewSeat(t, "dialler", a, ":0"), NewSeat(t, "acceptor", b, ":0"), a, b
}

func compare(t *testing.T, d, a *Process) (dDone, aDone Event) {
	t.Helper()
	isDone := func(peer *Process) func(Event) bool {
		return func(e Event) bool { return e.Kind == Done && e.Peer == peer.Life }
	}
	dDone = d.Await("done", Patience, isDone(a))
	aDone = a.Await("done", Patience, isDone(d))
	if dDone.Sent != aDone.Received || aDone.Sent != dDone.Received {
		t.Errorf("sent and received: dialler %d, %d; acceptor %d, %d", dDone.Sent, dDone.Received, aDone.Sent, aDone.Received)
	}
	return dDone, aDone
}

// neverLost fails if a circuit was lost.
func neverLost(t *testing.T, all ...*Process) {
	t.Helper()
	for _, p := range all {
		if n := p.Count(Lost) + p.Count(Failed); n > 0 {
			t.Errorf("%s: %d circuits lost or not opened", p.name, n)
		}
	}
}
