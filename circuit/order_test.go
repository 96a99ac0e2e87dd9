package circuit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/limit"
	"ckt.local/transport/simnet"
)

// A talker sends on one end of a circuit in random ways and checks what
// arrives there. Of what it sends, the n-th fragment that was taken says n.
type talker struct {
	t     *testing.T
	c     *circuit.Circuit
	rnd   *rand.Rand
	ops   int
	sent  int64 // fragments taken
	got   int64 // fragments arrived
	pause func(r *rand.Rand)
	kept  []*circuit.Fragment // of those that arrived; the others are released
}

func (k *talker) fragment() *circuit.Fragment {
	n := k.rnd.IntN(64)
	if k.rnd.IntN(50) == 0 {
		n = k.rnd.IntN(100_000)
	}
	f := &circuit.Fragment{FragPart: k.sent + 1, Payload: make([]byte, n)}
	for i := range f.Payload {
		f.Payload[i] = byte(k.sent + 1 + int64(i))
	}
	if k.rnd.IntN(4) == 0 {
		f.Args = map[string]string{"n": strconv.FormatInt(f.FragPart, 10)}
	}
	return f
}

// send does the operations and then says that it has ended.
func (k *talker) send() {
	for range k.ops {
		f := k.fragment()
		var err error
		switch k.rnd.IntN(10) {
		case 0:
			k.pause(k.rnd)
			continue
		case 1, 2:
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(k.rnd.IntN(5))*time.Millisecond)
			err = k.c.Send(ctx, f)
			cancel()
		case 3, 4, 5:
			err = k.c.SendOneWay(f)
		default:
			err = k.c.Send(context.Background(), f)
		}
		switch {
		case err == nil:
			k.sent++
		case err != circuit.ErrBacklog && err != context.DeadlineExceeded:
			k.t.Errorf("sending fragment %d: %v", f.FragPart, err)
			return
		}
	}
	if err := k.c.Send(context.Background(), &circuit.Fragment{FragOp: -1, FragPart: k.sent + 1}); err != nil {
		k.t.Errorf("sending the last fragment: %v", err)
	}
	k.sent++
}

// take checks a fragment and reports whether it is the last one.
func (k *talker) take(f *circuit.Fragment) bool {
	k.got++
	over := k.check(f, k.got)
	if k.got%7 == 0 {
		k.kept = append(k.kept, f)
	} else {
		f.Release()
	}
	return over
}

// check looks at the fragment that came as number n, and reports whether it is
// the last one, or a wrong one.
func (k *talker) check(f *circuit.Fragment, n int64) bool {
	if f.FragPart != n || f.Serial != n {
		k.t.Errorf("fragment %d with serial %d came as number %d", f.FragPart, f.Serial, n)
		return true
	}
	for i, b := range f.Payload {
		if b != byte(n+int64(i)) {
			k.t.Errorf("fragment %d differs at byte %d", n, i)
			return true
		}
	}
	if said, ok := f.Args["n"]; ok && said != strconv.FormatInt(n, 10) {
		k.t.Errorf("fragment %d has the args of %s", n, said)
	}
	return f.FragOp == -1
}

// receive reads until the last fragment, by Reads and by Fragments in turns.
func (k *talker) receive(rnd *rand.Rand) {
	for {
		for range rnd.IntN(20) {
			f, ok := <-k.c.Reads
			if !ok {
				k.t.Errorf("the circuit has ended after %d fragments: %v", k.got, context.Cause(k.c.Context))
				return
			}
			if k.take(f) {
				return
			}
		}
		if rnd.IntN(10) == 0 {
			k.pause(rnd)
		}
		left := rnd.IntN(20)
		for f, err := range k.c.Fragments(context.Background()) {
			if err != nil {
				k.t.Errorf("the circuit has ended after %d fragments: %v", k.got, err)
				return
			}
			if k.take(f) {
				return
			}
			if left--; left <= 0 {
				break
			}
		}
	}
}

// exchange has both ends of several circuits do ops operations in all and
// checks that what was taken at one end arrives at the other, once and in
// order.
func exchange(t *testing.T, p *pair, ops int, pause func(*rand.Rand)) {
	const circuits = 4
	var wg sync.WaitGroup
	for i := range uint64(circuits) {
		a, b := p.openCircuit(t, nil)
		newTalker := func(c *circuit.Circuit, seed uint64) *talker {
			return &talker{t: t, c: c, rnd: rand.New(rand.NewPCG(i, seed)), ops: ops / (2 * circuits), pause: pause}
		}
		ka, kb := newTalker(a, 1), newTalker(b, 2)
		wg.Go(func() {
			var both sync.WaitGroup
			for _, k := range []*talker{ka, kb} {
				both.Go(k.send)
				both.Go(func() { k.receive(rand.New(rand.NewPCG(i, 3))) })
			}
			both.Wait()
			for _, k := range []*talker{ka, kb} {
				for _, f := range k.kept {
					k.check(f, f.Serial) // nobody else has been given its memory
				}
			}
			if ka.sent != kb.got || kb.sent != ka.got {
				t.Errorf("%d sent, %d got; back %d sent, %d got", ka.sent, kb.got, kb.sent, ka.got)
			}
			a.CloseWith(errors.New("done"))
			<-b.Context.Done()
			if re, ok := errors.AsType[*circuit.RemoteError](context.Cause(b.Context)); !ok || re.Reason != "done" {
				t.Errorf("the other end's cause is %v", context.Cause(b.Context))
			}
			b.Close()
		})
	}
	wg.Wait()
}

func TestRandomOperationsArriveOnceAndInOrder(t *testing.T) {
	for _, window := range []int{4 << 10, 64 << 10, 1 << 20} {
		t.Run(strconv.Itoa(window>>10)+"KiB", func(t *testing.T) {
			p := newPair(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: window})})
			exchange(t, p, 10_000, func(*rand.Rand) {})
		})
	}
}

func TestFaultyPathsDeliverOnceAndInOrder(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range []struct {
		name string
		link simnet.Link
	}{
		{"loss", simnet.Link{Latency: 10 * ms, Loss: 0.2}},
		{"reordering", simnet.Link{Latency: 5 * ms, Jitter: 40 * ms}},
		{"duplication", simnet.Link{Latency: 10 * ms, Duplicate: 0.5}},
		{"corruption", simnet.Link{Latency: 10 * ms, Corrupt: 0.1}},
		{"all of it", simnet.Link{Latency: 10 * ms, Jitter: 20 * ms, Loss: 0.1, Duplicate: 0.1, Corrupt: 0.05}},
		{"narrow", simnet.Link{Latency: 30 * ms, Bandwidth: 256 << 10, Queue: 16 << 10}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inSim(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: 64 << 10})}, func(t *testing.T, p *simPair) {
				p.net.SetDefault(tc.link)
				start := time.Now()
				exchange(t, p.pair, 2000, func(r *rand.Rand) { time.Sleep(time.Duration(r.IntN(50)) * ms) })
				t.Logf("2,000 operations took %v of the path's time", time.Since(start).Round(ms))
				p.net.SetDefault(simnet.Link{Latency: 10 * ms})
			})
		})
	}
}

// A host that vanishes in the middle of everything ends everything at the
// other one, and what arrived before can be read.
func TestVanishingInTraffic(t *testing.T) {
	for seed := range uint64(5) {
		inSim(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: 16 << 10}), NoResume: true}, func(t *testing.T, p *simPair) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			var wg sync.WaitGroup
			all := p.openTen(t)
			hammerAll(t, &wg, all)
			for _, s := range []*side{p.a, p.b} {
				go closeAll(s)
				openMany(t, &wg, s, 5)
			}
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
			start := time.Now()
			p.hb.Vanish()
			wg.Wait()
			if d := time.Since(start); d > 15*time.Second {
				t.Errorf("it took %v until both ends knew", d)
			}
			for _, c := range all {
				if cause := context.Cause(c.Context); !errors.Is(cause, transport.ErrLost) {
					t.Errorf("the cause is %v, want it to match transport.ErrLost", cause)
				}
			}
			synctest.Wait()
			if a, b := p.a.count(), p.b.count(); a != 0 || b != 0 {
				t.Errorf("the owners still have %d and %d circuits", a, b)
			}
		})
	}
}
