package circuit

import (
	"slices"

	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// machineLedger is the account of a machine. In some runs there is so little
// memory that a window and two fragments more are all of it, for the circuit's
// node alone or together with the others.
func machineLedger(how byte) *limit.Ledger {
	b := limit.Circuit{Window: machineWindow, Payload: 4 << 10}
	if how&32 != 0 {
		b.Start = 2 << 10
		b.Inbox, b.Replay = 12<<10, 12<<10
		if how&64 != 0 {
			b.InboxPerNode, b.ReplayPerNode = 8<<10, 8<<10
		}
	}
	return Bounded(b)
}

// A booker is another node that has memory booked here.
type booker struct {
	g    *limit.Ledger
	node identity.NodeID
	has  [2]int64
}

// step takes memory, or gives some back or all.
func (k *booker) step(arg byte) {
	which := int(arg & 1)
	r := []limit.Resource{limit.Inbox, limit.Replay}[which]
	if n := int64(arg>>2) * 512; arg&2 != 0 {
		k.has[which] += k.g.Take(r, k.node, n/2+1, n+1)
	} else {
		n = min(n, k.has[which])
		k.has[which] -= n
		k.g.Release(r, k.node, n)
	}
}

func (k *booker) end() {
	k.g.Release(limit.Inbox, k.node, k.has[0])
	k.g.Release(limit.Replay, k.node, k.has[1])
	k.has = [2]int64{}
}

func (m *machine) book(arg byte) { m.other.step(arg) }

// want is the other side's word that it waits for credit: as it should be, or
// late, or not possible. What it says is checked for what it makes of the
// circuit.
func (m *machine) want(arg byte) {
	car := m.c.link.carrier()
	if car == nil {
		return
	}
	m.c.mu.Lock()
	s := &m.c.s
	longest := uint64(longestCost(m.c.link.cfg.limits.Payload))
	w := wireWant{Stream: m.c.pipe.id, At: s.rcvCost, Next: s.rcvCost + 600 + uint64(arg)*32}
	w.Upto = w.Next + uint64(arg)<<6
	broken := false
	switch arg & 15 {
	case 0:
		w.At, broken = s.granted+1, true
		w.Next = w.At + 1
		w.Upto = max(w.Next, w.Upto)
	case 1:
		w.Next, broken = w.At, true
	case 2:
		w.Next, broken = w.At+longest+1, true
		w.Upto = max(w.Next, w.Upto)
	case 3:
		w.Upto, broken = w.Next-1, true
	case 4:
		w = wireWant{Stream: w.Stream, Next: 1, Upto: 1<<64 - 1} // backwards, and without end
	case 5:
		w.Stream += 4
	case 6:
		w.Upto = s.granted // has been given meanwhile
		w.Next = min(w.Next, w.Upto)
	case 7, 8:
		w.Upto = 1 << 63
	case 9:
		w.Next = w.At + longest // the longest there may be
		w.Upto = w.Next
	}
	at, before := s.at, s.want
	stale := w.Upto <= s.granted
	m.c.mu.Unlock()
	var err error
	car.tell(w.Stream, func(a *attachment) error { err = a.onWant(&w); return err })

	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	mine := at == m.c.at && at != nil && w.Stream == m.c.pipe.id && car == at.car
	switch {
	case mine && broken && !stale && (err == nil || s.at == at):
		m.t.Fatalf("%+v is taken, with %d come and %d granted", w, s.rcvCost, s.granted)
	case err != nil && (!mine || !broken || stale):
		m.t.Fatalf("%+v: %v, with %d come and %d granted", w, err, s.rcvCost, s.granted)
	case mine && err == nil && !stale:
		// It gets credit for a fragment of that size, and may use it for
		// several; how many of them are unread then is up to the pump.
		m.largest = max(m.largest, int(w.Next-w.At))
	case (!mine || stale) && (s.want.At != before.At || s.want.Next != before.Next):
		m.t.Fatalf("%+v is nothing to the circuit, and takes the place of %+v", w, before)
	}
}

// wants is what the machine hears of the sender's waiting.
type wants struct {
	pipe *fakeStream     // the control stream of the first carrier
	seen int             // bytes of it that have been looked at
	told map[uint64]bool // Next of those on the attachment
	on   *attachment
}

// record begins to record what the carrier says: its control stream is the
// only one there is.
func (w *wants) record(car *carrier) {
	conn := car.conn.(*fakeConn)
	for _, s := range conn.streams {
		if s.written > 0 { // the settings, and not the circuit's stream
			w.pipe = s
		}
	}
	w.pipe.mu.Lock()
	defer w.pipe.mu.Unlock()
	w.pipe.record = []byte{}
}

// hear takes what the control loop has said. The carriers after the first have
// none, so the machine does its work.
func (m *machine) hear() {
	var said []byte
	if car := m.c.link.carrier(); car != nil && car.seq > 1 {
		said = car.appendControl(nil)
	}
	m.wants.pipe.mu.Lock()
	said = slices.Concat(m.wants.pipe.record[m.wants.seen:], said)
	m.wants.seen = len(m.wants.pipe.record)
	m.wants.pipe.mu.Unlock()
	for _, w := range wantsIn(m.t, said) {
		m.heard(w)
	}
}

// heard checks one want: it names fragments that were sent and that there was
// no credit for, and comes once.
func (m *machine) heard(w wireWant) {
	if m.wants.on != m.c.at {
		m.wants.on, m.wants.told = m.c.at, map[uint64]bool{}
	}
	at := slices.Index(m.costs, w.At)
	switch {
	case w.Stream != m.c.pipe.id:
		return // it was written before the attachment ended
	case m.wants.told[w.Next]:
		m.t.Fatalf("told again: %+v", w)
	case at < 0 || at+1 >= len(m.costs) || m.costs[at+1] != w.Next || !slices.Contains(m.costs[at+1:], w.Upto):
		m.t.Fatalf("%+v, and what was sent comes to %v", w, m.costs)
	}
	m.wants.told[w.Next] = true
}

// checkMemory holds what is booked against the bounds.
func (m *machine) checkMemory(s *state) {
	g := m.other.g
	for _, r := range []limit.Resource{limit.Inbox, limit.Replay} {
		u := g.Uses()[r]
		if u.Used > u.Limit || u.TopUsed > u.PerNode {
			m.t.Fatalf("%d %s are used, %d by one node, over %d or %d", u.Used, u.What, u.TopUsed, u.Limit, u.PerNode)
		}
	}
	if most := s.window + longestCost(m.c.link.cfg.limits.Payload); s.inBooked > most {
		m.t.Fatalf("%d are booked, with a window of %d", s.inBooked, s.window)
	}
}

// free is how much more the circuit's node could take.
func (m *machine) free(r limit.Resource) int64 {
	u := m.other.g.Uses()[r]
	which := map[limit.Resource]int{limit.Inbox: 0, limit.Replay: 1}[r]
	mine := u.Used - m.other.has[which]
	return min(u.Limit-u.Limit/8-u.Used, u.PerNode-u.PerNode/8-mine)
}

// checkSettled looks at a circuit on which nothing goes on: whoever waits has
// said so, and waits for what there is not.
func (m *machine) checkSettled() {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	s := &m.c.s
	if s.at == nil || s.at != m.c.at || s.released {
		return
	}
	blocked := s.at.ready && s.out.unsent() && !s.out.canSend()
	if blocked && (m.wants.on != m.c.at || !m.wants.told[s.out.next()]) {
		m.t.Fatalf("waits for credit of %d, has %d, and has not said so", s.out.next(), s.out.credit)
	}
	w := &s.want
	if w.Upto == 0 || s.arrivedAll() || int64(w.At-s.took) >= int64(s.window) {
		return
	}
	if need := int64(w.Next-s.took) - int64(s.inBooked); need > 0 && need <= m.free(limit.Inbox) {
		m.t.Fatalf("%d are wanted, and %d are free", need, m.free(limit.Inbox))
	}
	if s.took == s.rcvCost && s.at.ready && w.At <= s.rcvCost && s.took+uint64(s.inBooked) >= w.Next && s.granted < w.Next {
		m.t.Fatalf("all is read, credit of %d is wanted, and there is %d: it was not told", w.Next, s.granted)
	}
}
