package nettest

import (
	"net"
	"testing"
	"time"
)

// count reads what has arrived, until nothing comes for a while.
func count(t *testing.T, c net.PacketConn, quiet time.Duration) (n int, took time.Duration) {
	t.Helper()
	start, buf := time.Now(), make([]byte, 2000)
	for {
		if err := c.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.ReadFrom(buf); err != nil {
			return n, took
		}
		n++
		took = time.Since(start)
	}
}

func TestRelayHandsOnBothWaysUntilCut(t *testing.T) {
	target, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	r := NewRelay(t, target.LocalAddr().String(), 0)
	front, err := net.Dial("udp4", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	buf := make([]byte, 100)
	var reply net.Addr
	limit := func(comes string) time.Time { // for what does not come there is nothing to wait for but time
		if comes == "" {
			return time.Now().Add(500 * time.Millisecond)
		}
		return time.Now().Add(20 * time.Second)
	}
	there := func(want string) string {
		_, _ = front.Write([]byte("there"))
		_ = target.SetReadDeadline(limit(want))
		n, from, err := target.ReadFrom(buf)
		if err == nil {
			reply = from
		}
		return string(buf[:n])
	}
	back := func(want string) string {
		_, _ = target.WriteTo([]byte("back"), reply)
		_ = front.SetReadDeadline(limit(want))
		n, _ := front.Read(buf)
		return string(buf[:n])
	}
	for _, step := range []struct {
		do          func()
		there, back string
	}{{func() {}, "there", "back"}, {r.Cut, "", ""}, {r.Heal, "there", "back"}} {
		step.do()
		if a, b := there(step.there), back(step.back); a != step.there || b != step.back {
			t.Errorf("got %q and %q, want %q and %q", a, b, step.there, step.back)
		}
	}
	if got := r.Passed(); got != 2*(5+4) {
		t.Errorf("%d bytes passed", got)
	}
}

func TestRelayKeepsItsRate(t *testing.T) {
	target, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	r := NewRelay(t, target.LocalAddr().String(), 100_000)
	front, err := net.Dial("udp4", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	for range 40 {
		_, _ = front.Write(make([]byte, 1000))
	}
	if n, took := count(t, target, 2*time.Second); n != 40 || took < 350*time.Millisecond {
		t.Errorf("%d packets of 1 kB came at 100 kB/s in %v", n, took)
	}
}
