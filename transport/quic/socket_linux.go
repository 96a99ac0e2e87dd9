package quic

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	quicgo "github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// maxTrain is what the kernel gives at most: it coalesces up to the
	// longest datagram there is.
	maxTrain = 64 << 10

	// maxControl has room for what quic-go and UDP_GRO ask for, some 150 bytes,
	// and for options that the owner of the socket has set besides.
	maxControl = 512
)

// coalesce makes s one that reads with receive offload, if the kernel has it.
func coalesce(s *udpSocket) net.PacketConn {
	raw, err := s.SyscallConn()
	if err != nil || switchOn(raw) != nil {
		return s
	}
	return &trainSocket{udpSocket: s, buf: make([]byte, maxTrain), oob: make([]byte, maxControl)}
}

// switchOn fails where there is no UDP_GRO: before Linux 5.0, and on sockets
// that are not UDP's.
func switchOn(raw syscall.RawConn) error {
	var missing error
	err := raw.Control(func(fd uintptr) {
		missing = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO, 1)
	})
	if err != nil {
		return err
	}
	return missing
}

// A trainSocket reads with UDP_GRO: one system call fetches a train, datagrams
// that one sender has sent in a row, all of one size but for the last, which
// may be shorter. quic-go gets them one by one.
//
// Nothing else may read from the socket: it would take a train for a datagram.
type trainSocket struct {
	*udpSocket

	// All that follows belongs to the goroutine that calls ReadBatch, the only
	// one of a [quicgo.Transport] that reads.

	buf, oob []byte // what a system call fills
	train           // what was in them, as far as it was not handed on
	from     netip.AddrPort
	addr     *net.UDPAddr // from, made once for all that it sends in a row
}

// A train is what one system call has read.
type train struct {
	rest    []byte // the datagrams that were not handed on
	size    int    // of each of them but the last
	control []byte // what quic-go is to know about each of them
	flags   int    // the kernel's
}

var (
	_ quicgo.OOBCapablePacketConn = (*trainSocket)(nil)
	// This is what quic-go looks for. Without it, it reads from the file
	// descriptor itself.
	_ interface {
		ReadBatch(ms []ipv4.Message, flags int) (int, error)
	} = (*trainSocket)(nil)
)

// ReadBatch has the shape of [ipv4.PacketConn.ReadBatch], and its errors: those
// of the socket as they are. It returns at least one datagram, as quic-go would
// take old messages for new ones otherwise. quic-go has no flags.
func (s *trainSocket) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	if len(ms) == 0 {
		return 0, nil
	}
	if len(s.rest) == 0 {
		if err := s.fetch(); err != nil {
			return 0, err
		}
	}
	n := 0
	for n == 0 || n < len(ms) && len(s.rest) > 0 { // an empty datagram is one, too
		s.next(&ms[n])
		ms[n].Addr = s.addr
		n++
	}
	return n, nil
}

func (s *trainSocket) fetch() error {
	n, oobn, flags, from, err := s.ReadMsgUDPAddrPort(s.buf, s.oob)
	if err != nil {
		return err
	}
	if s.addr == nil || from != s.from {
		s.from, s.addr = from, net.UDPAddrFromAddrPort(from)
	}
	s.train = train{rest: s.buf[:n], flags: flags}
	s.size, s.control = parseControl(s.oob[:oobn])
	return nil
}

// next hands on one datagram. Without a size that makes sense, the train is
// one: if it was several, they fail to decrypt, and are lost as others are.
func (t *train) next(m *ipv4.Message) {
	d := t.rest
	if t.size > 0 && t.size < len(d) {
		d = d[:t.size]
	}
	t.rest = t.rest[len(d):]

	m.Flags = t.flags
	if len(t.rest) > 0 {
		m.Flags &^= unix.MSG_TRUNC // it is the end that was cut off
	}
	// As the kernel does, cut off what has no room.
	if m.N = copy(m.Buffers[0], d); m.N < len(d) {
		m.Flags |= unix.MSG_TRUNC
	}
	// Half a message would be an error to quic-go, and an error ends its reading.
	if m.NN = 0; len(t.control) <= len(m.OOB) {
		m.NN = copy(m.OOB, t.control)
	} else {
		m.Flags |= unix.MSG_CTRUNC
	}
}

// parseControl returns the size of the datagrams in a train, 0 if oob does not
// tell, and the control messages that quic-go reads. What does not have the
// form that quic-go expects is left out, because it would stop reading; so is
// all that follows what cannot be parsed. It overwrites oob.
func parseControl(oob []byte) (size int, keep []byte) {
	keep = oob[:0]
	for len(oob) >= unix.SizeofCmsghdr { // unix.ParseOneSocketControlMessage does not look
		head, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		switch {
		case head.Level == unix.SOL_UDP && head.Type == unix.UDP_GRO:
			size = segmentSize(body)
		case len(body) == bodySize(head.Level, head.Type):
			keep = append(keep, oob[:len(oob)-len(rest)]...)
		}
		oob = rest
	}
	return size, keep
}

// segmentSize returns 0 for what the kernel cannot have meant.
func segmentSize(body []byte) int {
	if len(body) != 4 { // an int
		return 0
	}
	if size := binary.NativeEndian.Uint32(body); size <= maxTrain {
		return int(size)
	}
	return 0
}

// bodySize is how long quic-go expects a control message to be; -1: it has no
// use for it.
func bodySize(level, typ int32) int {
	switch {
	case level == unix.IPPROTO_IP && typ == unix.IP_TOS:
		return 1
	case level == unix.IPPROTO_IP && typ == unix.IP_PKTINFO:
		return unix.SizeofInet4Pktinfo
	case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_TCLASS:
		return 4
	case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_PKTINFO:
		return unix.SizeofInet6Pktinfo
	}
	return -1
}
