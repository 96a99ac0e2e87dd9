package simnet

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Move gives the host another address in the network it is in, as a machine
// gets that comes to another access point. Its sockets stay open and keep their
// ports; what they send from now on comes from the new address. What is in
// flight to the old address is lost, what has been sent from it arrives.
//
// Links and cuts belong to addresses: a host that has moved meets those of its
// new one.
//
// An address for which there is a [Host] already is [syscall.EADDRINUSE], also
// if that host has no socket. One that no host can have there, or of the other
// address family, is a [net.AddrError]. After an error nothing has changed.
func (h *Host) Move(to netip.Addr) error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.move(h.area, to.Unmap())
}

// MoveBehind is [Host.Move] into the private network of a [NAT], or, if g is
// nil, out into the open network.
func (h *Host) MoveBehind(g *NAT, to netip.Addr) error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	a := h.net.outside()
	if g != nil {
		a = g.area
	}
	if a.net != h.net {
		return opError("move", hostAddr(h.addr), hostAddr(to), syscall.ENETUNREACH)
	}
	return h.move(a, to.Unmap())
}

// move does not touch the mappings of the NAT that is left: packets to them
// find no host. The caller holds Network.mu.
func (h *Host) move(a *area, to netip.Addr) error {
	if a == h.area && to == h.addr {
		return nil
	}
	err := a.check(to)
	switch {
	case err != nil:
	case to.BitLen() != h.addr.BitLen():
		err = &net.AddrError{Err: "not of the host's address family", Addr: to.String()}
	case a.hosts[to] != nil:
		err = os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	if err != nil {
		return opError("move", hostAddr(h.addr), hostAddr(to), err)
	}
	h.net.ground(DroppedMoved, func(f *flight) bool { return h.net.receiver(f) == h })
	delete(h.area.hosts, h.addr)
	h.area, h.addr = a, to
	a.hosts[to] = h
	for _, s := range h.sockets {
		s.addr = to
	}
	return nil
}

// hostAddr is an address without a port for errors.
func hostAddr(a netip.Addr) net.Addr { return &net.IPAddr{IP: a.AsSlice(), Zone: a.Zone()} }
