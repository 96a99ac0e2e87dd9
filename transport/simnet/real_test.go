package simnet_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"ckt.local/transport/simnet"
)

// The sockets of the network and those of the kernel pass the same checks. On
// real time, as a real socket would stop the clock of a bubble.
func TestSocketsBehaveAsRealOnes(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	t.Run("kernel", func(t *testing.T) {
		checkSockets(t, func() net.PacketConn {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback.AsSlice()})
			if err != nil {
				t.Skipf("no loopback network: %v", err)
			}
			return c
		})
	})
	t.Run("simulated", func(t *testing.T) {
		n := simnet.New(1)
		defer n.Close()
		checkSockets(t, func() net.PacketConn { return listenOn(t, n.Host(loopback), 0) })
	})
}

func checkSockets(t *testing.T, open func() net.PacketConn) {
	a, b := open(), open()
	defer a.Close()
	buf := make([]byte, 4)
	for _, payload := range []string{"abc", "", "a packet that is cut"} {
		if n, err := a.WriteTo([]byte(payload), b.LocalAddr()); n != len(payload) || err != nil {
			t.Fatalf("writing %q: %d, %v", payload, n, err)
		}
		n, from, err := b.ReadFrom(buf)
		if want := payload[:min(len(payload), len(buf))]; err != nil || string(buf[:n]) != want {
			t.Errorf("reading: %q, %v, want %q", buf[:n], err, want)
		}
		if from, ok := from.(*net.UDPAddr); !ok || from.String() != a.LocalAddr().String() {
			t.Errorf("the sender is %v, want %v", from, a.LocalAddr())
		}
	}
	if _, ok := a.LocalAddr().(*net.UDPAddr); !ok {
		t.Errorf("the local address is a %T", a.LocalAddr())
	}
	checkWriteErrors(t, a, b.LocalAddr())
	checkDeadlines(t, a, b)
	checkClosed(t, b, a.LocalAddr())
}

func checkWriteErrors(t *testing.T, c net.PacketConn, to net.Addr) {
	for _, tc := range []struct {
		name string
		to   net.Addr
		size int
		want func(error) bool
	}{
		{"not a UDP address", &net.TCPAddr{}, 1, is(syscall.EINVAL)},
		{"a nil address", (*net.UDPAddr)(nil), 1, func(err error) bool { return err != nil }},
		{"port 0", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, 1, is(syscall.EINVAL)},
		{"the other address family", &net.UDPAddr{IP: net.IPv6loopback, Port: 1}, 1, func(err error) bool {
			_, ok := errors.AsType[*net.AddrError](err)
			return ok
		}},
		{"the largest packet", to, 65507, is(nil)},
		{"a larger packet", to, 65508, is(syscall.EMSGSIZE)},
	} {
		n, err := c.WriteTo(make([]byte, tc.size), tc.to)
		if _, ok := errors.AsType[*net.OpError](err); !tc.want(err) || (err != nil && (!ok || n != 0)) {
			t.Errorf("%s: %d, %v", tc.name, n, err)
		}
	}
}

func is(want error) func(error) bool {
	return func(err error) bool { return errors.Is(err, want) }
}

// checkDeadlines leaves the largest packet of checkWriteErrors unread until
// the end: a deadline that has passed goes before data that is there.
func checkDeadlines(t *testing.T, a, b net.PacketConn) {
	past := time.Now().Add(-time.Second)
	for _, set := range []func(time.Time) error{b.SetDeadline, b.SetReadDeadline} {
		if err := set(past); err != nil {
			t.Errorf("setting a deadline: %v", err)
		}
		_, _, err := b.ReadFrom(make([]byte, 1))
		var timeout net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("reading after the deadline: %v", err)
		}
	}
	if _, err := b.WriteTo([]byte("x"), a.LocalAddr()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing after the deadline: %v", err)
	}
	if err := b.SetWriteDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Errorf("setting a deadline: %v", err)
	}
	if _, err := b.WriteTo([]byte("x"), a.LocalAddr()); err != nil {
		t.Errorf("writing before the deadline: %v", err)
	}
	if err := b.SetDeadline(time.Time{}); err != nil {
		t.Errorf("taking the deadline away: %v", err)
	}
	if n, _, err := b.ReadFrom(make([]byte, 1<<16)); n != 65507 || err != nil {
		t.Errorf("reading the largest packet: %d, %v", n, err)
	}
}

func checkClosed(t *testing.T, c net.PacketConn, to net.Addr) {
	read := make(chan error, 1)
	go func() {
		_, _, err := c.ReadFrom(make([]byte, 1))
		read <- err
	}()
	if err := c.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	_, writeErr := c.WriteTo([]byte("x"), to)
	for what, err := range map[string]error{
		"reading":            <-read,
		"writing":            writeErr,
		"setting a deadline": c.SetDeadline(time.Now()),
		"closing again":      c.Close(),
	} {
		if _, ok := errors.AsType[*net.OpError](err); !ok || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}
