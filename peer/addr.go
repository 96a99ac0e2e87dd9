package peer

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// addrPort returns an address as one of package netip, IPv4 in its own form,
// or zero if it is no IP address.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case nil:
	case *net.UDPAddr: // as nearly all are, and each opening asks
		ap = a.AddrPort()
	default:
		ap, _ = netip.ParseAddrPort(a.String()) // zero if it is none
	}
	if !ap.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// addrText returns an address as parseAddr writes it.
func addrText(a net.Addr) string {
	if ap := addrPort(a); ap.IsValid() {
		return ap.String()
	}
	return a.String()
}

// advertise returns the host:port that goes into URLs.
func advertise(cfg Config) (string, error) {
	if cfg.AdvertiseAddr != "" {
		addr, err := parseAddr(cfg.AdvertiseAddr)
		if err != nil {
			return "", urlError(cfg.AdvertiseAddr, "%v", err)
		}
		return addr, nil
	}
	addr := cfg.PacketConn.LocalAddr()
	ap := addrPort(addr)
	switch {
	case !ap.IsValid():
		return "", fmt.Errorf("peer: socket address %v needs an AdvertiseAddr", addr)
	case ap.Addr().IsUnspecified():
		ap = netip.AddrPortFrom(ownAddr(), ap.Port())
	}
	return ap.String(), nil
}

// ownAddr returns an address of this machine: IPv4 before IPv6, routable
// before loopback.
func ownAddr() netip.Addr {
	best := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, ip := range machineAddrs() {
		switch {
		case ip.IsLoopback() || !ip.IsGlobalUnicast():
		case ip.Is4():
			return ip
		case best.IsLoopback():
			best = ip
		}
	}
	return best
}

// machineAddrs returns the addresses of this machine's interfaces.
func machineAddrs() []netip.Addr {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var ips []netip.Addr
	for _, a := range addrs {
		if ipnet, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(ipnet.IP); ok {
				ips = append(ips, ip.Unmap())
			}
		}
	}
	return ips
}

// isOwnAddr tells whether a host:port in parseAddr's form leads to this node's
// socket. It errs on the side of no: a name other than localhost is not
// resolved.
func (n *Node) isOwnAddr(addr string) bool {
	if addr == n.advertised {
		return true
	}
	own := addrPort(n.endpoint.Addr())
	if strings.HasPrefix(addr, "localhost:") {
		addr = "127.0.0.1" + strings.TrimPrefix(addr, "localhost")
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || ap.Port() != own.Port() {
		return false
	}
	if !own.Addr().IsUnspecified() {
		return ap.Addr() == own.Addr()
	}
	if ap.Addr().IsLoopback() {
		return true
	}
	for _, ip := range machineAddrs() {
		if ip == ap.Addr() {
			return true
		}
	}
	return false
}
