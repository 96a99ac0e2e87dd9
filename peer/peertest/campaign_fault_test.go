package peertest_test

import (
	"context"
	"net/netip"
	"time"
)

// supersede moves a circuit of the plan to another stream, if something has
// come or gone since it was moved last: the other side takes it for a fault,
// and too many of those without any news end the circuit.
func (w *world) supersede(id int) {
	for _, m := range w.all() {
		o := m.end(0)
		if o == nil || o.known().id != id || !o.open() {
			continue
		}
		st := o.c.Stats()
		news := st.FragmentsRcv + st.FragmentsSent - int64(st.Unacked)
		if news == o.news || !supersede(o.c) {
			continue
		}
		o.news = news
		w.logf("%v: moves to another stream", o)
		w.count(func(s *summary) { s.Faults["superseding"]++ })
	}
}

// touched returns the contacts that a fault is about.
func (w *world) touched(f fault) []*contact {
	var cs []*contact
	for _, p := range w.sortedPairs() {
		if p == pairOf(f.a, f.b) || f.b < 0 && (p.a == f.a || p.b == f.a) {
			cs = append(cs, w.pairs[p])
		}
	}
	return cs
}

func (w *world) sortedPairs() []pair {
	var ps []pair
	for b := range w.plan.hosts {
		for a := range b {
			ps = append(ps, pair{a, b})
		}
	}
	return ps
}

func (w *world) begins(f fault) {
	w.logf("fault: %v", f)
	w.count(func(s *summary) { s.Faults[string(f.kind)]++ })
	switch f.kind {
	case faultKill:
		w.kill(f.a)
	case faultStop:
		w.stop(f.a)
	case faultMove:
		w.move(f.a)
	case faultRebind:
		w.nat.Reboot()
		w.interrupt(f.a)
	default:
		w.eachContact(f, 1)
	}
}

func (w *world) ends(f fault) {
	w.logf("over: %v", f)
	switch f.kind {
	case faultKill, faultStop:
		w.restart(f.a)
	default:
		w.eachContact(f, -1)
	}
}

// eachContact counts a fault in or out where it holds.
func (w *world) eachContact(f fault, n int) {
	for _, c := range w.touched(f) {
		c.update(func() {
			switch f.kind {
			case faultCutOneWay:
				if f.a == c.pair.a {
					c.cuts[0] += n
				} else {
					c.cuts[1] += n
				}
			case faultRough, faultNarrow:
				if n > 0 {
					c.bad = append(c.bad, f)
				} else {
					c.improve(f)
				}
			default:
				c.cuts[0] += n
				c.cuts[1] += n
			}
		})
	}
}

// updateHost updates the contacts of a host whose process has come or gone.
func (w *world) updateHost(i int) {
	for _, c := range w.touched(fault{a: i, b: -1}) {
		c.update(func() {})
	}
}

// kill ends a process without a word. What has arrived at it by now is all
// that may have been acknowledged: acknowledgements on the way are lost.
func (w *world) kill(i int) {
	h := w.hosts[i]
	l := h.life
	if l == nil {
		return
	}
	h.life = nil
	w.updateHost(i)
	for _, m := range w.all() {
		for side := range 2 {
			if e := m.end(side); e != nil && e.life == l {
				rcv := e.c.Stats().FragmentsRcv
				e.mu.Lock()
				e.atDeath = rcv
				e.mu.Unlock()
			}
		}
	}
	w.die(l, "killed")
	h.Kill()
	w.bury(l)
}

// stop closes a node in the ordinary way.
func (w *world) stop(i int) {
	h := w.hosts[i]
	l := h.life
	if l == nil {
		return
	}
	h.life = nil
	w.updateHost(i)
	w.die(l, "stopped")
	if err := h.Stop(); err != nil {
		w.logf("stopping host %d: %v", i, err)
	}
	w.bury(l)
}

func (w *world) die(l *life, how string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.died, l.diedAt = how, w.now()
}

func (w *world) diedOf(l *life) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return l.died
}

// bury waits for everything that a dead process has left behind.
func (w *world) bury(l *life) {
	l.cancel()
	l.wg.Wait()
}

func (w *world) restart(i int) {
	if w.hosts[i].life != nil {
		return
	}
	w.hosts[i].Start()
	w.updateHost(i)
	w.greet()
}

// greet has the host behind the NAT connect to all others, which could not
// find it otherwise.
func (w *world) greet() {
	if w.plan.behind < 0 || w.hosts[w.plan.behind].life == nil {
		return
	}
	l := w.hosts[w.plan.behind].life
	for i, h := range w.hosts {
		if i == l.host || h.life == nil {
			continue
		}
		l.wg.Go(func() {
			sleep(l.ctx, time.Duration(1+i)*time.Millisecond) // what happens at one instant has no order
			ctx, cancel := context.WithTimeout(l.ctx, time.Minute)
			defer cancel()
			if _, err := l.node.Connect(ctx, h.URL("")); err != nil {
				w.logf("connecting to host %d: %v", i, err)
			}
		})
	}
}

// move gives a host another address.
func (w *world) move(i int) {
	w.moves++
	w.hosts[i].Move(netip.AddrFrom4([4]byte{10, 1, byte(w.moves >> 8), byte(w.moves)}))
	w.interrupt(i)
}

// interrupt is for a host that others see at another address now.
func (w *world) interrupt(i int) {
	for _, c := range w.touched(fault{a: i, b: -1}) {
		c.update(func() {})
		c.interrupt()
	}
}
