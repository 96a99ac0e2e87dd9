package peertest_test

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport/simnet"
)

// shouting sets a node up with a service that answers the first fragment of
// each circuit and leaves the circuit open.
func shouting(n *peer.Node) {
	n.PeerAPI.RegisterPeerServiceFunc("shout", func(_ *peer.LocalPeer, ctx0 context.Context, news <-chan *circuit.Circuit) error {
		for {
			select {
			case <-ctx0.Done():
				return nil
			case c := <-news:
				if f, ok := <-c.Reads; ok {
					c.SendOneWay(&circuit.Fragment{FragSubject: f.FragSubject + "!"})
				}
			}
		}
	})
}

// call opens a circuit to the service shout of a host and returns its answer.
func call(t *testing.T, from *peer.LocalPeer, to *peertest.SimHost) (*circuit.Circuit, string) {
	t.Helper()
	c, _, err := from.NewCircuitToPeerURL(to.URL("shout"), &circuit.Fragment{FragSubject: "hello"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return c, (<-c.Reads).FragSubject
}

func TestSimKillAndStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.NewSim(t, 1)
		lives := 0
		setup := func(n *peer.Node) { lives++; shouting(n) }
		a, b := sim.NewHost(setup), sim.NewHost(setup)
		id := b.Node().ID()
		here := a.StartPeer("shout")
		c, got := call(t, here, b)
		b.Kill()
		if b.Node() != nil {
			t.Error("a killed node is there")
		}
		time.Sleep(time.Second)
		if err := context.Cause(c.Context); err != nil {
			t.Errorf("the dead has said good-bye: %v", err)
		}
		b.Start()
		<-c.Context.Done()
		if err := context.Cause(c.Context); !errors.Is(err, circuit.ErrPeerLost) {
			t.Errorf("the circuit to the dead ended with %v", err)
		}
		_, again := call(t, here, b)
		if got != "hello!" || again != got || b.Node().ID() != id || lives != 3 {
			t.Errorf("before %q, after %q, %d lives, same key: %v", got, again, lives, b.Node().ID() == id)
		}
		c, _ = call(t, here, b)
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
		<-c.Context.Done()
		if _, ok := errors.AsType[*circuit.RemoteError](context.Cause(c.Context)); !ok {
			t.Errorf("the circuit to one who stops ended with %v", context.Cause(c.Context))
		}
	})
}

func TestSimCutsFollowTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.NewSim(t, 1)
		a, b := sim.NewHost(shouting), sim.NewHost(shouting)
		here := a.StartPeer("shout")
		sim.Partition(a, b)
		b.Move(netip.MustParseAddr("10.9.9.9"))
		if _, _, err := here.NewCircuitToPeerURL(b.URL("shout"), nil, 10*time.Second); err == nil {
			t.Error("a host has moved out of a partition")
		}
		sim.Rejoin(a, b)
		if _, got := call(t, here, b); got != "hello!" {
			t.Errorf("got %q", got)
		}
		if sim.Network.Link(a.Addr(), b.Addr()).Latency != 20*time.Millisecond {
			t.Error("the default link has no latency")
		}
	})
}

func TestSimBehindNAT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.NewSim(t, 1)
		box, err := sim.Network.NAT(netip.MustParseAddr("10.2.0.1"), simnet.NATConfig{Kind: simnet.Symmetric})
		if err != nil {
			t.Fatal(err)
		}
		a, b := sim.NewHostBehind(box, shouting), sim.NewHost(shouting)
		if _, got := call(t, a.StartPeer("shout"), b); got != "hello!" {
			t.Errorf("outwards: got %q", got)
		}
		if _, got := call(t, b.StartPeer("shout"), a); got != "hello!" {
			t.Errorf("inwards, over what was dialled: got %q", got)
		}
		a.Move(netip.MustParseAddr("10.2.0.2"))
		if a.Addr() != box.Addr() || a.Addr() != netip.MustParseAddr("10.2.0.2") {
			t.Errorf("the host is at %v, its NAT at %v", a.Addr(), box.Addr())
		}
	})
}

func TestSimSameKeysForSameSeed(t *testing.T) {
	id := func(seed uint64) (node, peerID string) {
		synctest.Test(t, func(t *testing.T) {
			h := peertest.NewSim(t, seed).NewHost(shouting)
			node, peerID = h.Node().ID().String(), h.StartPeer("shout").PeerID()
		})
		return node, peerID
	}
	node, peerID := id(1)
	if n, p := id(1); n != node || p != peerID {
		t.Errorf("seed 1 makes %s %s, then %s %s", node, peerID, n, p)
	}
	if n, p := id(2); n == node || p == peerID {
		t.Errorf("two seeds make %s %s", n, p)
	}
}

// TestSimFailures is run in a process of its own, where it fails.
func TestSimFailures(t *testing.T) {
	switch os.Getenv("CKT_SIM_FAILS") {
	case "outside":
		peertest.NewSim(t, 1)
	case "hangs":
		synctest.Test(t, func(t *testing.T) {
			sim := peertest.SimConfig{Limit: 10 * time.Minute}.NewSim(t, 1)
			a, b := sim.NewHost(shouting), sim.NewHost(shouting)
			c, _ := call(t, a.StartPeer("shout"), b)
			<-c.Reads // of what never comes
		})
	default:
		t.Skip("for TestSimSaysWhatIsWrong")
	}
}

func TestSimSaysWhatIsWrong(t *testing.T) {
	for how, says := range map[string]string{
		"outside": "belongs into a bubble",
		"hangs":   "not over after 10m0s of simulated time",
	} {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestSimFailures$", "-test.artifacts", "-test.outputdir="+dir)
		cmd.Env = append(os.Environ(), "CKT_SIM_FAILS="+how)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), says) {
			t.Errorf("%s: %v, and it does not say %q:\n%s", how, err, says, out)
		}
		if how == "outside" {
			continue
		}
		if trace := keptTrace(t, dir); !strings.Contains(trace, "10.0.0.1:4242 > 10.0.0.2:4242") {
			t.Errorf("%s: the trace has %d bytes and no packet from one to the other", how, len(trace))
		}
	}
}

// keptTrace returns the trace of a network that a test has left behind.
func keptTrace(t *testing.T, dir string) string {
	var trace string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "network.txt" {
			return err
		}
		b, err := os.ReadFile(path)
		trace += string(b)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return trace
}
