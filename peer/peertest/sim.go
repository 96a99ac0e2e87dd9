package peertest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/transport/limit"
	"ckt.local/transport/simnet"
)

// SimConfig says how a simulated world is to be. The zero SimConfig is that of
// [NewSim].
type SimConfig struct {
	// Circuit is the configuration of the circuits of all nodes.
	Circuit circuit.Config

	// Limits are the bounds of each node.
	Limits limit.Limits

	// Link is what packets meet between any two hosts, until Sim.Network is
	// told otherwise. Default: 20 ms each way, nothing lost.
	Link simnet.Link

	// Adjust, if set, changes the configuration of a host's node before each
	// start of it: its policy, its logger.
	Adjust func(h *SimHost, cfg *peer.Config)

	// Limit is how much simulated time the test may take: then it fails, and
	// the network goes down, so that whoever still waits for it comes back.
	// Without it a test that waits for what never happens would go on for
	// ever, because time costs nothing. Default 24 h.
	Limit time.Duration
}

const (
	defaultSimLatency = 20 * time.Millisecond
	defaultSimLimit   = 24 * time.Hour
	simPort           = 4242
	simTrace          = 200_000 // packets that are kept for a test that fails

	// quicEpoch is how old a bubble has to be before quic-go and TLS work in
	// it: bubbles begin in the year 2000, when no certificate is valid, and
	// quic-go counts time from the start of the process.
	quicEpoch = 40 * 365 * 24 * time.Hour
)

// A Sim is a world of simulated time: hosts with nodes on a network whose
// faults the test decides about. What changes it, and its hosts, is for the
// goroutine of the test.
type Sim struct {
	// Network is what the hosts are on. Everything it can do to addresses and
	// links may be done to it.
	Network *simnet.Network

	t    testing.TB
	seed uint64
	cfg  SimConfig

	mu    sync.Mutex // guards what follows: policies ask from everywhere
	hosts []*SimHost
	cuts  map[[2]*SimHost]bool
}

// NewSim makes a world without hosts, in the bubble of testing/synctest that
// calls it; see the example. Time begins 40 years into the bubble, when
// certificates are valid. All chances follow from the seed: those of the
// network, the keys of the hosts, and, unless the test is one of
// several that run in parallel, all other keys and IDs. With GOMAXPROCS=1 and
// in a process of its own, a test nearly always runs the same way twice.
//
// When the test is over the nodes are closed and the network with them, and
// goroutines that are left behind fail the test. If it has failed, what went
// over the network is kept in t.ArtifactDir: run it with -artifacts to see.
func NewSim(t testing.TB, seed uint64) *Sim {
	t.Helper()
	return SimConfig{}.NewSim(t, seed)
}

// NewSim is the function of that name with a configuration.
func (cfg SimConfig) NewSim(t testing.TB, seed uint64) *Sim {
	t.Helper()
	enterBubble(t)
	seedRandom(t, seed)
	if cfg.Link == (simnet.Link{}) {
		cfg.Link.Latency = defaultSimLatency
	}
	s := &Sim{Network: simnet.New(seed), t: t, seed: seed, cfg: cfg, cuts: make(map[[2]*SimHost]bool)}
	s.Network.SetDefault(cfg.Link)
	s.Network.Record(simTrace)
	watchdog := time.AfterFunc(cmp.Or(cfg.Limit, defaultSimLimit), func() {
		t.Errorf("peertest: the test is not over after %v of simulated time", cmp.Or(cfg.Limit, defaultSimLimit))
		s.Network.Close()
	})
	t.Cleanup(func() {
		watchdog.Stop()
		s.close()
	})
	return s
}

// enterBubble makes sure that this is a bubble, old enough.
func enterBubble(t testing.TB) {
	t.Helper()
	defer func() {
		if recover() != nil {
			t.Fatal("peertest: NewSim belongs into a bubble: synctest.Test(t, func(t *testing.T) { sim := peertest.NewSim(t, 1) … })")
		}
	}()
	synctest.Wait()
	if time.Now().Year() < 2030 {
		time.Sleep(quicEpoch)
	}
}

// seedRandom makes crypto/rand follow from the seed, where that can be had.
func seedRandom(t testing.TB, seed uint64) {
	tt, ok := t.(*testing.T)
	if !ok {
		return
	}
	defer func() {
		if recover() != nil {
			t.Log("peertest: this test runs in parallel with others, so keys do not follow from the seed")
		}
	}()
	cryptotest.SetGlobalRandom(tt, seed)
}

func (s *Sim) close() {
	for _, h := range s.Hosts() {
		n := h.Node()
		if n == nil {
			continue
		}
		if stop, ok := errors.AsType[*peer.StopError](n.Close()); ok {
			s.t.Errorf("peertest: closing %v: %v", h, stop)
		}
	}
	s.Network.Close()
	if s.t.Failed() {
		s.keepTrace()
	}
}

// keepTrace writes down what went over the network.
func (s *Sim) keepTrace() {
	file := filepath.Join(s.t.ArtifactDir(), "network.txt")
	f, err := os.Create(file)
	if err == nil {
		err = errors.Join(s.Network.Trace().Dump(f), f.Close())
	}
	if err != nil {
		s.t.Logf("peertest: keeping the trace of the network: %v", err)
		return
	}
	s.t.Logf("peertest: what went over the network is in %s (go test -artifacts keeps it)", file)
}

// Hosts returns the hosts in the order in which they were made.
func (s *Sim) Hosts() []*SimHost {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.hosts)
}

// Partition cuts both ways between two hosts, until Rejoin. What is on the way
// is lost.
func (s *Sim) Partition(a, b *SimHost) {
	s.Cut(a, b)
	s.Cut(b, a)
}

// Rejoin undoes Partition and Cut between two hosts.
func (s *Sim) Rejoin(a, b *SimHost) {
	s.Heal(a, b)
	s.Heal(b, a)
}

// Cut cuts the way of packets from one host to another, but not back. Unlike
// the cuts of Sim.Network it stays between the two when they move.
func (s *Sim) Cut(from, to *SimHost) { s.setCut(from, to, true) }

// Heal undoes Cut.
func (s *Sim) Heal(from, to *SimHost) { s.setCut(from, to, false) }

func (s *Sim) setCut(from, to *SimHost, cut bool) {
	s.mu.Lock()
	s.cuts[[2]*SimHost{from, to}] = cut
	s.mu.Unlock()
	if cut {
		s.Network.Cut(from.Addr(), to.Addr())
	} else {
		s.Network.Heal(from.Addr(), to.Addr())
	}
}

// recut moves the cuts of a host from where it was to where it is.
func (s *Sim) recut(h *SimHost, was netip.Addr) {
	s.mu.Lock()
	cuts := maps.Clone(s.cuts)
	s.mu.Unlock()
	for pair, cut := range cuts {
		from, to := pair[0], pair[1]
		switch {
		case !cut:
		case from == h:
			s.Network.Heal(was, to.Addr())
			s.Network.Cut(h.Addr(), to.Addr())
		case to == h:
			s.Network.Heal(from.Addr(), was)
			s.Network.Cut(from.Addr(), h.Addr())
		}
	}
}

// authorize allows the hosts of the world everything.
func (s *Sim) authorize(r peer.Request) error {
	for _, h := range s.Hosts() {
		if h.key.ID() == r.Node {
			return nil
		}
	}
	return fmt.Errorf("peertest: %v is no host of this world", r.Node)
}
