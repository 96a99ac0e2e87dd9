package simnet

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
)

// maxPayload is the largest UDP payload that IPv4 takes: 65535 bytes less the
// headers.
const maxPayload = 65507

var _ net.PacketConn = (*socket)(nil)

// A socketState says what the network knows of a socket. It is open until
// Close, or until the network is closed. When its host vanishes it becomes a
// ghost: still open to its owner, gone for the network.
//
//	open ── Vanish ──> ghost ── Close ──> closed
//	  └────────────── Close ───────────────^
type socketState uint8

const (
	socketOpen socketState = iota
	socketGhost
	socketClosed
)

// A socket is what [Host.Listen] returns.
type socket struct {
	host    *Host
	port    uint16
	family  int // the bits of an address of its family
	in      *inbox
	readBy  *deadline
	writeBy *deadline
	done    chan struct{} // closed by release, once

	// Network.mu guards the rest.
	state socketState
	addr  netip.Addr // of its host, while the socket is open
}

func newSocket(h *Host, addr netip.Addr, port uint16) *socket {
	return &socket{
		host:    h,
		port:    port,
		family:  addr.BitLen(),
		addr:    addr,
		in:      newInbox(),
		readBy:  newDeadline(),
		writeBy: newDeadline(),
		done:    make(chan struct{}),
	}
}

// ReadFrom waits for a packet and copies it into p. What does not fit is lost.
func (s *socket) ReadFrom(p []byte) (int, net.Addr, error) {
	d, err := s.receive()
	if err != nil {
		return 0, nil, opError("read", s.LocalAddr(), nil, err)
	}
	return copy(p, d.payload), net.UDPAddrFromAddrPort(d.from), nil
}

func (s *socket) receive() (datagram, error) {
	for {
		passed, changed := s.readBy.passed()
		switch {
		case s.released():
			return datagram{}, net.ErrClosed
		case passed:
			return datagram{}, os.ErrDeadlineExceeded
		}
		if d, ok := s.in.take(); ok {
			return d, nil
		}
		select {
		case <-s.done:
		case <-changed:
		case <-s.in.ready:
		}
	}
}

// WriteTo sends a copy of p. It never waits, and its success says nothing of
// arrival. addr is a *net.UDPAddr of the socket's address family.
func (s *socket) WriteTo(p []byte, addr net.Addr) (int, error) {
	to, err := s.destination(addr)
	if err == nil {
		err = s.transmit(to, p)
	}
	if err != nil {
		return 0, opError("write", s.LocalAddr(), addr, err)
	}
	return len(p), nil
}

// destination checks addr as a kernel would.
func (s *socket) destination(addr net.Addr) (netip.AddrPort, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok || udp == nil {
		return netip.AddrPort{}, syscall.EINVAL
	}
	to := udp.AddrPort()
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	switch {
	case to.Addr().BitLen() != s.family:
		return netip.AddrPort{}, &net.AddrError{Err: "not of the socket's address family", Addr: addr.String()}
	case to.Port() == 0:
		return netip.AddrPort{}, os.NewSyscallError("sendto", syscall.EINVAL)
	}
	return to, nil
}

func (s *socket) transmit(to netip.AddrPort, p []byte) error {
	if passed, _ := s.writeBy.passed(); passed && !s.released() {
		return os.ErrDeadlineExceeded
	}
	if len(p) > maxPayload {
		return os.NewSyscallError("sendto", syscall.EMSGSIZE)
	}
	n := s.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	switch s.state {
	case socketClosed:
		return net.ErrClosed
	case socketGhost:
		return nil // not even counted: it would shift the ordinals of the host's next life
	}
	n.send(s.host, netip.AddrPortFrom(s.addr, s.port), to, slices.Clone(p))
	return nil
}

// Close ends pending and future calls with [net.ErrClosed]. Packets that have
// been sent still arrive; packets that have not been read are lost.
func (s *socket) Close() error {
	if !s.shut() {
		return opError("close", s.LocalAddr(), nil, net.ErrClosed)
	}
	s.release()
	return nil
}

// shut takes the socket off its host, and returns false if it was closed
// already.
func (s *socket) shut() bool {
	n := s.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.state == socketClosed {
		return false
	}
	s.state = socketClosed
	s.host.forget(s)
	return true
}

// release wakes all that wait on the socket. It is called once, by whoever
// made the socket's state closed.
func (s *socket) release() {
	close(s.done)
	s.in.discard()
	s.readBy.set(time.Time{}) // stops the timers
	s.writeBy.set(time.Time{})
}

// released says whether the socket is closed, without taking Network.mu.
func (s *socket) released() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// LocalAddr returns the *net.UDPAddr that the socket has now, or had last.
func (s *socket) LocalAddr() net.Addr {
	n := s.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.addr, s.port))
}

// SetDeadline sets both deadlines.
func (s *socket) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline holds for pending and future reads. Zero is no deadline.
func (s *socket) SetReadDeadline(t time.Time) error { return s.schedule(s.readBy, t) }

// SetWriteDeadline makes writes fail after t. Zero is no deadline.
func (s *socket) SetWriteDeadline(t time.Time) error { return s.schedule(s.writeBy, t) }

func (s *socket) schedule(d *deadline, t time.Time) error {
	if s.released() {
		return opError("set", s.LocalAddr(), nil, net.ErrClosed)
	}
	d.set(t)
	return nil
}

// SetReadBuffer sets the size of the receive buffer. It always succeeds.
func (s *socket) SetReadBuffer(bytes int) error {
	s.in.resize(bytes)
	return nil
}

// SetWriteBuffer has nothing to set, as writes never wait. It is here because
// quic-go warns of sockets without it.
func (s *socket) SetWriteBuffer(int) error { return nil }
