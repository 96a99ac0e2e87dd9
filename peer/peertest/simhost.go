package peertest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"ckt.local/peer"
	"ckt.local/transport/identity"
	"ckt.local/transport/simnet"
)

// A SimHost is a machine in a simulated world. A node runs on it, which may be
// killed and started again, and it may get another address.
type SimHost struct {
	sim     *Sim
	index   int
	key     *identity.Key
	setup   func(n *peer.Node)
	machine *simnet.Host
	nat     *simnet.NAT // nil: none

	mu   sync.Mutex // guards node
	node *peer.Node // nil while the host is down
}

// NewHost makes the next host, 10.0.0.1 and so on, and starts a node on it.
// The nodes of a world may do everything on one another, unless
// SimConfig.Adjust says otherwise.
//
// setup is called for each node that is started on the host, to register
// services and to start peers; it may be nil.
func (s *Sim) NewHost(setup func(n *peer.Node)) *SimHost {
	s.t.Helper()
	return s.newHost(setup, s.Network.Host(Host(len(s.Hosts()))), nil)
}

// NewHostBehind is NewHost with a host behind a NAT of Sim.Network. It can dial
// the other ones and be reached over what it has dialled.
func (s *Sim) NewHostBehind(nat *simnet.NAT, setup func(n *peer.Node)) *SimHost {
	s.t.Helper()
	private := netip.AddrFrom4([4]byte{192, 168, 0, byte(len(s.Hosts()) + 1)})
	return s.newHost(setup, nat.Host(private), nat)
}

func (s *Sim) newHost(setup func(n *peer.Node), machine *simnet.Host, nat *simnet.NAT) *SimHost {
	s.t.Helper()
	i := len(s.Hosts())
	h := &SimHost{sim: s, index: i, key: s.key(i), setup: setup, machine: machine, nat: nat}
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

// String names the host by its number and address.
func (h *SimHost) String() string { return fmt.Sprintf("host %d at %v", h.index, h.Addr()) }

// Index is the host's number: 0 for the first one of its world.
func (h *SimHost) Index() int { return h.index }

// Addr is the address at which others see the host just now: its own, or that
// of its NAT.
func (h *SimHost) Addr() netip.Addr {
	if h.nat != nil {
		return h.nat.Addr()
	}
	return h.machine.Addr()
}

// Node is the node that runs on the host just now, nil after Kill or Stop.
func (h *SimHost) Node() *peer.Node {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.node
}

// URL is the URL of any peer of a service on the host, or of the host's node if
// service is empty, at the address that the host has just now. Behind a NAT it
// has no address: it leads to a host that the caller's is connected to.
func (h *SimHost) URL(service string) string {
	u := peer.URL{Node: h.key.ID(), Service: service}
	if h.nat == nil {
		u.Addr = netip.AddrPortFrom(h.Addr(), simPort).String()
	}
	return u.String()
}

// StartPeer starts a peer of a service on the host's node, for as long as the
// node lives.
func (h *SimHost) StartPeer(service string) *peer.LocalPeer {
	h.sim.t.Helper()
	p, err := h.Node().PeerAPI.StartLocalPeer(context.Background(), service)
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
	if h.Node() != nil {
		t.Fatalf("peertest: %v has a node", h)
	}
	socket, err := h.machine.Listen(simPort)
	if err != nil {
		t.Fatalf("peertest: socket of %v: %v", h, err)
	}
	cfg := peer.Config{
		PacketConn: socket,
		Identity:   h.key,
		Authorize:  h.sim.authorize,
		Circuit:    h.sim.cfg.Circuit,
		Limits:     h.sim.cfg.Limits,
		Logger:     slog.New(slog.NewTextHandler(t.Output(), nil)).With("host", h.index),
	}
	if h.sim.cfg.Adjust != nil {
		h.sim.cfg.Adjust(h, &cfg)
	}
	n, err := peer.NewNode(cfg)
	if err != nil {
		t.Fatalf("peertest: node of %v: %v", h, err)
	}
	h.mu.Lock()
	h.node = n
	h.mu.Unlock()
	if h.setup != nil {
		h.setup(n)
	}
}

// down takes the node off the host and returns it.
func (h *SimHost) down() *peer.Node {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.node
	h.node = nil
	return n
}

// Kill ends the host's node as a power cut does: it says good-bye to nobody,
// and packets to it go nowhere until Start. To its services it looks as if the
// node had been closed; what they do about that reaches nobody.
func (h *SimHost) Kill() {
	h.machine.Vanish()
	if n := h.down(); n != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		n.Shutdown(now) // nobody asks the dead what they have left undone
	}
}

// Stop closes the host's node in the ordinary way and returns the error of
// [peer.Node.Close].
func (h *SimHost) Stop() error {
	if n := h.down(); n != nil {
		return n.Close()
	}
	return nil
}

// Move gives the host another address, such as 10.1.2.3, as a machine gets that
// changes from one network to another: what is on the way to the old one is
// lost. Of a host behind a NAT it is the NAT that moves, with all that is
// behind it.
func (h *SimHost) Move(to netip.Addr) {
	h.sim.t.Helper()
	was := h.Addr()
	move := h.machine.Move
	if h.nat != nil {
		move = h.nat.Move
	}
	if err := move(to); err != nil {
		h.sim.t.Fatalf("peertest: moving %v: %v", h, err)
	}
	h.sim.recut(h, was)
}
