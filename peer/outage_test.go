package peer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
)

// untilOver returns how long it takes until the circuit ends.
func untilOver(t *testing.T, c *circuit.Circuit) time.Duration {
	t.Helper()
	start := time.Now()
	select {
	case <-c.Context.Done():
	case <-time.After(10 * time.Minute):
		t.Error("it does not end")
	}
	return time.Since(start)
}

// A node has said yes to an opening, and was not heard. The opener, who has
// nothing else to do with it, gives up; the two meet again.
func TestYesThatWasNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.NewSim(t, 1)
		hosts, taken := talking(sim, 2)
		a, b := hosts[0], hosts[1]
		from := a.StartPeer("talk")
		to := b.StartPeer("talk").URL()
		c, _, err := from.NewCircuitToPeerURL(to, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		<-taken
		c.Close()
		time.Sleep(time.Second)
		time.AfterFunc(10*time.Millisecond, func() { sim.Cut(b, a) })
		_, _, err = from.NewCircuitToPeerURL(to, nil, 20*time.Second)
		wantIs(t, err, circuit.ErrOpenTimeout)
		atB := <-taken
		if st := atB.State(); st.Ended {
			t.Fatalf("it is %v", st)
		}
		sim.Heal(b, a)
		if d := untilOver(t, atB); d > 6*time.Second {
			t.Errorf("what nobody has opened is over %v after the heal", d)
		}
		wantIs(t, causeOf(t, atB), circuit.ErrPeerLost)
	})
}

// Who is not allowed to connect any more does not get his circuits back. They
// wait all the same: the policy may change again, or not have been whole.
func TestRevokedInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var revoked atomic.Bool
		cfg := peertest.SimConfig{Circuit: circuit.Config{Linger: 30 * time.Second}, Adjust: func(h *peertest.SimHost, cfg *peer.Config) {
			allow := cfg.Authorize
			cfg.Authorize = func(r peer.Request) error {
				if h.Index() == 1 && revoked.Load() {
					return errors.New("not any more")
				}
				return allow(r)
			}
		}}
		sim := cfg.NewSim(t, 1)
		hosts, taken := talking(sim, 2)
		a, b := hosts[0], hosts[1]
		c, _, err := a.StartPeer("talk").NewCircuitToPeerURL(b.URL("talk"), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		<-taken
		sim.Partition(a, b)
		revoked.Store(true)
		time.Sleep(10 * time.Second)
		sim.Rejoin(a, b)
		if d := untilOver(t, c); d < 20*time.Second || d > 30*time.Second {
			t.Errorf("refused, it is over after %v, want the linger of 30 s", d)
		}
		if r, ok := errors.AsType[*transport.RemoteError](causeOf(t, c)); !ok || r.Code != transport.CodeRefused {
			t.Errorf("it ends with %v", causeOf(t, c))
		}
	})
}

// Machines of one person share a key, and each resumes what is its own.
func TestOutageOfMachinesWithOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first *peer.Config
		cfg := peertest.SimConfig{Circuit: circuit.Config{Linger: 30 * time.Second}, Adjust: func(h *peertest.SimHost, cfg *peer.Config) {
			switch h.Index() {
			case 0:
				first = cfg
			case 1:
				cfg.Identity = first.Identity
			}
		}}
		sim := cfg.NewSim(t, 1)
		hosts, taken := talking(sim, 3)
		ctx, stop := context.WithCancel(t.Context())
		var talks []*talk
		for _, h := range hosts[:2] {
			talks = append(talks, startTalk(t, ctx, h, hosts[2], taken))
		}
		time.Sleep(time.Second)
		sim.Partition(hosts[0], hosts[2])
		time.Sleep(10 * time.Second)
		sim.Partition(hosts[1], hosts[2])
		sim.Rejoin(hosts[0], hosts[2])
		time.Sleep(20 * time.Second)
		sim.Rejoin(hosts[1], hosts[2])
		time.Sleep(10 * time.Second)
		for i, k := range talks {
			sa, sb := k.a.State(), k.b.State()
			if !sa.Attached || !sb.Attached || sa.Attachments < 2 {
				t.Errorf("machine %d: it is %v and %v, with %d attachments", i, sa, sb, sa.Attachments)
			}
			if g := k.gaps(); max(g[0], g[1]) > 26*time.Second {
				t.Errorf("machine %d: silent for %v", i, g)
			}
		}
		stop()
		for _, k := range talks {
			k.a.Close()
			k.wg.Wait()
		}
	})
}

// A fragment of an old life does not reach the new one, also if the other side
// has not noticed that there is a new one.
func TestNothingOfTheOldLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.NewSim(t, 1)
		hosts, taken := talking(sim, 2)
		a, b := hosts[0], hosts[1]
		c, _, err := a.StartPeer("talk").NewCircuitToPeerURL(b.URL("talk"), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		<-taken
		b.Kill()
		for i := range int64(20) {
			if err := c.SendOneWay(&circuit.Fragment{FragPart: i}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		b.Start()
		if d := untilOver(t, c); d > time.Second {
			t.Errorf("the restart is known after %v", d)
		}
		le, ok := errors.AsType[*circuit.LostError](causeOf(t, c))
		if !ok || le.Unacked != 20 || !errors.Is(le, circuit.ErrPeerRestarted) {
			t.Errorf("it ends with %v", causeOf(t, c))
		}
		again, _, err := a.StartPeer("talk").NewCircuitToPeerURL(b.URL("talk"), &circuit.Fragment{FragPart: 99}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if f := <-(<-taken).Reads; f.FragPart != 99 {
			t.Errorf("the new life got part %d", f.FragPart)
		}
		again.Close()
	})
}
