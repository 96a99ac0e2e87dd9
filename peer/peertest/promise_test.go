package peertest_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
)

// loadEvery is how often each end of a load sends.
const loadEvery = 50 * time.Millisecond

// A load is a circuit on which both ends send without pause, and count.
type load struct {
	t    *testing.T
	ends [2]*circuit.Circuit // opener, acceptor
	stop chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex
	sent [2]int64
	got  [2]int64 // how many have come to each end
	at   [2]time.Time
	gap  [2]time.Duration // the longest time without a fragment since rest
}

// world2 runs a test on two hosts of a simulated world. The first one has
// dialled, and has opened a circuit to the second one.
func world2(t *testing.T, cfg peertest.SimConfig, test func(t *testing.T, sim *peertest.Sim, hosts [2]*peertest.SimHost, l *load)) {
	synctest.Test(t, func(t *testing.T) {
		sim := cfg.NewSim(t, 1)
		taken := make(chan *circuit.Circuit, 1)
		setup := func(n *peer.Node) {
			n.PeerAPI.RegisterPeerServiceFunc("take", func(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
				for {
					select {
					case <-ctx0.Done():
						return nil
					case c := <-newCircuitCh:
						taken <- c
					}
				}
			})
		}
		a, b := sim.NewHost(setup), sim.NewHost(setup)
		c, _, err := a.StartPeer("take").NewCircuitToPeerURL(b.URL("take"), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		l := &load{t: t, ends: [2]*circuit.Circuit{c, <-taken}, stop: make(chan struct{})}
		for side, c := range l.ends {
			l.wg.Go(func() { l.receive(side, c) })
			l.wg.Go(func() { l.send(side, c) })
		}
		time.Sleep(time.Second)
		l.rest()
		test(t, sim, [2]*peertest.SimHost{a, b}, l)
	})
}

func (l *load) send(side int, c *circuit.Circuit) {
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for n := int64(1); ; n++ {
		select {
		case <-tick.C:
		case <-l.stop:
			return
		}
		if c.Send(context.Background(), &circuit.Fragment{FragPart: n, Payload: make([]byte, 1000)}) != nil {
			return
		}
		l.mu.Lock()
		l.sent[side] = n
		l.mu.Unlock()
	}
}

func (l *load) receive(side int, c *circuit.Circuit) {
	for f := range c.Reads {
		l.mu.Lock()
		l.got[side]++
		if f.FragPart != l.got[side] {
			l.t.Errorf("end %d gets fragment %d, want %d", side, f.FragPart, l.got[side])
		}
		l.gap[side] = max(l.gap[side], time.Since(l.at[side]))
		l.at[side] = time.Now()
		l.mu.Unlock()
	}
}

// rest forgets the gaps so far.
func (l *load) rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gap = [2]time.Duration{}
	l.at = [2]time.Time{time.Now(), time.Now()}
}

// lag waits until something has come to both ends, and returns how long that
// has taken at most.
func (l *load) lag() time.Duration {
	l.rest()
	start := time.Now()
	var before [2]int64
	for {
		l.mu.Lock()
		if before == [2]int64{} {
			before = l.got
		}
		came := l.got[0] > before[0] && l.got[1] > before[1]
		l.mu.Unlock()
		if came || time.Since(start) > time.Minute {
			return time.Since(start)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (l *load) gaps() [2]time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gap
}

// settle ends the sending and checks that everything has come.
func (l *load) settle() {
	close(l.stop)
	time.Sleep(10 * time.Second)
	l.mu.Lock()
	for side := range 2 {
		if l.sent[side] != l.got[1-side] || l.sent[side] == 0 {
			l.t.Errorf("end %d has sent %d, and %d have come", side, l.sent[side], l.got[1-side])
		}
	}
	l.mu.Unlock()
	for _, c := range l.ends {
		if err := context.Cause(c.Context); err != nil {
			l.t.Errorf("the circuit has ended: %v", err)
		}
		c.Close()
	}
	l.wg.Wait()
}

func TestCutsUnderLoad(t *testing.T) {
	for how, cut := range map[string]func(sim *peertest.Sim, a, b *peertest.SimHost){
		"both ways":   func(sim *peertest.Sim, a, b *peertest.SimHost) { sim.Partition(a, b) },
		"to acceptor": func(sim *peertest.Sim, a, b *peertest.SimHost) { sim.Cut(a, b) },
		"to dialler":  func(sim *peertest.Sim, a, b *peertest.SimHost) { sim.Cut(b, a) },
		"one by one": func(sim *peertest.Sim, a, b *peertest.SimHost) {
			sim.Cut(b, a)
			time.Sleep(4 * time.Second)
			sim.Cut(a, b)
		},
		"again, again": func(sim *peertest.Sim, a, b *peertest.SimHost) {
			sim.Partition(a, b)
			sim.Rejoin(a, b)
			time.Sleep(7 * time.Second)
			sim.Partition(a, b)
		},
	} {
		for _, lasts := range []time.Duration{2, 20, 60, 100} {
			t.Run(fmt.Sprintf("%s %d s", how, lasts), func(t *testing.T) {
				world2(t, peertest.SimConfig{}, func(t *testing.T, sim *peertest.Sim, hosts [2]*peertest.SimHost, l *load) {
					cut(sim, hosts[0], hosts[1])
					time.Sleep(lasts * time.Second)
					sim.Rejoin(hosts[0], hosts[1])
					if lag := l.lag(); lag > healLimit {
						t.Errorf("the first fragments come %v after the heal", lag)
					} else {
						t.Logf("the first fragments come %v after the heal", lag)
					}
					l.settle()
				})
			})
		}
	}
}

func TestCutLongerThanLinger(t *testing.T) {
	cfg := peertest.SimConfig{Circuit: circuit.Config{Linger: 30 * time.Second}}
	world2(t, cfg, func(t *testing.T, sim *peertest.Sim, hosts [2]*peertest.SimHost, l *load) {
		close(l.stop)
		time.Sleep(time.Second)
		sim.Partition(hosts[0], hosts[1])
		start := time.Now()
		unsent := [2]int{3, 7}
		for side, c := range l.ends {
			for range unsent[side] {
				if err := c.SendOneWay(&circuit.Fragment{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for side, c := range l.ends {
			<-c.Context.Done()
			lost, ok := errors.AsType[*circuit.LostError](context.Cause(c.Context))
			if !ok || lost.Unacked != unsent[side] {
				t.Errorf("end %d ends with %v, want %d unacknowledged", side, context.Cause(c.Context), unsent[side])
			}
		}
		if d := time.Since(start); d < 30*time.Second || d > 45*time.Second {
			t.Errorf("the circuits end %v after the cut", d)
		}
		l.wg.Wait()
	})
}

// Either side gets another address twenty times in a row.
func TestRoamingUnderLoad(t *testing.T) {
	for mover, limit := range []time.Duration{2 * time.Second, moveLimit} {
		t.Run(sideName(mover), func(t *testing.T) {
			world2(t, peertest.SimConfig{}, func(t *testing.T, _ *peertest.Sim, hosts [2]*peertest.SimHost, l *load) {
				for i := range 20 {
					hosts[mover].Move(netip.AddrFrom4([4]byte{10, 3, byte(mover), byte(i + 1)}))
					time.Sleep(limit + time.Second)
				}
				for side, gap := range l.gaps() {
					if gap > limit {
						t.Errorf("end %d had nothing for %v", side, gap)
					}
				}
				t.Logf("longest gaps: %v", l.gaps())
				l.settle()
			})
		})
	}
}

// A restarted process is reported within a second of being there again.
func TestRestartIsReported(t *testing.T) {
	for dead := range 2 {
		for _, down := range []time.Duration{10 * time.Millisecond, 3 * time.Second, 20 * time.Second, 60 * time.Second} {
			t.Run(fmt.Sprintf("%s down for %v", sideName(dead), down), func(t *testing.T) {
				world2(t, peertest.SimConfig{}, func(t *testing.T, _ *peertest.Sim, hosts [2]*peertest.SimHost, l *load) {
					hosts[dead].Kill()
					time.Sleep(down)
					hosts[dead].Start()
					start := time.Now()
					c := l.ends[1-dead]
					<-c.Context.Done()
					if d := time.Since(start); d > time.Second {
						t.Errorf("reported after %v", d)
					}
					close(l.stop)
					l.wg.Wait()
					lost, ok := errors.AsType[*circuit.LostError](context.Cause(c.Context))
					if !ok || !errors.Is(lost, circuit.ErrPeerRestarted) || int64(lost.Unacked) < l.sent[1-dead]-l.got[dead] {
						t.Errorf("the cause is %v, with %d sent and %d come", context.Cause(c.Context), l.sent[1-dead], l.got[dead])
					}
				})
			})
		}
	}
}
