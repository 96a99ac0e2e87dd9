package quic

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	quicgo "github.com/quic-go/quic-go"
)

// To quic-go a packet that cannot be sent is the end of the connection. But a
// machine that changes networks has no route for a moment, and a full queue or
// a firewall may say no as well: such packets are lost on the way, as others
// are, and what is lost is sent again.

// socket makes pc one that loses what cannot be sent just now.
func socket(pc net.PacketConn, o *outage) net.PacketConn {
	if udp, ok := pc.(*net.UDPConn); ok {
		return coalesce(&udpSocket{UDPConn: udp, outage: o})
	}
	return &packetSocket{PacketConn: pc, outage: o}
}

var _ quicgo.OOBCapablePacketConn = (*udpSocket)(nil)

// A udpSocket has everything that quic-go looks for in a *net.UDPConn.
type udpSocket struct {
	*net.UDPConn
	outage *outage
}

func (s *udpSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := s.UDPConn.WriteTo(b, to)
	if s.outage.note(to, err) {
		return len(b), nil
	}
	return n, err
}

// WriteMsgUDP is how quic-go sends where it can send several packets at once.
func (s *udpSocket) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = s.UDPConn.WriteMsgUDP(b, oob, to)
	if s.outage.note(to, err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

// A packetSocket is any other socket, such as a simulated one.
type packetSocket struct {
	net.PacketConn
	outage *outage
}

func (s *packetSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := s.PacketConn.WriteTo(b, to)
	if s.outage.note(to, err) {
		return len(b), nil
	}
	return n, err
}

// SetReadBuffer and SetWriteBuffer are there because quic-go would complain on
// standard error that it cannot enlarge the kernel's buffers, also of a socket
// that has none.
func (s *packetSocket) SetReadBuffer(n int) error {
	if b, ok := s.PacketConn.(interface{ SetReadBuffer(bytes int) error }); ok {
		return b.SetReadBuffer(n)
	}
	return nil
}

func (s *packetSocket) SetWriteBuffer(n int) error {
	if b, ok := s.PacketConn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		return b.SetWriteBuffer(n)
	}
	return nil
}

// An outage remembers the last packet that could not be sent, for the error of
// a dial that nobody has answered.
type outage struct{ last atomic.Pointer[unsent] }

type unsent struct {
	to  net.Addr
	at  time.Time
	err error
}

// note reports whether err is one that passes.
func (o *outage) note(to net.Addr, err error) bool {
	if err == nil || !passing(err) {
		return false
	}
	o.last.Store(&unsent{to: to, at: time.Now(), err: err})
	return true
}

// since returns why the last packet could not be sent, if it was for addr and
// not sent earlier.
func (o *outage) since(t time.Time, addr net.Addr) error {
	if u := o.last.Load(); u != nil && !u.at.Before(t) && sameAddr(u.to, addr) {
		return u.err
	}
	return nil
}

// passing reports whether a packet that has failed with err may get through a
// little later.
func passing(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return false
	}
	switch errno {
	case syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EHOSTUNREACH, syscall.EHOSTDOWN,
		syscall.EADDRNOTAVAIL, // the address that the socket is bound to has gone
		syscall.ENOBUFS,
		syscall.EPERM: // a firewall
		return true
	case 10049, 10050, 10051, 10055, 10064, 10065: // the same on Windows
		return true
	}
	return false
}
