package peertest

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/transport/identity"
	"ckt.local/transport/simnet"
)

// SimConfig says how a simulated world is to be. The zero SimConfig is that of
// [NewSim].
type SimConfig struct {
	// Circuit is the configuration of the circuits of all nodes.
	Circuit circuit.Config

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

	// quicEpoch is how old a bubble has to be before quic-go and TLS work in
	// it: bubbles begin in the year 2000, when no certificate is valid, and
	// quic-go counts time from the start of the process.
	quicEpoch = 40 * 365 * 24 * time.Hour
)

// A Sim is a world of simulated time: hosts with nodes on a network whose
// faults the test decides about. Its methods, and those of its hosts, are for
// the goroutine of the test.
type Sim struct {
	// Network is what the hosts are on. Everything it can do to addresses and
	// links may be done to it.
	Network *simnet.Network

	t    testing.TB
	seed uint64
	cfg  SimConfig

	mu    sync.Mutex // guards hosts: policies ask from everywhere
	hosts []*SimHost
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
	s := &Sim{Network: simnet.New(seed), t: t, seed: seed, cfg: cfg}
	s.Network.SetDefault(cfg.Link)
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
		if h.node == nil {
			continue
		}
		err := h.node.Close()
		if stop, ok := errors.AsType[*peer.StopError](err); ok {
			s.t.Errorf("peertest: closing %v: %v", h, stop)
		}
	}
	s.Network.Close()
}

// Hosts returns the hosts in the order in which they were made.
func (s *Sim) Hosts() []*SimHost {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*SimHost(nil), s.hosts...)
}

// Partition cuts both ways between two hosts, until Rejoin. What is on the way
// is lost.
func (s *Sim) Partition(a, b *SimHost) { s.Network.Partition(a.addr, b.addr) }

// Rejoin undoes Partition and Cut between two hosts.
func (s *Sim) Rejoin(a, b *SimHost) { s.Network.Rejoin(a.addr, b.addr) }

// Cut cuts the way of packets from one host to another, but not back.
func (s *Sim) Cut(from, to *SimHost) { s.Network.Cut(from.addr, to.addr) }

// Heal undoes Cut.
func (s *Sim) Heal(from, to *SimHost) { s.Network.Heal(from.addr, to.addr) }

// A SimHost is a machine in a simulated world. A node runs on it, which may be
// killed and started again.
type SimHost struct {
	sim   *Sim
	index int
	key   *identity.Key
	setup func(n *peer.Node)
	addr  netip.Addr
	node  *peer.Node // nil while the host is down
}

// NewHost makes the next host, 10.0.0.1 and so on, and starts a node on it.
// The nodes of a world may do everything on one another, unless
// SimConfig.Adjust says otherwise.
//
// setup is called for each node that is started on the host, to register
// services and to start peers; it may be nil.
func (s *Sim) NewHost(setup func(n *peer.Node)) *SimHost {
	s.t.Helper()
	i := len(s.Hosts())
	h := &SimHost{sim: s, index: i, key: s.key(i), setup: setup, addr: Host(i)}
	s.mu.Lock()
	s.hosts = append(s.hosts, h)
	s.mu.Unlock()
	h.Start()
	return h
}

// key is the key of host i.
func (s *Sim) key(i int) *identity.Key {
	var in [16]byte
	binary.BigEndian.PutUint64(in[:], s.seed)
	binary.BigEndian.PutUint64(in[8:], uint64(i))
	seed := sha256.Sum256(in[:])
	key, err := identity.NewKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		s.t.Fatalf("peertest: key of host %d: %v", i, err)
	}
	return key
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

// String names the host by its number and address.
func (h *SimHost) String() string { return fmt.Sprintf("host %d at %v", h.index, h.addr) }

// Index is the host's number: 0 for the first one of its world.
func (h *SimHost) Index() int { return h.index }

// Addr is the address that the host has just now.
func (h *SimHost) Addr() netip.Addr { return h.addr }

// Node is the node that runs on the host just now, nil after Kill.
func (h *SimHost) Node() *peer.Node { return h.node }

// URL is the URL of any peer of a service on the host, or of the host's node if
// service is empty, at the address that the host has just now.
func (h *SimHost) URL(service string) string {
	at := netip.AddrPortFrom(h.addr, simPort)
	return peer.URL{Node: h.key.ID(), Addr: at.String(), Service: service}.String()
}

// StartPeer starts a peer of a service on the host's node, for as long as the
// node lives.
func (h *SimHost) StartPeer(service string) *peer.LocalPeer {
	h.sim.t.Helper()
	p, err := h.node.PeerAPI.StartLocalPeer(context.Background(), service)
	if err != nil {
		h.sim.t.Fatalf("peertest: starting %q on %v: %v", service, h, err)
	}
	return p
}

// Start starts a node on a host whose node was killed or stopped. It is another
// process: it has the same key and address, and knows nothing of the one
// before.
func (h *SimHost) Start() {
	t := h.sim.t
	t.Helper()
	if h.node != nil {
		t.Fatalf("peertest: %v has a node", h)
	}
	socket, err := h.sim.Network.Host(h.addr).Listen(simPort)
	if err != nil {
		t.Fatalf("peertest: socket of %v: %v", h, err)
	}
	cfg := peer.Config{
		PacketConn: socket,
		Identity:   h.key,
		Authorize:  h.sim.authorize,
		Circuit:    h.sim.cfg.Circuit,
		Logger:     slog.New(slog.NewTextHandler(t.Output(), nil)).With("host", h.index),
	}
	if h.sim.cfg.Adjust != nil {
		h.sim.cfg.Adjust(h, &cfg)
	}
	if h.node, err = peer.NewNode(cfg); err != nil {
		t.Fatalf("peertest: node of %v: %v", h, err)
	}
	if h.setup != nil {
		h.setup(h.node)
	}
}

// Kill ends the host's node as a power cut does: it says good-bye to nobody,
// and packets to it go nowhere until Start. To its services it looks as if the
// node had been closed; what they do about that reaches nobody.
func (h *SimHost) Kill() {
	if h.node == nil {
		return
	}
	h.sim.Network.Host(h.addr).Vanish()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	h.node.Shutdown(now) // what it says is of no interest to the dead
	h.node = nil
}

// Stop closes the host's node in the ordinary way, see [peer.Node.Close].
func (h *SimHost) Stop() {
	h.sim.t.Helper()
	if h.node == nil {
		return
	}
	if err := h.node.Close(); err != nil {
		h.sim.t.Errorf("peertest: closing %v: %v", h, err)
	}
	h.node = nil
}
