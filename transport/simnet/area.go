package simnet

import (
	"net"
	"net/netip"
)

// An area is what addresses are unique in: the open network, or the private
// network behind a NAT. Network.mu guards all of it.
type area struct {
	net    *Network
	nat    *NAT // nil: this is the open network
	number int  // orders the areas of a network
	hosts  map[netip.Addr]*Host
	lanes  map[Direction]*lane
}

// addArea makes one more area. The caller holds n.mu, or has just made n.
func (n *Network) addArea(nat *NAT) *area {
	a := &area{
		net:    n,
		nat:    nat,
		number: len(n.areas),
		hosts:  make(map[netip.Addr]*Host),
		lanes:  make(map[Direction]*lane),
	}
	n.areas = append(n.areas, a)
	return a
}

// outside is the open network. The caller holds n.mu.
func (n *Network) outside() *area { return n.areas[0] }

// host returns the host with an address, and makes it if there is none.
func (a *area) host(addr netip.Addr) *Host {
	addr = addr.Unmap()
	h := a.hosts[addr]
	if h == nil {
		h = &Host{
			net:     a.net,
			area:    a,
			addr:    addr,
			sockets: make(map[uint16]*socket),
			next:    firstEphemeral,
		}
		a.hosts[addr] = h
	}
	return h
}

// lane returns the state of a direction.
func (a *area) lane(from, to netip.Addr) *lane {
	dir := direction(from, to)
	l := a.lanes[dir]
	if l == nil {
		l = &lane{Direction: dir, area: a, key: laneKey(a.net.seed, dir)}
		a.lanes[dir] = l
	}
	return l
}

// check returns an error if no host of the area can have the address.
func (a *area) check(addr netip.Addr) error {
	why := ""
	switch {
	case !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast():
		why = "not the address of a host"
	case a.nat == nil && a.net.nats[addr] != nil:
		why = "the address of a NAT"
	case a.nat != nil && a.nat.addr.BitLen() != addr.BitLen():
		why = "not of the NAT's address family"
	default:
		return nil
	}
	return &net.AddrError{Err: why, Addr: addr.String()}
}
