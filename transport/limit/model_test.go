package limit

import (
	"testing"

	"ckt.local/transport/identity"
)

// A model is what a ledger of one resource should say, in the plainest way.
type model struct {
	most, each int64
	used       map[identity.NodeID]int64
}

func (m *model) all() (sum int64) {
	for _, n := range m.used {
		sum += n
	}
	return sum
}

// free is what there is for a node, for Take or for Acquire.
func (m *model) free(id identity.NodeID, taking bool) int64 {
	keep, keepSmall, keepEach := int64(0), int64(0), int64(0)
	if taking {
		keep, keepSmall, keepEach = m.most/8, m.most/16, m.each/8
	}
	if id.IsZero() {
		return m.most - keep - m.all()
	}
	free := m.most - m.most/8 - m.all()
	free = max(free, min(m.most-keepSmall-m.all(), m.most/64-m.used[id]))
	return min(free, m.each-keepEach-m.used[id])
}

// whole leaves nothing to others.
const whole = 1 << 40

// A sleeper waits for need, and takes it as soon as it is woken and there is
// so much.
type sleeper struct {
	*Waiter
	need    int64
	waiting bool
}

// maxSleepers keeps a run short.
const maxSleepers = 100

type play struct {
	t        *testing.T
	g        *Ledger
	m        model
	sleepers []*sleeper
}

func (p *play) take(id identity.NodeID, need, want int64) int64 {
	p.t.Helper()
	free := p.m.free(id, true)
	expect := max(need, min(want, free/share))
	if expect <= 0 || expect > free {
		expect = 0
	}
	got := p.g.Take(Inbox, id, need, want)
	if got != expect {
		p.t.Fatalf("Take(%d, %d) with %d free = %d, the model says %d", need, want, free, got, expect)
	}
	p.m.used[id] += got
	return got
}

func (p *play) wait(id identity.NodeID, need int64) {
	if len(p.sleepers) >= maxSleepers || p.take(id, need, need) > 0 {
		return
	}
	s := &sleeper{need: need, waiting: true}
	s.Waiter = NewWaiter(Inbox, id, func() {
		if !s.waiting {
			p.t.Fatal("woken without having waited")
		}
		if s.waiting = p.take(id, need, need) == 0; s.waiting {
			p.g.Wait(s.Waiter, need)
		}
	})
	p.g.Wait(s.Waiter, need)
	p.sleepers = append(p.sleepers, s)
}

func (p *play) release(id identity.NodeID, n int64) {
	n = min(n, p.m.used[id])
	p.m.used[id] -= n
	p.g.Release(Inbox, id, n)
}

func (p *play) step(op byte, id identity.NodeID, n int64) {
	switch op % 6 {
	case 0:
		_, err := p.g.Acquire(Inbox, id, n)
		if fits := n <= p.m.free(id, false); fits != (err == nil) {
			p.t.Fatalf("Acquire(%d) with %d free: %v", n, p.m.free(id, false), err)
		} else if fits {
			p.m.used[id] += n
		}
	case 1:
		p.g.Force(Inbox, id, n)
		p.m.used[id] += n
	case 2:
		p.take(id, n, 4*n)
	case 3:
		p.release(id, n)
	case 4:
		p.wait(id, n)
	case 5:
		if len(p.sleepers) > 0 {
			i := int(n) % len(p.sleepers)
			p.g.Leave(p.sleepers[i].Waiter)
			p.sleepers[i].waiting = false
		}
	}
}

func (p *play) check() {
	u := use(p.g, Inbox.String())
	if u.Used != p.m.all() {
		p.t.Fatalf("used %d, the model says %d", u.Used, p.m.all())
	}
	var top int64
	for id, n := range p.m.used {
		if !id.IsZero() {
			top = max(top, n)
		}
	}
	if u.TopUsed != top || u.Top != (identity.NodeID{}) && p.m.used[u.Top] != top {
		p.t.Fatalf("most is used by %v with %d, the model says %d", u.Top, u.TopUsed, top)
	}
	kept := p.sleepers[:0]
	for _, s := range p.sleepers {
		if !s.waiting {
			continue
		}
		kept = append(kept, s)
		if free := p.m.free(s.node, true); s.need <= free {
			p.t.Fatalf("somebody sleeps who needs %d, with %d free", s.need, free)
		}
	}
	p.sleepers = kept
}

// FuzzLedger takes three bytes for each operation: which one, whose, and how
// much.
func FuzzLedger(f *testing.F) {
	f.Fuzz(func(t *testing.T, ops []byte) {
		l := Limits{Circuit: Circuit{Inbox: 1000, InboxPerNode: 600}}
		p := &play{t: t, g: NewLedger(l), m: model{most: 1000, each: 600, used: make(map[identity.NodeID]int64)}}
		for ; len(ops) >= 3 && p.m.all() < whole; ops = ops[3:] {
			var id identity.NodeID
			if who := ops[1] % 5; who > 0 {
				id = node(int(who))
			}
			p.step(ops[0], id, 1+3*int64(ops[2]))
			p.check()
		}
		for id, n := range p.m.used {
			p.release(id, n)
		}
		for range maxSleepers { // what a sleeper took, it gives back
			for id, n := range p.m.used {
				p.release(id, n)
			}
		}
		p.check() // all is free, so who sleeps needs more than there can be
	})
}
