package nettest

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// listen opens a socket on a host.
func listen(t *testing.T, h *Host) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	err := h.Run(func() (err error) {
		c, err = net.ListenPacket("udp4", ":4000")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, from net.PacketConn, to *Host, size, n int) {
	t.Helper()
	addr := net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr(), 4000))
	for range n {
		_, _ = from.WriteTo(make([]byte, size), addr) // a network that is down may say so
	}
}

func TestLoseDropsItsShare(t *testing.T) {
	a, b := Pair(t)
	from, to := listen(t, a), listen(t, b)
	const sent = 2000
	for _, percent := range []int{20, 100, 0} {
		b.Lose(percent)
		got := 0
		for range sent / 100 { // no more at once than a socket holds
			send(t, from, b, 10, 100)
			n, _ := count(t, to, 50*time.Millisecond) // a busy machine is late with them
			got += n
		}
		want := sent * (100 - percent) / 100
		spread := 0
		if percent == 20 {
			spread = 110 // 6 sigma
		}
		if got < want-spread || got > want+spread {
			t.Errorf("at %d %%, %d of %d packets have arrived, want %d ± %d", percent, got, sent, want, spread)
		}
	}
}

func TestShapeBoundsTheRate(t *testing.T) {
	a, b := Pair(t)
	from, to := listen(t, a), listen(t, b)
	a.Shape(1_000_000, 30_000)
	before, start := b.Received(), time.Now()
	send(t, from, b, 958, 50)                               // 1,000 bytes with their headers
	more := int(time.Since(start) / (8 * time.Millisecond)) // have been let through meanwhile
	n, took := count(t, to, time.Second)
	// The bucket has 3 at once, the queue 30; they take 240 ms at 8 ms each.
	if got := b.Received() - before; got < int64(n)*1000 || got > 60_000 { // hosts say more than they are told to
		t.Errorf("%d packets of 1 kB count as %d bytes", n, got)
	}
	if n < 28 || n > 40+more || took < 200*time.Millisecond {
		t.Errorf("%d packets of 1 kB came through 1 Mbit/s in %v", n, took)
	}
}

func TestSetMTUSwallowsLongPackets(t *testing.T) {
	a, b := Pair(t)
	from, to := listen(t, a), listen(t, b)
	b.SetMTU(1300)
	for size, want := range map[int]int{1300 - 28: 10, 1400: 0} {
		send(t, from, b, size, 10)
		if n, _ := count(t, to, 200*time.Millisecond); n != want {
			t.Errorf("of 10 packets with %d bytes, %d came through, want %d", size, n, want)
		}
	}
}

func TestUnplugAndSetAddr(t *testing.T) {
	a, b := Pair(t)
	from, to := listen(t, a), listen(t, b)
	a.Unplug()
	send(t, from, b, 10, 10)
	if n, _ := count(t, to, 200*time.Millisecond); n != 0 {
		t.Errorf("%d packets have come through no cable", n)
	}
	for _, step := range []func(){
		a.Plug,
		func() { a.SetAddr(netip.MustParseAddr("10.77.1.1")) },
		func() { b.SetAddr(netip.MustParseAddr("10.77.1.2")) },
	} {
		step()
		awaitPath(a, b)
		awaitPath(b, a)
	}
	if got := [2]netip.Addr{a.Addr(), b.Addr()}; got != [2]netip.Addr{netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("10.77.1.2")} {
		t.Errorf("the hosts are at %v", got)
	}
}
