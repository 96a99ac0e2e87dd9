package nettest

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// A Relay hands UDP packets on between one address on the loopback interface
// and a target, like a home router: whoever sends to Addr gets a port of the
// relay's own at the target's side. It is a network that a test can take away
// without being root.
type Relay struct {
	t      testing.TB
	target netip.AddrPort
	front  *net.UDPConn
	rate   int // bytes a second in each direction of each sender; 0: no bound
	joined sync.WaitGroup

	mu     sync.Mutex
	cut    bool
	backs  map[netip.AddrPort]*net.UDPConn // by who sends; nil after the end
	passed int64
}

// NewRelay starts a relay to the target, a host:port, that passes at most
// bytesPerSecond in each direction; 0 is as much as it can. It ends with the
// test.
func NewRelay(t testing.TB, target string, bytesPerSecond int) *Relay {
	t.Helper()
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{t: t, target: to, front: front, rate: bytesPerSecond, backs: make(map[netip.AddrPort]*net.UDPConn)}
	r.joined.Go(r.outward)
	t.Cleanup(r.close)
	return r
}

// Addr is where to send what shall reach the target.
func (r *Relay) Addr() string { return r.front.LocalAddr().String() }

// Cut drops every packet from now on, in both directions; Heal ends that.
func (r *Relay) Cut() { r.setCut(true) }

// Heal undoes Cut.
func (r *Relay) Heal() { r.setCut(false) }

func (r *Relay) setCut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
}

// Passed is how many bytes have been handed on, in both directions together.
func (r *Relay) Passed() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passed
}

// passes counts a packet, and says no while the relay is cut.
func (r *Relay) passes(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return false
	}
	r.passed += int64(n)
	return true
}

// outward hands on what comes from outside to the target.
func (r *Relay) outward() {
	r.carry(r.front, func(b []byte, from netip.AddrPort) {
		if back := r.back(from); back != nil {
			_, _ = back.WriteToUDPAddrPort(b, r.target) // a lost packet, as on any network
		}
	})
}

// back is the socket from which the target hears one sender.
func (r *Relay) back(sender netip.AddrPort) *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if back := r.backs[sender]; back != nil || r.backs == nil {
		return back
	}
	back, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		r.t.Errorf("relay: %v", err)
		return nil
	}
	r.backs[sender] = back
	r.joined.Go(func() {
		r.carry(back, func(b []byte, from netip.AddrPort) {
			if from == r.target {
				_, _ = r.front.WriteToUDPAddrPort(b, sender)
			}
		})
	})
	return back
}

// carry hands on what arrives at a socket, until that is closed.
func (r *Relay) carry(from *net.UDPConn, to func(b []byte, sender netip.AddrPort)) {
	p := pace{rate: r.rate, next: time.Now()}
	_ = from.SetReadBuffer(1 << 20) // less is only a shorter queue
	buf := make([]byte, 64<<10)
	for {
		n, sender, err := from.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p.wait(n)
		if r.passes(n) {
			to(buf[:n], sender)
		}
	}
}

func (r *Relay) close() {
	r.mu.Lock()
	r.front.Close()
	for _, back := range r.backs {
		back.Close()
	}
	r.backs = nil
	r.mu.Unlock()
	r.joined.Wait()
}

// A pace is how fast one goroutine hands on.
type pace struct {
	rate int
	next time.Time // when the next byte may go
}

// catchUp is how much a pace makes up for of the time that it has slept too
// long: a busy machine must not make a slower path with the same queue.
const catchUp = 50 * time.Millisecond

// wait returns when n more bytes may go. What it waits for is put together to
// a few milliseconds.
func (p *pace) wait(n int) {
	if p.rate == 0 {
		return
	}
	now := time.Now()
	if late := now.Add(-catchUp); p.next.Before(late) {
		p.next = late
	}
	p.next = p.next.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	if ahead := p.next.Sub(now); ahead > 2*time.Millisecond {
		<-time.After(ahead)
	}
}
