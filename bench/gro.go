package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// A groSocket is a UDP socket with receive offload: the kernel hands over many
// datagrams of one sender at once, and quic-go gets them one by one through
// ReadBatch, which it prefers to its own way of reading. quic-go reads from one
// goroutine.
type groSocket struct {
	*net.UDPConn

	buf  []byte // what the kernel gives at once
	rest []byte // the part of it that was not handed on
	size int    // of each datagram in it but the last
	oob  []byte
	tos  []byte // the control message with the ECN bits, for each datagram

	from netip.AddrPort
	addr *net.UDPAddr // the same, made once
}

const groBuffer = 64 << 10

func newGROSocket(conn *net.UDPConn) (*groSocket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var serr error
	err = raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO, 1) })
	if err == nil {
		err = serr
	}
	if err != nil {
		return nil, fmt.Errorf("UDP_GRO: %w", err)
	}
	return &groSocket{UDPConn: conn, buf: make([]byte, groBuffer), oob: make([]byte, 256)}, nil
}

// ReadBatch has the shape of [ipv4.PacketConn.ReadBatch].
func (s *groSocket) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	if len(s.rest) == 0 {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := 0
	for n < len(ms) && len(s.rest) > 0 {
		size := min(s.size, len(s.rest))
		ms[n].N = copy(ms[n].Buffers[0], s.rest[:size])
		ms[n].NN = copy(ms[n].OOB, s.tos)
		ms[n].Addr = s.addr
		s.rest = s.rest[size:]
		n++
	}
	return n, nil
}

func (s *groSocket) fill() error {
	n, oobn, _, from, err := s.ReadMsgUDPAddrPort(s.buf, s.oob)
	if err != nil {
		return err
	}
	if from != s.from || s.addr == nil {
		s.from, s.addr = from, net.UDPAddrFromAddrPort(from)
	}
	s.rest, s.size, s.tos = s.buf[:n], max(n, 1), s.tos[:0]
	return s.control(s.oob[:oobn])
}

// control finds the size of the datagrams, and keeps the ECN bits.
func (s *groSocket) control(oob []byte) error {
	for len(oob) > 0 {
		head, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return err
		}
		used := len(oob) - len(rest)
		switch {
		case head.Level == unix.SOL_UDP && head.Type == unix.UDP_GRO && len(body) >= 4:
			if size := int(binary.NativeEndian.Uint32(body)); size > 0 {
				s.size = size
			}
		case head.Level == unix.IPPROTO_IP && head.Type == unix.IP_TOS:
			s.tos = append(s.tos, oob[:used]...)
		}
		oob = rest
	}
	return nil
}
