// Package simnet is a simulated packet network: hosts with UDP-like sockets,
// joined by links that delay, lose, reorder, repeat, damage and throttle
// packets and that can be cut; hosts that vanish and come back, or move to
// another address; and NAT boxes with hosts behind them.
//
// It is made for bubbles of testing/synctest, where an hour of network time
// takes no longer than the work done in it, but runs on real time as well. A
// [Network] belongs to the bubble that called [New], and has to be closed
// before the bubble ends.
//
// # Determinism
//
// What happens to a packet is decided by the seed, the [Direction] it travels
// and its ordinal in that direction, and by nothing else: no draw is shared.
// So the same seed and the same sends give the same deliveries; changing one
// direction leaves the decisions of all others as they were; and raising one
// probability leaves the other decisions of the same packet as they were.
// Packets due at one instant arrive in the order of sender address, receiver
// address and ordinal, whichever goroutine sent first. The outside port that a
// [NAT] maps follows from the seed and from what it is mapped for.
//
// What the network cannot decide is in which order goroutines that run at the
// same instant send in one direction: that is the scheduler's. Hosts behind one
// NAT share the direction to each host outside.
//
// [Network.Fingerprint] says in one number whether two runs were the same, and
// [Network.Record] keeps a [Trace] that shows where they were not.
package simnet

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Network joins hosts. Its methods, and those of its hosts and sockets, may
// be called from any goroutine.
//
// Each ordered pair of addresses is a [Direction] with a [Link] of its own, also
// the direction from an address to itself. All of them are the default link until
// [Network.SetLink] says otherwise, and the default is a perfect link until
// [Network.SetDefault] says otherwise.
type Network struct {
	seed uint64
	born time.Time // what the times of lanes and flights count from

	// One dispatcher goroutine runs from New to Close and makes every
	// delivery; nobody else puts packets into a socket.
	dispatcher sync.WaitGroup
	quit       chan struct{} // closed by Close
	wake       chan struct{} // holds a token while the dispatcher should look again

	// mu guards what is below, with everything in hosts and lanes. It is
	// held for short computations only, never across a wait: a goroutine
	// that waits for a mutex stops the clock of its bubble.
	mu      sync.Mutex
	closed  bool
	links   Link    // the default
	areas   []*area // the first is outside, the others are behind NATs
	nats    map[netip.Addr]*NAT
	flights flights
	landed  []*flight
	record  recorder
}

// New returns a network whose chances all follow from seed. The caller closes
// it.
func New(seed uint64) *Network {
	n := &Network{
		seed: seed,
		born: time.Now(),
		quit: make(chan struct{}),
		wake: make(chan struct{}, 1),
		nats: make(map[netip.Addr]*NAT),
	}
	n.addArea(nil)
	n.dispatcher.Go(n.dispatch)
	return n
}

// Close closes every socket, also those of vanished hosts, drops what is in
// flight, and returns when the network's goroutine has ended. It may be called
// often, and returns nil.
func (n *Network) Close() error {
	for _, s := range n.shut() {
		s.release()
	}
	n.dispatcher.Wait()
	return nil
}

// shut marks the network and its sockets as closed and returns those sockets
// that were open until now.
func (n *Network) shut() []*socket {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	close(n.quit)
	var open []*socket
	for _, a := range n.areas {
		for _, h := range a.hosts {
			open = append(open, h.shut()...)
		}
	}
	n.ground(DroppedClosed, func(*flight) bool { return true })
	return open
}

// Host returns the host with the address addr: the same one for the same
// address, made by the first call. An IPv4 address mapped to IPv6 is the IPv4
// address. Hosts behind a [NAT] are those of [NAT.Host].
func (n *Network) Host(addr netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.outside().host(addr)
}

// now is the time that lanes and flights are measured in.
func (n *Network) now() time.Duration { return time.Since(n.born) }

// send puts one packet of h on its lane. The caller holds n.mu.
func (n *Network) send(h *Host, from, to netip.AddrPort, payload []byte) {
	f := flight{sent: n.now(), sender: h, from: from, to: to, payload: payload}
	fate := n.route(&f)
	count := &f.lane.count
	count.Sent++
	count.SentBytes += uint64(len(payload))
	if fate != Delivered {
		n.settle(&f, fate)
		return
	}
	arrivals, copies, fate := f.lane.carry(f.sent, n.linkOf(f.lane), payload)
	if fate != Delivered {
		n.settle(&f, fate)
		return
	}
	for i, a := range arrivals[:copies] {
		g := f
		g.due, g.payload, g.damaged = a.due, a.payload, a.damaged
		g.serial = count.Sent*maxCopies + uint64(i)
		n.launch(g)
	}
}

// route finds the lane of what its sender has sent, through a NAT if need be,
// which changes where it comes from. It fails if the NAT does. The caller
// holds n.mu.
func (n *Network) route(f *flight) (fate Fate) {
	home := f.sender.area
	if home.nat == nil || home.hosts[f.to.Addr()] != nil {
		f.lane = home.lane(f.from.Addr(), f.to.Addr())
		return Delivered
	}
	port, ok := home.nat.outbound(f.sent, f.from, f.to)
	f.from = netip.AddrPortFrom(home.nat.addr, port)
	f.lane = n.outside().lane(f.from.Addr(), f.to.Addr())
	if !ok {
		return DroppedNAT
	}
	return Delivered
}

// arrive hands a packet to the socket that it is for. The caller holds n.mu.
func (n *Network) arrive(f *flight) {
	a, to, ok := n.resolve(f)
	if !ok {
		n.land(f, DroppedNAT)
		return
	}
	if a.nat != f.lane.area.nat {
		a.nat.passed(n.now(), f.from, f.to.Port())
	}
	var s *socket
	if h := a.hosts[to.Addr()]; h != nil {
		s = h.sockets[to.Port()]
	}
	switch {
	case s == nil:
		n.land(f, DroppedNoSocket)
	case !s.in.put(datagram{from: f.from, payload: f.payload}):
		n.land(f, DroppedBuffer)
	default:
		n.land(f, Delivered)
	}
}

// resolve returns where a packet goes at the end of its lane: a NAT there
// forwards it. It returns false if the NAT does not. The caller holds n.mu.
func (n *Network) resolve(f *flight) (*area, netip.AddrPort, bool) {
	if f.lane.area.nat == nil {
		if g := n.nats[f.to.Addr()]; g != nil {
			to, ok := g.inbound(n.now(), f.from, f.to.Port())
			return g.area, to, ok
		}
	}
	return f.lane.area, f.to, true
}

// receiver returns the host that a packet would reach now, nil for none. The
// caller holds n.mu.
func (n *Network) receiver(f *flight) *Host {
	a, to, ok := n.resolve(f)
	if !ok {
		return nil
	}
	return a.hosts[to.Addr()]
}

// opError is err as the sockets of package net report it.
func opError(op string, local, remote net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: local, Addr: remote, Err: err}
}
