// Package simnet is a simulated packet network: hosts with UDP-like sockets,
// joined by links that delay, lose, reorder, repeat, damage and throttle
// packets, that can be cut, and hosts that can vanish and come back.
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
// address and ordinal, whichever goroutine sent first.
//
// What the network cannot decide is in which order goroutines that run at the
// same instant send in one direction: that is the scheduler's.
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
// Each ordered pair of hosts is a [Direction] with a [Link] of its own, also
// the direction from a host to itself. All of them are the default link until
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
	links   Link // the default
	hosts   map[netip.Addr]*Host
	lanes   map[Direction]*lane
	flights flights
}

// New returns a network whose chances all follow from seed. The caller closes
// it.
func New(seed uint64) *Network {
	n := &Network{
		seed:  seed,
		born:  time.Now(),
		quit:  make(chan struct{}),
		wake:  make(chan struct{}, 1),
		hosts: make(map[netip.Addr]*Host),
		lanes: make(map[Direction]*lane),
	}
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
	for _, h := range n.hosts {
		open = append(open, h.shut()...)
	}
	n.ground(func(*flight) bool { return true }, func(d *Drops) { d.Closed++ })
	return open
}

// Host returns the host with the address addr: the same one for the same
// address, made by the first call. An IPv4 address mapped to IPv6 is the IPv4
// address.
func (n *Network) Host(addr netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr = addr.Unmap()
	h := n.hosts[addr]
	if h == nil {
		h = &Host{
			net:     n,
			addr:    addr,
			sockets: make(map[uint16]*socket),
			next:    firstEphemeral,
		}
		n.hosts[addr] = h
	}
	return h
}

// lane returns the state of a direction. The caller holds n.mu.
func (n *Network) lane(from, to netip.Addr) *lane {
	dir := direction(from, to)
	l := n.lanes[dir]
	if l == nil {
		l = &lane{Direction: dir, key: laneKey(n.seed, dir)}
		n.lanes[dir] = l
	}
	return l
}

// now is the time that lanes and flights are measured in.
func (n *Network) now() time.Duration { return time.Since(n.born) }

// send puts one packet on its lane. The caller holds n.mu.
func (n *Network) send(from, to netip.AddrPort, payload []byte) {
	l := n.lane(from.Addr(), to.Addr())
	for copyNo, a := range l.carry(n.now(), n.linkOf(l), payload) {
		n.launch(&flight{
			due:     a.due,
			lane:    l,
			serial:  l.count.Sent*maxCopies + uint64(copyNo),
			from:    from,
			to:      to,
			payload: a.payload,
		})
	}
}

// arrive hands a packet to the socket that it is for. The caller holds n.mu.
func (n *Network) arrive(f *flight) {
	count := &f.lane.count
	count.InFlight--
	var s *socket
	if h := n.hosts[f.to.Addr()]; h != nil {
		s = h.sockets[f.to.Port()]
	}
	switch {
	case s == nil:
		count.Dropped.NoSocket++
	case !s.in.put(datagram{from: f.from, payload: f.payload}):
		count.Dropped.Buffer++
	default:
		count.Delivered++
		count.DeliveredBytes += uint64(len(f.payload))
	}
}

// opError is err as the sockets of package net report it.
func opError(op string, local, remote net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: local, Addr: remote, Err: err}
}
