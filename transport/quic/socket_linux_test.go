package quic

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// quicBuffer is how long the buffers are that quic-go reads into.
const quicBuffer = 1452

// controlMessage makes one as the kernel does.
func controlMessage(level, typ int32, body []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(body)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(len(body)))
	copy(b[unix.CmsgLen(0):], body)
	return b
}

// number is an int as in control messages.
func number(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// segments tells the kernel to cut what is sent into datagrams of size. On
// loopback it does not, if the receiver has receive offload.
func segments(size uint16) []byte {
	return controlMessage(unix.SOL_UDP, unix.UDP_SEGMENT, binary.NativeEndian.AppendUint16(nil, size))
}

// batch are the messages that quic-go reads into.
func batch() []ipv4.Message {
	ms := make([]ipv4.Message, 8)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, quicBuffer)}
		ms[i].OOB = make([]byte, 128)
	}
	return ms
}

// trains makes a socket with receive offload.
func trains(t *testing.T, network, addr string) *trainSocket {
	t.Helper()
	pc := bound(t, network, addr)
	s, ok := socket(pc, new(outage)).(*trainSocket)
	if !ok {
		t.Skip("this kernel has no UDP_GRO")
	}
	s.SetReadDeadline(time.Now().Add(20 * time.Second))
	return s
}

func bound(t *testing.T, network, addr string) *net.UDPConn {
	t.Helper()
	pc, err := net.ListenPacket(network, addr)
	if err != nil {
		t.Skipf("this machine has no %s at %s: %v", network, addr, err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc.(*net.UDPConn)
}

// set switches a socket option on, as quic-go does.
func set(t *testing.T, s *trainSocket, level, opt int) {
	t.Helper()
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, opt, 1) })
	if err != nil {
		t.Fatal(err)
	}
}

// send sends b from pc to s, to addr if s has no address of its own.
func send(t *testing.T, pc *net.UDPConn, s *trainSocket, addr string, b []byte, oob ...[]byte) {
	t.Helper()
	to := s.LocalAddr().(*net.UDPAddr)
	if addr != "" {
		to = &net.UDPAddr{IP: net.ParseIP(addr), Port: to.Port}
	}
	if _, _, err := pc.WriteMsgUDP(b, slices.Concat(oob...), to); err != nil {
		t.Fatal(err)
	}
}

// text makes n bytes that tell where they stand.
func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8)
	}
	return b
}

// readBatch returns copies of the datagrams of one ReadBatch, and the messages.
func readBatch(t *testing.T, s *trainSocket) (got [][]byte, ms []ipv4.Message) {
	t.Helper()
	ms = batch()
	n, err := s.ReadBatch(ms, 0)
	if err != nil || n == 0 {
		t.Fatalf("ReadBatch: %d messages, %v", n, err)
	}
	for _, m := range ms[:n] {
		got = append(got, m.Buffers[0][:m.N])
	}
	return got, ms[:n]
}

func lengths(ds [][]byte) (ns []int) {
	for _, d := range ds {
		ns = append(ns, len(d))
	}
	return ns
}

func TestTrainComesOneByOne(t *testing.T) {
	s, pc := trains(t, "udp4", "127.0.0.1:0"), bound(t, "udp4", "127.0.0.1:0")
	want := text(20*1200 + 300)
	send(t, pc, s, "", want, segments(1200))
	var all []byte
	for _, sizes := range [][]int{
		{1200, 1200, 1200, 1200, 1200, 1200, 1200, 1200}, // as many as fit in one batch
		{1200, 1200, 1200, 1200, 1200, 1200, 1200, 1200},
		{1200, 1200, 1200, 1200, 300}, // the last one is shorter
	} {
		got, ms := readBatch(t, s)
		if !slices.Equal(lengths(got), sizes) {
			t.Fatalf("datagrams of %v bytes, want %v", lengths(got), sizes)
		}
		for _, m := range ms {
			if m.Addr.String() != pc.LocalAddr().String() || m.Flags != 0 {
				t.Errorf("from %v with flags %#x, want %v and none", m.Addr, m.Flags, pc.LocalAddr())
			}
		}
		all = append(all, bytes.Join(got, nil)...)
	}
	if !bytes.Equal(all, want) {
		t.Error("what has come is not what was sent")
	}
	send(t, pc, s, "", want[:77])
	if got, _ := readBatch(t, s); !slices.Equal(lengths(got), []int{77}) {
		t.Errorf("datagrams of %v bytes after the train, want one of 77", lengths(got))
	}
}

func TestTrainsOfSeveralSenders(t *testing.T) {
	s := trains(t, "udp4", "127.0.0.1:0")
	a, b := bound(t, "udp4", "127.0.0.1:0"), bound(t, "udp4", "127.0.0.1:0")
	var last net.Addr
	for i, pc := range []*net.UDPConn{a, b, b, a} {
		send(t, pc, s, "", text(2500), segments(1000))
		got, ms := readBatch(t, s)
		if !slices.Equal(lengths(got), []int{1000, 1000, 500}) {
			t.Fatalf("datagrams of %v bytes", lengths(got))
		}
		for _, m := range ms {
			if m.Addr.String() != pc.LocalAddr().String() {
				t.Errorf("train %d comes from %v, want %v", i, m.Addr, pc.LocalAddr())
			}
		}
		if i == 2 && ms[0].Addr != last {
			t.Error("the address of the same sender was made again")
		}
		last = ms[0].Addr
	}
}

// control finds the body of a control message of m.
func control(t *testing.T, m ipv4.Message, level, typ int32) []byte {
	t.Helper()
	for oob := m.OOB[:m.NN]; len(oob) > 0; {
		head, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			t.Fatal(err)
		}
		if head.Level == level && head.Type == typ {
			return body
		}
		oob = rest
	}
	t.Fatalf("no control message %d of level %d in %x", typ, level, m.OOB[:m.NN])
	return nil
}

func TestECNOfTrains(t *testing.T) {
	for _, v := range []struct {
		network, addr    string
		level, recv, typ int
		body             func(ecn byte) []byte
	}{
		{"udp4", "127.0.0.1:0", unix.IPPROTO_IP, unix.IP_RECVTOS, unix.IP_TOS, func(ecn byte) []byte { return []byte{ecn} }},
		{"udp6", "[::1]:0", unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, unix.IPV6_TCLASS, func(ecn byte) []byte { return number(uint32(ecn)) }},
	} {
		t.Run(v.network, func(t *testing.T) {
			s, pc := trains(t, v.network, v.addr), bound(t, v.network, v.addr)
			set(t, s, v.level, v.recv)
			for _, ecn := range []byte{1, 2, 3} {
				send(t, pc, s, "", text(2500), segments(1000), controlMessage(int32(v.level), int32(v.typ), number(uint32(ecn))))
				got, ms := readBatch(t, s)
				if len(got) != 3 {
					t.Fatalf("datagrams of %v bytes, want 3", lengths(got))
				}
				for _, m := range ms {
					if body := control(t, m, int32(v.level), int32(v.typ)); !bytes.Equal(body, v.body(ecn)) {
						t.Errorf("ECN bits %x, want %x", body, v.body(ecn))
					}
				}
			}
		})
	}
}

func TestPacketInfoOfTrains(t *testing.T) {
	// quic-go answers from the address that it was written to.
	for _, v := range []struct{ network, listen, from, to string }{
		{"udp4", "0.0.0.0:0", "127.0.0.1:0", "127.0.0.3"},
		{"udp6", "[::]:0", "[::1]:0", "::1"},
		{"udp", ":0", "127.0.0.1:0", "127.0.0.3"},
	} {
		t.Run(v.network, func(t *testing.T) {
			s, pc := trains(t, v.network, v.listen), bound(t, "udp", v.from)
			to := netip.MustParseAddr(v.to)
			if v.network != "udp6" {
				set(t, s, unix.IPPROTO_IP, unix.IP_PKTINFO)
				set(t, s, unix.IPPROTO_IP, unix.IP_RECVTOS)
			}
			if v.network != "udp4" {
				set(t, s, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO)
				set(t, s, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS)
			}
			send(t, pc, s, v.to, text(2500), segments(1000))
			got, ms := readBatch(t, s)
			if len(got) != 3 {
				t.Fatalf("datagrams of %v bytes, want 3", lengths(got))
			}
			for _, m := range ms {
				var ip netip.Addr
				if to.Is4() {
					ip, _ = netip.AddrFromSlice(control(t, m, unix.IPPROTO_IP, unix.IP_PKTINFO)[8:12])
				} else {
					ip, _ = netip.AddrFromSlice(control(t, m, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO)[:16])
				}
				if ip != to {
					t.Errorf("sent to %v, want %v", ip, to)
				}
			}
		})
	}
}

func TestLongAndEmptyDatagrams(t *testing.T) {
	s, pc := trains(t, "udp4", "127.0.0.1:0"), bound(t, "udp4", "127.0.0.1:0")
	want := text(65507) // the longest that IPv4 has
	for _, v := range []struct {
		sent  int
		oob   []byte
		sizes []int
		cut   int // how many of them
	}{
		{sent: 0, sizes: []int{0}},
		{sent: quicBuffer, sizes: []int{quicBuffer}},
		{sent: quicBuffer + 1, sizes: []int{quicBuffer}, cut: 1},
		{sent: 0, sizes: []int{0}},
		{sent: 65507, sizes: []int{quicBuffer}, cut: 1},
		{sent: 4500, oob: segments(2000), sizes: []int{quicBuffer, quicBuffer, 500}, cut: 2},
		{sent: 1, sizes: []int{1}},
	} {
		send(t, pc, s, "", want[:v.sent], v.oob)
		got, ms := readBatch(t, s)
		if !slices.Equal(lengths(got), v.sizes) {
			t.Fatalf("%d bytes have come as datagrams of %v, want %v", v.sent, lengths(got), v.sizes)
		}
		for i, m := range ms {
			if cut := m.Flags&unix.MSG_TRUNC != 0; cut != (i < v.cut) {
				t.Errorf("%d bytes, datagram %d: cut is %v", v.sent, i, cut)
			}
		}
		if !bytes.Equal(got[0], want[:len(got[0])]) {
			t.Errorf("%d bytes: the first datagram is not what was sent", v.sent)
		}
	}
}

// A readError answers what quic-go asks. It is a [net.Error].
type readError interface {
	error
	Timeout() bool
	Temporary() bool
}

func TestErrorsOfTrains(t *testing.T) {
	// quic-go goes on after some errors and stops after others, so they are the
	// same as of the reader that it would use otherwise.
	s, pc := trains(t, "udp4", "127.0.0.1:0"), bound(t, "udp4", "127.0.0.1:0")
	other := ipv4.NewPacketConn(pc)
	same := func(what string, is error) {
		t.Helper()
		n, got := s.ReadBatch(batch(), 0)
		_, want := other.ReadBatch(batch(), 0)
		gotNet, ok := errors.AsType[readError](got)
		wantNet, _ := errors.AsType[readError](want)
		if n != 0 || !ok || !errors.Is(got, is) || !errors.Is(want, is) ||
			gotNet.Timeout() != wantNet.Timeout() || gotNet.Temporary() != wantNet.Temporary() {
			t.Errorf("%s: %d messages, %v; want none, and what is like %v", what, n, got, want)
		}
	}
	send(t, pc, s, "", text(12*1000), segments(1000))
	if got, _ := readBatch(t, s); len(got) != 8 {
		t.Fatalf("datagrams of %v bytes, want 8", lengths(got))
	}
	s.SetReadDeadline(time.Unix(1, 0))
	pc.SetReadDeadline(time.Unix(1, 0))
	if got, _ := readBatch(t, s); len(got) != 4 {
		t.Errorf("what was read before the deadline comes as datagrams of %v bytes, want 4", lengths(got))
	}
	same("deadline", os.ErrDeadlineExceeded)

	s.SetReadDeadline(time.Now().Add(20 * time.Second))
	send(t, pc, s, "", text(2), segments(1))
	if got, _ := readBatch(t, s); len(got) != 2 {
		t.Errorf("after a deadline datagrams of %v bytes come, want 2", lengths(got))
	}
	s.Close()
	pc.Close()
	same("closed", net.ErrClosed)
}

func TestOutageOfTrains(t *testing.T) {
	s := trains(t, "udp6", "[::1]:0")
	to := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9} // IPv6 alone has no route there
	for name, write := range map[string]func(b []byte) (int, error){
		"WriteTo": func(b []byte) (int, error) { return s.WriteTo(b, to) },
		"WriteMsgUDP": func(b []byte) (int, error) {
			n, _, err := s.WriteMsgUDP(b, nil, to)
			return n, err
		},
	} {
		began := time.Now()
		if n, err := write(text(5)); n != 5 || err != nil {
			t.Errorf("%s without a route: %d, %v; want 5, as if it was lost on the way", name, n, err)
		}
		if err := s.outage.since(began, to); !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("%s: the outage is %v, want ENETUNREACH", name, err)
		}
	}
}

func TestSocketsWithoutOffload(t *testing.T) {
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := ln.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := switchOn(raw); err == nil {
		t.Error("the kernel has switched on UDP_GRO of a TCP socket")
	}
	pc := bound(t, "udp4", "127.0.0.1:0")
	if s := socket(struct{ net.PacketConn }{pc}, new(outage)); !is[*packetSocket](s) {
		t.Errorf("a socket of another kind becomes a %T", s)
	}
	pc.Close()
	if s := socket(pc, new(outage)); !is[*udpSocket](s) {
		t.Errorf("a socket where the option cannot be set becomes a %T", s)
	}
}

func is[T any](v any) bool {
	_, ok := v.(T)
	return ok
}
