package quic

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestParseControl(t *testing.T) {
	gro := controlMessage(unix.SOL_UDP, unix.UDP_GRO, number(1200))
	tos := controlMessage(unix.IPPROTO_IP, unix.IP_TOS, []byte{2})
	class := controlMessage(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, number(2))
	info4 := controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 12))
	info6 := controlMessage(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, make([]byte, 20))
	stamp := controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMP, make([]byte, 16))
	segment := func(body ...byte) []byte { return controlMessage(unix.SOL_UDP, unix.UDP_GRO, body) }
	claims := func(n int) []byte { // a message that says it has n bytes
		b := bytes.Clone(tos)
		(*unix.Cmsghdr)(unsafe.Pointer(&b[0])).SetLen(n)
		return b
	}
	for name, v := range map[string]struct {
		oob  [][]byte
		size int
		keep [][]byte
	}{
		"nothing":                   {},
		"all, in one order":         {oob: [][]byte{gro, tos, info4, info6}, size: 1200, keep: [][]byte{tos, info4, info6}},
		"and in another":            {oob: [][]byte{info6, class, gro}, size: 1200, keep: [][]byte{info6, class}},
		"what nobody reads":         {oob: [][]byte{stamp, gro, stamp, tos}, size: 1200, keep: [][]byte{tos}},
		"size of 0":                 {oob: [][]byte{segment(0, 0, 0, 0), tos}, keep: [][]byte{tos}},
		"size of 2³²−1":             {oob: [][]byte{segment(0xff, 0xff, 0xff, 0xff), tos}, keep: [][]byte{tos}},
		"size of 64 KiB and a byte": {oob: [][]byte{controlMessage(unix.SOL_UDP, unix.UDP_GRO, number(maxTrain+1))}},
		"size without bytes":        {oob: [][]byte{segment(), tos}, keep: [][]byte{tos}},
		"size of 3 bytes":           {oob: [][]byte{segment(1, 1, 1), tos}, keep: [][]byte{tos}},
		"size of 8 bytes":           {oob: [][]byte{segment(1, 1, 1, 1, 1, 1, 1, 1)}},
		"tos without bytes":         {oob: [][]byte{controlMessage(unix.IPPROTO_IP, unix.IP_TOS, nil), gro}, size: 1200},
		"tos of 4 bytes":            {oob: [][]byte{controlMessage(unix.IPPROTO_IP, unix.IP_TOS, number(2)), gro}, size: 1200},
		"class of 1 byte":           {oob: [][]byte{controlMessage(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, []byte{2}), gro}, size: 1200},
		"info of 8 bytes":           {oob: [][]byte{controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 8)), gro}, size: 1200},
		"cut in a head":             {oob: [][]byte{gro, tos, info4[:unix.SizeofCmsghdr-1]}, size: 1200, keep: [][]byte{tos}},
		"cut in a body":             {oob: [][]byte{gro, tos, info4[:unix.CmsgLen(12)-1]}, size: 1200, keep: [][]byte{tos}},
		"cut in the padding":        {oob: [][]byte{gro, tos[:unix.CmsgLen(1)]}, size: 1200, keep: [][]byte{tos[:unix.CmsgLen(1)]}},
		"length of 0":               {oob: [][]byte{gro, claims(0), info4}, size: 1200},
		"length of half a head":     {oob: [][]byte{gro, claims(unix.SizeofCmsghdr / 2), info4}, size: 1200},
		"length beyond the end":     {oob: [][]byte{gro, tos, claims(200)}, size: 1200, keep: [][]byte{tos}},
		"length of 2⁶⁴−1":           {oob: [][]byte{gro, tos, claims(-1), info4}, size: 1200, keep: [][]byte{tos}},
	} {
		size, keep := parseControl(slices.Concat(v.oob...))
		if want := slices.Concat(v.keep...); size != v.size || !bytes.Equal(keep, want) {
			t.Errorf("%s: size %d, want %d; kept\n%x, want\n%x", name, size, v.size, keep, want)
		}
	}
}

func TestTrainOfAnySize(t *testing.T) {
	for name, v := range map[string]struct {
		n, size, flags, control int
		want                    []int
		last                    int // flags of the last datagram
	}{
		"no size":              {n: 1000, want: []int{1000}},
		"size of all":          {n: 1000, size: 1000, want: []int{1000}},
		"size of more":         {n: 1000, size: maxTrain, want: []int{1000}},
		"size of a byte":       {n: 3, size: 1, want: []int{1, 1, 1}},
		"no size, too long":    {n: 3000, want: []int{quicBuffer}, last: unix.MSG_TRUNC},
		"nothing":              {n: 0, size: 1200, want: []int{0}},
		"the end was cut off":  {n: 25, size: 10, flags: unix.MSG_TRUNC, want: []int{10, 10, 5}, last: unix.MSG_TRUNC},
		"too much is told":     {n: 10, control: 129, want: []int{10}, last: unix.MSG_CTRUNC},
		"as much as there may": {n: 10, control: 128, want: []int{10}},
	} {
		tr := train{rest: text(v.n), size: v.size, flags: v.flags, control: make([]byte, v.control)}
		m := batch()[0]
		for i, want := range v.want {
			tr.next(&m)
			flags := 0
			if i == len(v.want)-1 {
				flags = v.last
			}
			if m.N != want || m.Flags != flags {
				t.Errorf("%s: datagram %d has %d bytes and flags %#x, want %d and %#x", name, i, m.N, m.Flags, want, flags)
			}
		}
		if len(tr.rest) > 0 || m.NN != v.control && m.NN != 0 {
			t.Errorf("%s: %d bytes are left, %d of %d bytes are told", name, len(tr.rest), m.NN, v.control)
		}
	}
}

// FuzzControl checks that quic-go can read what is kept of control messages,
// and that a train that they come with falls into datagrams without a gap.
func FuzzControl(f *testing.F) {
	gro := controlMessage(unix.SOL_UDP, unix.UDP_GRO, number(1200))
	tos := controlMessage(unix.IPPROTO_IP, unix.IP_TOS, []byte{2})
	f.Add(slices.Concat(gro, tos), uint16(5000))
	f.Add(slices.Concat(tos, gro)[:len(tos)+unix.CmsgLen(2)], uint16(1))
	f.Fuzz(func(t *testing.T, oob []byte, n uint16) {
		size, keep := parseControl(bytes.Clone(oob))
		if size < 0 || size > maxTrain {
			t.Fatalf("datagrams of %d bytes", size)
		}
		for b := keep; len(b) > 0; {
			if len(b) < unix.SizeofCmsghdr {
				t.Fatalf("%x is too short to be read", b)
			}
			head, body, rest, err := unix.ParseOneSocketControlMessage(b)
			if err != nil || len(body) != bodySize(head.Level, head.Type) {
				t.Fatalf("kept %x of type %d, level %d: %v", body, head.Type, head.Level, err)
			}
			b = rest
		}
		if s, again := parseControl(bytes.Clone(keep)); s != 0 || !bytes.Equal(again, keep) {
			t.Fatalf("kept %x of what was kept, want %x", again, keep)
		}
		fallsApart(t, train{rest: text(int(n)), size: size, control: keep})
	})
}

func fallsApart(t *testing.T, tr train) {
	whole, size, at := tr.rest, tr.size, 0
	m := batch()[0]
	for count := 0; count == 0 || len(tr.rest) > 0; count++ {
		left := len(tr.rest)
		tr.next(&m)
		took := left - len(tr.rest)
		if took == 0 && left > 0 || size > 0 && took > size {
			t.Fatalf("a datagram of %d bytes, want 1 to %d", took, size)
		}
		if m.N != min(took, quicBuffer) || !bytes.Equal(m.Buffers[0][:m.N], whole[at:at+m.N]) {
			t.Fatalf("the datagram of %d bytes at %d was handed on as %d bytes", took, at, m.N)
		}
		if m.NN != 0 && !bytes.Equal(m.OOB[:m.NN], tr.control) {
			t.Fatalf("the datagram is told to have %x, want %x", m.OOB[:m.NN], tr.control)
		}
		at += took
	}
}

// A plainConn is no *net.UDPConn, and so has no receive offload.
type plainConn struct{ *net.UDPConn }

func TestEndpointsWithTrains(t *testing.T) {
	const size = 8 << 20
	data := make([]byte, size)
	rand.Read(data)
	for _, v := range []struct {
		name, network, listen, host string
		plain                       bool
	}{
		{name: "IPv4", network: "udp4", listen: "127.0.0.1:0", host: "127.0.0.1"},
		{name: "IPv6", network: "udp6", listen: "[::1]:0", host: "::1"},
		{name: "wildcard", network: "udp", listen: ":0", host: "127.0.0.1"},
		{name: "to a socket without", network: "udp4", listen: "127.0.0.1:0", host: "127.0.0.1", plain: true},
	} {
		t.Run(v.name, func(t *testing.T) {
			pc := bound(t, v.network, v.listen)
			cfg := Config{Conn: pc}
			if v.plain {
				cfg.Conn = plainConn{pc}
			}
			a, b := endpointWith(t, Config{Conn: bound(t, v.network, v.listen)}), endpointWith(t, cfg)
			if is[*trainSocket](a.tr.Conn) && is[*trainSocket](b.tr.Conn) == v.plain {
				t.Fatalf("reads from a %T", b.tr.Conn)
			}
			port := strconv.Itoa(pc.LocalAddr().(*net.UDPAddr).Port)
			moved(t, a, b, net.JoinHostPort(v.host, port), data)
		})
	}
}

// moved sends data there and back again.
func moved(t *testing.T, a, b *Endpoint, addr string, data []byte) {
	t.Helper()
	ctx := within(t, 60*time.Second)
	ca, err := a.Dial(ctx, addr, b.Key())
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	cb, err := b.Accept(ctx)
	if err != nil {
		t.Fatalf("Accept: %v", err)
	}
	out, err := ca.OpenStream(ctx)
	if err != nil {
		t.Fatalf("OpenStream: %v", err)
	}
	echoed := make(chan error, 1)
	go func() {
		in, err := cb.AcceptStream(ctx)
		if err == nil {
			_, err = io.Copy(in, in)
			in.Close()
		}
		echoed <- err
	}()
	go func() {
		out.Write(data) // if it fails, so does the other side's reading
		out.Close()
	}()
	got, err := io.ReadAll(out)
	if eerr := <-echoed; err != nil || eerr != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes are back, the same: %v; %v, %v", len(got), len(data), bytes.Equal(got, data), err, eerr)
	}
}
