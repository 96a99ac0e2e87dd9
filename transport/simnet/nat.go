package simnet

import (
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// DefaultMappingTimeout is how long a [NAT] keeps a mapping if its
// configuration says zero: the least that RFC 4787 allows.
const DefaultMappingTimeout = 2 * time.Minute

// A NATKind says who may send to an outside port of a [NAT], and whether all
// that an inside port sends leaves by the same one. RFC 3489 has the names.
type NATKind uint8

const (
	// FullCone lets everybody in by a port that is mapped.
	FullCone NATKind = iota
	// AddressRestricted lets in what comes from an address that the inside
	// port has sent to.
	AddressRestricted
	// PortRestricted lets in what comes from an address and port that the
	// inside port has sent to.
	PortRestricted
	// Symmetric is port-restricted, and takes another outside port for each
	// address and port that is sent to.
	Symmetric
)

// String returns the name of the kind.
func (k NATKind) String() string {
	switch k {
	case FullCone:
		return "full cone"
	case AddressRestricted:
		return "address-restricted"
	case PortRestricted:
		return "port-restricted"
	case Symmetric:
		return "symmetric"
	}
	return "unknown"
}

// A NATConfig says how a [NAT] behaves. The zero NATConfig is a full cone that
// forgets a mapping two minutes after the last packet out.
type NATConfig struct {
	Kind NATKind

	// MappingTimeout is how long a mapping lives after the last packet that
	// went out by it. Zero stands for [DefaultMappingTimeout], less for ever.
	MappingTimeout time.Duration

	// FilterTimeout is how long after the last packet out to somebody his
	// packets are let in. Zero stands for as long as the mapping lives, less
	// for ever.
	FilterTimeout time.Duration

	// InboundRefresh makes a packet that is let in count as one that goes out.
	InboundRefresh bool

	// Hairpin lets inside hosts reach one another by the outside address.
	Hairpin bool
}

// A NAT is a box that translates addresses: it has one public address in the
// open network, and hosts behind it with private addresses, in a network of
// their own. Packets that a host behind it sends out come from the public
// address and a port that the NAT maps to the host's. Packets to a port that is
// mapped are let in as the NAT's [NATKind] says. Others are dropped in silence,
// and counted as [Drops.NAT].
//
// The way between the hosts and the NAT, and from one of them to the other, is
// perfect: links, cuts and counters are those of the NAT's public address. Two
// NATs may use the same private addresses. There is no NAT behind a NAT.
type NAT struct {
	net  *Network
	cfg  NATConfig
	key  uint64 // the NAT's share of the seed
	area *area

	// Network.mu guards the rest.
	addr     netip.Addr
	epoch    uint64 // counts the reboots
	mappings map[flow]*mapping
	ports    map[uint16]*mapping
	before   map[uint16]*mapping // those of before the reboot, not to be taken again
}

// NAT makes a NAT with the public address public. An address for which there is
// a [Host] or a NAT already is [syscall.EADDRINUSE], one that no host can have
// is a [net.AddrError].
func (n *Network) NAT(public netip.Addr, cfg NATConfig) (*NAT, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if cfg.MappingTimeout == 0 {
		cfg.MappingTimeout = DefaultMappingTimeout
	}
	if cfg.FilterTimeout == 0 {
		cfg.FilterTimeout = cfg.MappingTimeout
	}
	public = public.Unmap()
	h := fnv.New64a()
	h.Write([]byte("nat " + public.String())) // never fails
	g := &NAT{net: n, cfg: cfg, key: mix(mix(n.seed+golden) ^ h.Sum64())}
	if err := g.occupy(public); err != nil {
		return nil, opError("nat", nil, hostAddr(public), err)
	}
	g.area = n.addArea(g)
	g.forget()
	return g, nil
}

// occupy takes a public address. The caller holds Network.mu.
func (g *NAT) occupy(public netip.Addr) error {
	outside := g.net.outside()
	switch {
	case outside.hosts[public] != nil || g.net.nats[public] != nil:
		return os.NewSyscallError("bind", syscall.EADDRINUSE)
	case g.addr.IsValid() && g.addr.BitLen() != public.BitLen():
		return &net.AddrError{Err: "not of the NAT's address family", Addr: public.String()}
	}
	if err := outside.check(public); err != nil {
		return err
	}
	delete(g.net.nats, g.addr)
	g.net.nats[public] = g
	g.addr = public
	return nil
}

// Addr returns the public address that the NAT has now.
func (g *NAT) Addr() netip.Addr {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	return g.addr
}

// Host returns the host with a private address: the same one for the same
// address, made by the first call. [Host.MoveBehind] brings one that is
// elsewhere.
func (g *NAT) Host(private netip.Addr) *Host {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	return g.area.host(private)
}

// Reboot makes the NAT forget its mappings, as a box does that loses power:
// what comes in for them is dropped, and the next packets out leave by ports
// that were in no use before.
func (g *NAT) Reboot() {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	g.forget()
}

// Move gives the NAT another public address, as a provider does that cuts the
// line every night. It is a [NAT.Reboot] as well, and what is in flight to the
// old address is lost. The errors are those of [Network.NAT].
func (g *NAT) Move(public netip.Addr) error {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	public, old := public.Unmap(), g.addr
	if public == old {
		g.forget()
		return nil
	}
	if err := g.occupy(public); err != nil {
		return opError("move", hostAddr(old), hostAddr(public), err)
	}
	g.net.ground(DroppedMoved, func(f *flight) bool { return f.lane.area.nat == nil && f.to.Addr() == old })
	g.forget()
	return nil
}
