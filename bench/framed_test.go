package main

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Messages come back whole, whatever their size is beside that of the buffers,
// and a server that has nothing to read writes out what it owes.
func TestFramedSizes(t *testing.T) {
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- serveFramed(a, many) }()
	ch, err := openFramed(b, many, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 64, 4091, 4092, 4093, 4096, 5000, 70_000, 1 << 20, 2} {
		msg := message(kindEcho, size)
		sent := make(chan error, 1)
		go func() { sent <- post(ch, msg) }() // a pipe has no buffer: the answer comes while this is written
		var back []byte
		if err := ch.receive(func(m []byte) bool { back = slices.Clone(m); return false }); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if err := <-sent; err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !slices.Equal(back, msg) {
			t.Errorf("%d bytes: %d others came back", size, len(back))
		}
	}
	ch.close()
	if err := <-done; err != nil {
		t.Errorf("the server: %v", err)
	}
}

// controlMessage is one as the kernel writes it.
func controlMessage(level, typ int32, body []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(body)))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(len(body))))
	binary.NativeEndian.PutUint32(b[8:], uint32(level))
	binary.NativeEndian.PutUint32(b[12:], uint32(typ))
	copy(b[unix.CmsgLen(0):], body)
	return b
}

// Only the size of datagrams is kept back from quic-go.
func TestGROControl(t *testing.T) {
	tos := controlMessage(unix.IPPROTO_IP, unix.IP_TOS, []byte{2})
	gro := controlMessage(unix.SOL_UDP, unix.UDP_GRO, binary.NativeEndian.AppendUint32(nil, 1452))
	s := &groSocket{size: 9000}
	if err := s.control(slices.Concat(tos, gro)); err != nil {
		t.Fatal(err)
	}
	if s.size != 1452 || !slices.Equal(s.tos, tos) {
		t.Errorf("size %d, control %x", s.size, s.tos)
	}
}
