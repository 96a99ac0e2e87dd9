package peer_test

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

// A talk is a circuit with a fragment every 5 ms in each direction, and a count
// of what has come.
type talk struct {
	a, b *circuit.Circuit // the opener's end, and the other
	wg   sync.WaitGroup

	mu  sync.Mutex
	gap [2]time.Duration // the longest without a fragment, at a and at b
	got [2]int64
}

const talkEvery = 5 * time.Millisecond

// startTalk opens a circuit from one host to the other and talks on it until
// the circuit ends or ctx does.
func startTalk(t *testing.T, ctx context.Context, from, to *peertest.SimHost, taken <-chan *circuit.Circuit) *talk {
	t.Helper()
	a, _, err := from.StartPeer("talk").NewCircuitToPeerURL(to.URL("talk"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	k := &talk{a: a, b: <-taken}
	for i, c := range []*circuit.Circuit{k.a, k.b} {
		k.wg.Go(func() {
			for part := int64(1); ctx.Err() == nil && c.Context.Err() == nil; part++ {
				if c.Send(ctx, &circuit.Fragment{FragPart: part, Payload: make([]byte, 100)}) != nil {
					return
				}
				time.Sleep(talkEvery)
			}
		})
		k.wg.Go(func() { k.listen(t, i, c) })
	}
	return k
}

func (k *talk) listen(t *testing.T, i int, c *circuit.Circuit) {
	last := time.Now()
	for f := range c.Reads {
		k.mu.Lock()
		k.gap[i] = max(k.gap[i], time.Since(last))
		k.got[i]++
		if f.FragPart != k.got[i] {
			t.Errorf("fragment %d came as number %d", f.FragPart, k.got[i])
		}
		k.mu.Unlock()
		last = time.Now()
	}
}

// gaps returns the longest silences since the last call.
func (k *talk) gaps() [2]time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	g := k.gap
	k.gap = [2]time.Duration{}
	return g
}

// talking makes hosts whose service hands over the circuits that it gets.
func talking(sim *peertest.Sim, n int) (hosts []*peertest.SimHost, taken chan *circuit.Circuit) {
	taken = make(chan *circuit.Circuit, 10)
	serve := func(_ *peer.LocalPeer, ctx0 context.Context, news <-chan *circuit.Circuit) error {
		for {
			select {
			case c := <-news:
				taken <- c
			case <-ctx0.Done():
				return nil
			}
		}
	}
	for range n {
		hosts = append(hosts, sim.NewHost(func(n *peer.Node) { n.PeerAPI.RegisterPeerServiceFunc("talk", serve) }))
	}
	return hosts, taken
}

func TestTwentyChangesOfAddress(t *testing.T) {
	for _, tc := range []struct {
		mover int // 0 has dialled
		most  time.Duration
	}{{0, 2 * time.Second}, {1, 10 * time.Second}} {
		t.Run([]string{"dialler", "acceptor"}[tc.mover], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := peertest.NewSim(t, 1)
				hosts, taken := talking(sim, 2)
				ctx, stop := context.WithCancel(t.Context())
				k := startTalk(t, ctx, hosts[0], hosts[1], taken)
				time.Sleep(time.Second)
				var worst time.Duration
				for i := range 20 {
					hosts[tc.mover].Move(netip.AddrFrom4([4]byte{10, 1, byte(tc.mover), byte(i + 1)}))
					time.Sleep(15 * time.Second)
					for _, gap := range k.gaps() {
						worst = max(worst, gap)
					}
				}
				t.Logf("the longest gap was %v, and the circuit had %d attachments", worst, k.a.Stats().Attachments)
				if worst > tc.most {
					t.Errorf("the longest gap was %v, want at most %v", worst, tc.most)
				}
				stop()
				k.end(t)
			})
		})
	}
}

// end closes the circuit in both directions, one after the other, and checks
// that everything that was sent has come.
func (k *talk) end(t *testing.T) {
	t.Helper()
	for _, c := range []*circuit.Circuit{k.a, k.b} {
		if n, err := c.Flush(t.Context()); err != nil {
			t.Errorf("%d fragments are not acknowledged: %v", n, err)
		}
	}
	synctest.Wait()
	k.mu.Lock()
	got := k.got
	k.mu.Unlock()
	if a, b := k.a.Stats(), k.b.Stats(); a.FragmentsSent != got[1] || b.FragmentsSent != got[0] {
		t.Errorf("%d and %d fragments were sent, %d and %d came", a.FragmentsSent, b.FragmentsSent, got[1], got[0])
	}
	k.a.Close()
	k.b.Close()
	k.wg.Wait()
}

// A survivor is told of a restart within a second of the new process being
// there, whoever has dialled, whether there was something to say or not.
func TestRestartIsKnownWithinASecond(t *testing.T) {
	for _, restarts := range []int{0, 1} { // 0 has dialled
		for _, load := range []bool{true, false} {
			for _, away := range []time.Duration{0, 300 * time.Millisecond, time.Second, 3 * time.Second, 8 * time.Second, 45 * time.Second} {
				name := fmt.Sprintf("%s, load %v, away %v", []string{"dialler", "acceptor"}[restarts], load, away)
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						sim := peertest.NewSim(t, 1)
						hosts, taken := talking(sim, 2)
						ctx, stop := context.WithCancel(t.Context())
						k := startTalk(t, ctx, hosts[0], hosts[1], taken)
						survivor := []*circuit.Circuit{k.b, k.a}[restarts]
						time.Sleep(5 * time.Second)
						if !load {
							stop()
							time.Sleep(time.Minute)
						}
						hosts[restarts].Kill()
						time.Sleep(away)
						hosts[restarts].Start()
						back := time.Now()
						<-survivor.Context.Done()
						d := time.Since(back)
						t.Logf("known after %v", d)
						if d > time.Second {
							t.Errorf("known after %v, want at most 1 s", d)
						}
						cause := context.Cause(survivor.Context)
						lost, ok := errors.AsType[*circuit.LostError](cause)
						if !ok || !errors.Is(cause, circuit.ErrPeerRestarted) {
							t.Fatalf("the cause is %v, want ErrPeerRestarted", cause)
						}
						if st := survivor.Stats(); lost.Unacked > int(st.FragmentsSent) || !load && lost.Unacked != 0 {
							t.Errorf("%d of %d fragments are not acknowledged", lost.Unacked, st.FragmentsSent)
						}
						stop()
						k.a.Close()
						k.b.Close()
						k.wg.Wait()
					})
				})
			}
		}
	}
}

// A node that is to go delivers what is queued, also through an outage, refuses
// what is new meanwhile, and tells why.
func TestShutdownDrainsThroughAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.NewSim(t, 1)
		hosts, taken := talking(sim, 2)
		a, _, err := hosts[0].StartPeer("talk").NewCircuitToPeerURL(hosts[1].URL("talk"), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := <-taken
		sim.Partition(hosts[0], hosts[1])
		const total = 100
		for i := range int64(total) {
			if err := a.SendOneWay(&circuit.Fragment{FragPart: i}); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(20*time.Second, func() { sim.Rejoin(hosts[0], hosts[1]) })
		var asked sync.WaitGroup
		asked.Go(func() {
			time.Sleep(21 * time.Second)
			if _, _, err := hosts[1].StartPeer("talk").NewCircuitToPeerURL(hosts[0].URL("talk"), nil, 5*time.Second); err == nil {
				t.Error("a node that shuts down takes a new circuit")
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := hosts[0].Node().Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		asked.Wait()
		next := int64(0)
		for f := range b.Reads {
			if f.FragPart != next {
				t.Fatalf("part %d, want %d", f.FragPart, next)
			}
			next++
		}
		if next != total {
			t.Errorf("%d of %d came", next, total)
		}
		if told, ok := errors.AsType[*circuit.RemoteError](context.Cause(b.Context)); !ok || told.Reason != peer.ErrNodeClosed.Error() {
			t.Errorf("the cause is %v", context.Cause(b.Context))
		}
	})
}

// If the other side does not come back in time, Shutdown says what is left.
func TestShutdownSaysWhatIsNotDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.NewSim(t, 1)
		hosts, taken := talking(sim, 2)
		a, _, err := hosts[0].StartPeer("talk").NewCircuitToPeerURL(hosts[1].URL("talk"), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		<-taken
		time.Sleep(time.Second)
		sim.Partition(hosts[0], hosts[1])
		for range 7 {
			a.SendOneWay(&circuit.Fragment{})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err = hosts[0].Node().Shutdown(ctx)
		if lost, ok := errors.AsType[*circuit.LostError](err); !ok || lost.Unacked != 7 {
			t.Errorf("Shutdown: %v, want 7 fragments not acknowledged", err)
		}
	})
}

// A machine that crashes again and again, and comes back at another address
// each time, must not leave ever more behind.
func TestProcessesThatAreAwayAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.SimConfig{Circuit: circuit.Config{Linger: time.Hour}}.NewSim(t, 1)
		hosts, taken := talking(sim, 2)
		const crashes, limit = 75, 64
		var here []*circuit.Circuit
		for i := range crashes {
			if _, _, err := hosts[0].StartPeer("talk").NewCircuitToPeerURL(hosts[1].URL("talk"), nil, 0); err != nil {
				t.Fatal(err)
			}
			here = append(here, <-taken)
			hosts[0].Kill()
			hosts[0].Move(netip.AddrFrom4([4]byte{10, 2, 0, byte(i + 1)}))
			hosts[0].Start()
			time.Sleep(6 * time.Second) // it is missed
		}
		waiting := 0
		for i, c := range here {
			switch cause := context.Cause(c.Context); {
			case cause == nil:
				waiting++
			case i > crashes-limit || !errors.Is(cause, circuit.ErrPeerLost):
				t.Errorf("circuit %d of %d ends with %v", i, crashes, cause)
			}
		}
		if waiting > limit+1 {
			t.Errorf("%d circuits wait for processes that are away, want at most %d", waiting, limit)
		}
		t.Logf("%d of %d circuits wait", waiting, crashes)
	})
}
