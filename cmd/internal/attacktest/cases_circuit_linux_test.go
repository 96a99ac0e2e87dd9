package attacktest

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"
)

// onCircuit is an attack of which each try has a circuit of its own: say is
// what is said on it, and on the control stream, about it.
type saidOnCircuit struct {
	what    string
	circuit []byte
	control func(stream uint64) []byte
	faulty  bool // the node has to reset the stream with code 5
}

func onCircuits(name string, full int, all []saidOnCircuit) attack {
	return attack{name, [2]int{len(all), full * len(all)}, func(t *testing.T, a *arena) int {
		l := a.connect(t, a.mallory)
		defer func() { l.close() }()
		for _, say := range all {
			s, _, err := l.open(openTo("echo"))
			if err != nil {
				t.Fatalf("%s: %v", say.what, err)
			}
			s.Write(say.circuit)
			if say.control != nil {
				l.control.Write(say.control(uint64(s.StreamID())))
			}
			if code := resetOf(s, say.faulty); say.faulty && code != 5 {
				t.Errorf("%s: the stream ended with %d, want a reset with code 5", say.what, code)
			} else if code == 5 {
				a.reacted++
			}
			drop(s)
			if l.qc.Context().Err() != nil {
				if say.faulty {
					t.Errorf("%s: has cost the connection", say.what)
				}
				l.close()
				l = a.connect(t, a.mallory)
			}
		}
		return len(all)
	}}
}

// resetOf reads until the node resets a stream, or for a moment if it may not
// do so, and returns the code, -1 if there is none.
func resetOf(s *quicgo.Stream, sure bool) int64 {
	wait := 2 * moment
	if sure {
		wait = 10 * time.Second
	}
	s.SetReadDeadline(time.Now().Add(wait))
	for b := make([]byte, 4<<10); ; {
		_, err := s.Read(b)
		if se, ok := errors.AsType[*quicgo.StreamError](err); ok {
			return int64(se.ErrorCode)
		}
		if err != nil {
			return -1
		}
	}
}

func serials() attack {
	var all []saidOnCircuit
	for what, list := range map[string][]uint64{
		"gap": {1, 3}, "first is 2": {2}, "first is 0": {0}, "2⁶³": {1 << 63}, "2⁶³−1": {math.MaxInt64}, "2⁶⁴−1": {math.MaxUint64}, "1, then 2⁶³": {1, 1 << 63},
	} {
		var b []byte
		for _, n := range list {
			b = append(b, data(n, []byte("x"))...)
		}
		// 0 is an earlier one, and those are dropped.
		all = append(all, saidOnCircuit{what: what, circuit: b, faulty: list[0] != 0})
	}
	all = append(all,
		saidOnCircuit{what: "rewind", circuit: slices.Concat(data(1, nil), data(2, nil), data(1, nil), data(2, nil), data(1, nil))},
		saidOnCircuit{what: "fin below", circuit: slices.Concat(data(1, nil), data(2, nil), fin(1)), faulty: true},
		saidOnCircuit{what: "fin of 2⁶³", circuit: fin(1 << 63)},
		saidOnCircuit{what: "two fins", circuit: slices.Concat(fin(9), fin(9)), faulty: true},
		saidOnCircuit{what: "accept", circuit: accept(newID(), 1, 0, 1<<20), faulty: true},
		saidOnCircuit{what: "refuse", circuit: refuse(0), faulty: true},
		saidOnCircuit{what: "open", circuit: openTo("echo").frame(), faulty: true})
	return onCircuits("serial gaps, rewinds, 0 and 2⁶³; fins", 50, all)
}

func credits() attack {
	type u = uint64
	both := func(frames ...func(u) []byte) func(u) []byte {
		return func(s u) (b []byte) {
			for _, f := range frames {
				b = append(b, f(s)...)
			}
			return b
		}
	}
	acked := func(received, credit u) func(u) []byte {
		return func(s u) []byte { return ack(s, received, credit) }
	}
	one := data(1, []byte("echo me"))
	return onCircuits("credit of 2⁶³ and falling; acks from the future and of foreign streams; wants; yields", 50, []saidOnCircuit{
		{what: "credit of 2⁶³", circuit: one, control: acked(0, 1<<63)},
		{what: "credit of 2⁶⁴−1", circuit: one, control: acked(0, math.MaxUint64)},
		{what: "falling credit", circuit: one, control: both(acked(0, 1<<30), acked(0, 1<<20), acked(0, 1), acked(0, 0))},
		{what: "no credit", circuit: slices.Concat(one, data(2, nil)), control: acked(0, 0)},
		{what: "ack from the future", circuit: one, control: acked(7, 1<<20), faulty: true},
		{what: "ack of 2⁶³", control: acked(1<<63, 1<<20), faulty: true},
		{what: "ack of 2⁶⁴−1", control: acked(math.MaxUint64, 1<<20), faulty: true},
		{what: "ack of foreign streams", control: func(s u) []byte {
			return slices.Concat(ack(s+4, 1, 1), ack(1, 1, 1), ack(0, 1, 1), ack(2, 1, 1), ack(math.MaxUint64, 1, 1), ack(1<<62, 1<<63, 1<<63))
		}},
		{what: "yield of nothing", control: func(s u) []byte {
			return slices.Concat(yield(s, 0, 0), yield(s, 1, 0), yield(s+4, 5, 1), yield(math.MaxUint64, math.MaxUint64, 0))
		}},
		{what: "yield of more", control: func(s u) []byte { return yield(s, 1<<20, 1<<40) }},
		{what: "want of 2⁶³", circuit: one, control: func(s u) []byte { return want(s, 0, 1<<10, 1<<63) }},
		{what: "wants that cannot be", control: func(s u) []byte { return want(s, 1<<63, 1<<63, 1<<63) }, faulty: true},
		{what: "want from nothing to 2⁶³", control: func(s u) []byte { return want(s, 0, 1<<63, 1<<63) }, faulty: true},
		{what: "want of less than the next one takes", control: func(s u) []byte { return want(s, 0, 200_000, 100_000) }, faulty: true},
		{what: "want of 2⁶⁴−1", control: func(s u) []byte {
			return slices.Concat(want(s, 0, 1, math.MaxUint64), want(s, 0, 0, 0), want(s, 0, 1, 1))
		}},
		{what: "want of foreign streams", control: func(s u) []byte {
			return slices.Concat(want(s+4, 0, 1, 1<<30), want(0, 0, 1, 1<<30), want(math.MaxUint64, 0, 1, 1<<30))
		}},
	})
}

// endlessResumed names circuits that were never there, in one frame after the
// other, until the node has had enough.
func endlessResumed() attack {
	frames := volume(100, 8200)
	return attack{"resumed lists without end", [2]int{1, 3}, func(t *testing.T, a *arena) int {
		l, err := a.mallory.hello(greeting{nonce: rand.Uint64() | 1, serial: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		if err := l.settle(settings(1<<20, 1<<20, 120_000)); err != nil {
			t.Fatal(err)
		}
		for range frames {
			ids := make([]id, 128)
			for i := range ids {
				ids[i] = newID()
			}
			l.control.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if _, err := l.control.Write(resumed(true, ids...)); err != nil {
				break
			}
		}
		if !*full {
			return 1
		}
		if code, err := ended(l.qc); err != nil || code != 5 {
			t.Errorf("the connection ended with %v, %v; want code 5", code, err)
		}
		return 1
	}}
}

// manyCircuits opens circuits as fast as they are answered, on a connection of
// each of these, and keeps what it gets.
func manyCircuits(name string, total int, who func(a *arena) []*mallory, most func(a *arena) int) attack {
	return attack{name, [2]int{1, 1}, func(t *testing.T, a *arena) int {
		all := who(a)
		var mu sync.Mutex
		accepted, refused := 0, 0
		var wg sync.WaitGroup
		for _, m := range all {
			l := a.connect(t, m)
			defer l.close()
			turn := make(chan struct{}, total/len(all))
			for range total / len(all) {
				turn <- struct{}{}
			}
			close(turn)
			for range 64 / len(all) {
				wg.Go(func() {
					for range turn {
						a.pace(paceOpens)
						_, _, err := l.open(openTo("sink"))
						r, isRefusal := errors.AsType[*refusedError](err)
						mu.Lock()
						switch {
						case err == nil:
							accepted++
						case isRefusal && r.code == refusedLimit:
							refused++
						default:
							t.Errorf("an opening: %v", err)
						}
						mu.Unlock()
						if err != nil && !isRefusal {
							return
						}
					}
				})
			}
		}
		wg.Wait()
		if bound := most(a); accepted > bound {
			t.Errorf("%d circuits were let in, want at most %d", accepted, bound)
		}
		a.reacted += refused
		return accepted + refused
	}}
}

func circuitsInMasses() []attack {
	return []attack{
		manyCircuits("100,000 circuits of one key", volume(1500, 100_000),
			func(a *arena) []*mallory { return []*mallory{a.mallory} },
			func(a *arena) int { return a.limits.Circuit.CircuitsPerNode }),
		manyCircuits("100,000 circuits of many keys", volume(1500, 100_000),
			func(a *arena) []*mallory { return a.crowd },
			func(a *arena) int { return a.limits.Circuit.Circuits }),
	}
}

// unreadSource has the node's service send on many circuits, and never
// acknowledges. What comes is read, or not even that.
func unreadSource() attack {
	return attack{"circuits never acknowledged, nor read", [2]int{1, 4}, func(t *testing.T, a *arena) int {
		l, err := a.mallory.connectSaying(settings(1<<10, 1<<20, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		streams := a.openMany(l, "source", 200)
		var wg sync.WaitGroup
		defer wg.Wait()
		for i, s := range streams {
			defer drop(s)
			l.write(ack(uint64(s.StreamID()), 0, 1<<62))
			if i%10 == 0 {
				continue
			}
			wg.Go(func() {
				for b := make([]byte, 64<<10); ; {
					if _, err := s.Read(b); err != nil {
						return
					}
				}
			})
		}
		a.hold(t, volume(2*samples, 20*samples))
		return len(streams)
	}}
}

// openMany opens circuits until it has n of them or is refused.
func (a *arena) openMany(l *line, service string, n int) (all []*quicgo.Stream) {
	for range n {
		s, _, err := l.open(openTo(service))
		if err != nil {
			a.reacted++
			break
		}
		all = append(all, s)
	}
	return all
}

// unreadSink sends to a service that never reads, on many circuits: as much as
// the node lets it, and then some.
func unreadSink() attack {
	return attack{"circuits whose service never reads", [2]int{1, 4}, func(t *testing.T, a *arena) int {
		l := a.connect(t, a.mallory)
		defer l.close()
		streams := a.openMany(l, "sink", 200)
		var wg sync.WaitGroup
		defer wg.Wait()
		for i, s := range streams {
			defer drop(s)
			wg.Go(func() {
				if i%4 == 0 {
					pourInto(s)
				} else {
					l.pour(s)
				}
			})
		}
		a.hold(t, volume(2*samples, 20*samples))
		return len(streams)
	}}
}

// pourInto sends fragments whatever the credit is, until the node has had
// enough.
func pourInto(s *quicgo.Stream) {
	payload := make([]byte, 6<<10)
	for serial := uint64(1); ; serial++ {
		s.SetWriteDeadline(time.Now().Add(2 * time.Second))
		if _, err := s.Write(data(serial, payload)); err != nil {
			return
		}
	}
}

// pour sends as much as the node gives credit for, and wants more and more,
// until there is none for a while.
func (l *line) pour(s *quicgo.Stream) {
	frame, stream := len(data(1<<30, make([]byte, 6<<10)))+512, uint64(s.StreamID())
	at := uint64(0)
	for serial := uint64(1); ; serial++ {
		next := at + uint64(frame)
		if l.credit(stream) < next {
			l.write(want(stream, at, next, at+1<<30))
			if !l.await(stream, next) {
				return
			}
		}
		b := data(serial, make([]byte, 6<<10))
		s.SetWriteDeadline(time.Now().Add(2 * time.Second))
		if _, err := s.Write(b); err != nil {
			return
		}
		at += uint64(len(b)) + 512
	}
}
