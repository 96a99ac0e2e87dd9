package nettest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
)

// A socket talks to one part of the kernel, in the namespace of the thread
// that has opened it.
type socket struct {
	fd  int
	seq uint32
}

// netlinkNetfilter is missing from package syscall.
const netlinkNetfilter = 12

func openSocket(protocol int) (*socket, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return nil, errors.Join(fmt.Errorf("netlink socket: %w", err), syscall.Close(fd))
	}
	// A kernel that does not answer must not hang a test.
	limit := syscall.Timeval{Sec: 10}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit); err != nil {
		return nil, errors.Join(fmt.Errorf("netlink socket: %w", err), syscall.Close(fd))
	}
	return &socket{fd: fd}, nil
}

func (s *socket) close() { _ = syscall.Close(s.fd) } // nothing is buffered

// request sends one request and returns the kernel's answer to it.
func (s *socket) request(kind uint16, flags uint16, body []byte) error {
	s.seq++
	msg := message(kind, syscall.NLM_F_REQUEST|syscall.NLM_F_ACK|flags, s.seq, body)
	return s.exchange(msg, s.seq)
}

// exchange sends messages and waits for the answer to the one with that
// sequence number. An error for any of them ends it.
func (s *socket) exchange(msgs []byte, last uint32) error {
	if err := syscall.Sendto(s.fd, msgs, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := syscall.Recvfrom(s.fd, buf, 0)
		if err != nil {
			return fmt.Errorf("netlink: no answer: %w", err)
		}
		answers, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		for _, a := range answers {
			if a.Header.Type != syscall.NLMSG_ERROR || len(a.Data) < 4 {
				continue
			}
			if errno := -int32(binary.NativeEndian.Uint32(a.Data)); errno != 0 {
				return syscall.Errno(errno)
			}
			if a.Header.Seq == last {
				return nil
			}
		}
	}
}

// message puts the header before body.
func message(kind, flags uint16, seq uint32, body []byte) []byte {
	var b []byte
	b = binary.NativeEndian.AppendUint32(b, uint32(syscall.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // to the kernel
	return pad(append(b, body...))
}

// attr is one attribute: length, type, value, padding.
func attr(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...))
}

// nest is an attribute that consists of attributes.
func nest(kind uint16, attrs ...[]byte) []byte {
	const nested = 1 << 15
	return attr(kind|nested, concat(attrs...))
}

func attrText(kind uint16, s string) []byte { return attr(kind, append([]byte(s), 0)) }

func attrNative(kind uint16, v uint32) []byte {
	return attr(kind, binary.NativeEndian.AppendUint32(nil, v))
}

// attrBig is a number as nftables wants it.
func attrBig(kind uint16, v uint32) []byte {
	return attr(kind, binary.BigEndian.AppendUint32(nil, v))
}

func concat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
