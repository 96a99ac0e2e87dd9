package simnet

import (
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
)

// Ephemeral ports are those of RFC 6335, section 6.
const (
	firstEphemeral = 49152
	ephemeralPorts = math.MaxUint16 - firstEphemeral + 1
)

// A Host is one machine of a [Network], with one address at a time.
type Host struct {
	net *Network

	// Network.mu guards the rest.
	area    *area
	addr    netip.Addr
	sockets map[uint16]*socket // by port
	next    uint16             // the ephemeral port to try first
	ghosts  []*socket          // open still, from before the host vanished
}

// Addr returns the address that the host has now.
func (h *Host) Addr() netip.Addr {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.addr
}

// Listen opens a socket on a port of the host; port 0 takes an ephemeral one,
// another one each time until all have had their turn. After [Host.Vanish] it
// brings the host back.
//
// The socket behaves as a [net.UDPConn] that is not connected: its addresses
// are *net.UDPAddr, reading into a short buffer cuts the packet, using it after
// Close is [net.ErrClosed], a deadline that has passed is
// [os.ErrDeadlineExceeded], and it has SetReadBuffer and SetWriteBuffer (but no
// SyscallConn). Its methods may be called from any goroutine.
//
// It is bound as one to the unspecified address is: it goes with the host when
// that moves (see [Host.Move]), and its LocalAddr is where it sends from now.
//
// A port in use is [syscall.EADDRINUSE], an address that no host can have there
// is a [net.AddrError], a closed network is [net.ErrClosed].
func (h *Host) Listen(port uint16) (net.PacketConn, error) {
	s, err := h.listen(port)
	if err != nil {
		at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.Addr(), port))
		return nil, opError("listen", nil, at, err)
	}
	return s, nil
}

func (h *Host) listen(port uint16) (*socket, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if err := h.area.check(h.addr); err != nil {
		return nil, err
	}
	if h.net.closed {
		return nil, net.ErrClosed
	}
	if port == 0 {
		port = h.ephemeral()
	}
	if port == 0 || h.sockets[port] != nil {
		return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	s := newSocket(h, h.addr, port)
	h.sockets[port] = s
	return s, nil
}

// ephemeral returns a free port, or 0 if there is none. It goes round, so that
// a port just closed is the last to be taken again: what is still in flight to
// it finds nobody. The caller holds Network.mu.
func (h *Host) ephemeral() uint16 {
	for range ephemeralPorts {
		port := h.next
		if h.next++; h.next == 0 {
			h.next = firstEphemeral
		}
		if h.sockets[port] == nil {
			return port
		}
	}
	return 0
}

// forget takes a closed socket off the host. The caller holds Network.mu.
func (h *Host) forget(s *socket) {
	if h.sockets[s.port] == s {
		delete(h.sockets, s.port)
		return
	}
	// A ghost: its port may belong to another socket by now.
	h.ghosts = slices.DeleteFunc(h.ghosts, func(g *socket) bool { return g == s })
}

// shut closes all sockets of the host and returns them, for the caller to
// release. The caller holds Network.mu.
func (h *Host) shut() []*socket {
	open := h.ghosts
	for _, s := range h.sockets {
		open = append(open, s)
	}
	for _, s := range open {
		s.state = socketClosed
	}
	clear(h.sockets)
	h.ghosts = nil
	return open
}
