package simnet

import (
	"hash/fnv"
	"net/netip"
	"time"
)

// Mapped ports are those that no system service uses.
const (
	firstMapped = 1024
	mappedPorts = 1<<16 - firstMapped
)

// A flow is what has a mapping of its own: an inside port, and with a symmetric
// NAT also whom it sends to.
type flow struct {
	inside, remote netip.AddrPort
}

// A mapping is the outside port of a flow. It stays in the table when it has
// expired, so that its next life has another port.
type mapping struct {
	flow
	port  uint16
	lives uint64
	used  time.Duration
	sent  map[netip.AddrPort]time.Duration // when last to whom; port 0 if ports do not matter
}

// forget drops all mappings. The caller holds Network.mu.
func (g *NAT) forget() {
	g.epoch++
	g.before = g.ports
	g.mappings = make(map[flow]*mapping)
	g.ports = make(map[uint16]*mapping)
}

// fresh says whether something of the time then is not older than timeout.
func fresh(now, then, timeout time.Duration) bool { return timeout < 0 || now-then < timeout }

// outbound returns the port that a packet leaves by, or false if none is left.
func (g *NAT) outbound(now time.Duration, inside, remote netip.AddrPort) (uint16, bool) {
	key := flow{inside: inside}
	if g.cfg.Kind == Symmetric {
		key.remote = remote
	}
	m := g.mappings[key]
	if m == nil {
		m = &mapping{flow: key}
		g.mappings[key] = m
	}
	if (m.lives == 0 || !fresh(now, m.used, g.cfg.MappingTimeout)) && !g.assign(now, m) {
		return 0, false
	}
	g.use(now, m, remote)
	return m.port, true
}

// use notes that a packet has passed.
func (g *NAT) use(now time.Duration, m *mapping, remote netip.AddrPort) {
	m.used = now
	if g.cfg.Kind != FullCone {
		m.sent[g.filtered(remote)] = now
	}
}

// assign gives a mapping a port that it has not had. It is drawn from the seed
// and what it is for, so that no other flow has a say in it but by having taken
// the port.
func (g *NAT) assign(now time.Duration, m *mapping) bool {
	h := fnv.New64a()
	h.Write([]byte(m.inside.String() + ">" + m.remote.String())) // never fails
	first := packetDraws(g.key^h.Sum64(), g.epoch).below(m.lives+1, mappedPorts)
	for i := range uint64(mappedPorts) {
		port := uint16(firstMapped + (first+i)%mappedPorts)
		other := g.ports[port]
		free := other == nil || other != m && !fresh(now, other.used, g.cfg.MappingTimeout)
		if !free || g.before[port] != nil {
			continue
		}
		if g.ports[m.port] == m {
			delete(g.ports, m.port)
		}
		g.ports[port] = m
		m.port, m.sent = port, make(map[netip.AddrPort]time.Duration)
		m.lives++
		return true
	}
	return false
}

// filtered is what a NAT remembers of somebody it has sent to.
func (g *NAT) filtered(remote netip.AddrPort) netip.AddrPort {
	if g.cfg.Kind == AddressRestricted {
		return netip.AddrPortFrom(remote.Addr(), 0)
	}
	return remote
}

// inbound returns where a packet to a port goes, or false if it is not let in.
func (g *NAT) inbound(now time.Duration, remote netip.AddrPort, port uint16) (netip.AddrPort, bool) {
	m := g.ports[port]
	if m == nil || !fresh(now, m.used, g.cfg.MappingTimeout) || remote.Addr() == g.addr && !g.cfg.Hairpin {
		return netip.AddrPort{}, false
	}
	if g.cfg.Kind != FullCone {
		sent, ok := m.sent[g.filtered(remote)]
		if !ok || !fresh(now, sent, g.cfg.FilterTimeout) {
			return netip.AddrPort{}, false
		}
	}
	return m.inside, true
}

// passed notes that a packet to a port was let in.
func (g *NAT) passed(now time.Duration, remote netip.AddrPort, port uint16) {
	if m := g.ports[port]; m != nil && g.cfg.InboundRefresh {
		g.use(now, m, remote)
	}
}
