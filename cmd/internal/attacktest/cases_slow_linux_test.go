package attacktest

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"
)

// ahead fills what QUIC takes before anything is judged: connections that say
// no hello, and data on all of their streams.
func ahead() attack {
	return attack{"data ahead of hello, as much as there is room for", [2]int{1, 20}, func(t *testing.T, a *arena) int {
		const conns, streams = 7, 10 // of one key; the eighth is refused
		var wg sync.WaitGroup
		n := 0
		junk := make([]byte, 2<<20)
		for range conns {
			qc, err := a.mallory.dial(a.mallory.tls())
			if err != nil {
				continue // turned away
			}
			defer qc.CloseWithError(0, "")
			// The first stream is hello's. It is begun, so that there is
			// something to wait for.
			if first, err := openStream(qc); err == nil {
				say(first, greeting{nonce: 1, serial: 1}.frame()[:3], false)
			}
			for range streams {
				s, err := openStream(qc)
				if err != nil {
					break
				}
				n++
				wg.Go(func() {
					s.SetWriteDeadline(time.Now().Add(time.Duration(volume(300, 3000)) * time.Millisecond))
					s.Write(junk)
				})
			}
		}
		wg.Wait()
		return max(n, 1)
	}}
}

// A trickle is somebody patient: streams and connections that are begun and
// then go on by a byte now and then, all the while the other cases run.
type trickle struct {
	stop chan struct{}
	once sync.Once // of closing stop
	wg   sync.WaitGroup
}

func newTrickle(t *testing.T, a *arena) {
	tr := &trickle{stop: make(chan struct{})}
	tr.wg.Go(func() { tr.run(a.drip) })
	a.trickle = tr
	t.Cleanup(tr.end)
}

func (tr *trickle) end() {
	tr.once.Do(func() { close(tr.stop) })
	tr.wg.Wait()
}

func (tr *trickle) run(m *mallory) {
	var open []*drips
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for len(open) < 3 {
			d := newDrips(m)
			if d == nil {
				break
			}
			open = append(open, d)
		}
		select {
		case <-tr.stop:
			for _, d := range open {
				d.close()
			}
			return
		case <-tick.C:
		}
		left := open[:0]
		for _, d := range open {
			if d.next() {
				left = append(left, d)
			} else {
				d.close()
			}
		}
		open = left
	}
}

// drips are the slow streams of one connection: the beginnings of every frame,
// of which each round says one byte more.
type drips struct {
	l       *line
	streams []*quicgo.Stream
	rest    [][]byte
}

func newDrips(m *mallory) *drips {
	l, err := m.connect()
	if err != nil {
		return nil
	}
	d := &drips{l: l}
	for i := range 60 {
		e := examples()[i%len(examples())]
		s, err := l.stream(e.frame[:1])
		if err != nil {
			break
		}
		d.streams, d.rest = append(d.streams, s), append(d.rest, e.frame[1:])
	}
	for range 20 { // circuits in the middle of a long fragment
		s, _, err := l.open(openTo("echo"))
		if err != nil {
			break
		}
		s.Write(claim(frameData, 200<<10, 0x96, 1))
		d.streams, d.rest = append(d.streams, s), append(d.rest, make([]byte, 1000))
	}
	return d
}

// next says one byte on each stream, and reports whether the connection lives.
func (d *drips) next() bool {
	for i, s := range d.streams {
		if len(d.rest[i]) > 0 {
			s.SetWriteDeadline(time.Now().Add(time.Second))
			s.Write(d.rest[i][:1])
			d.rest[i] = d.rest[i][1:]
		}
	}
	return d.l.qc.Context().Err() == nil
}

func (d *drips) close() { d.l.close() }

// slow is the case of its own: as many such streams as the node takes.
func slow() attack {
	return attack{"one byte a minute on many streams", [2]int{1, 5}, func(t *testing.T, a *arena) int {
		n := 0
		for range 5 {
			d := newDrips(a.mallory)
			if d == nil {
				t.Fatal("the attacker does not get in")
			}
			defer d.close()
			n += len(d.streams)
			for range 1000 {
				if s, err := d.l.qc.OpenStream(); err == nil {
					s.Write([]byte{0x90})
					n++
				}
			}
		}
		a.hold(t, volume(samples, 12_000)) // longer than a first frame may take
		return n
	}}
}

// leftBehind loses one connection after the other, each as another process and
// with circuits that wait for the next one: unread, and not acknowledged.
func leftBehind() attack {
	return attack{"circuits left behind by process after process", [2]int{8, 400}, func(t *testing.T, a *arena) int {
		const round = 8
		for i := range round {
			m := a.crowd[i%2]
			a.pace(paceConns)
			l, err := m.hello(greeting{nonce: rand.Uint64() | 1, serial: 1})
			if err != nil {
				t.Fatalf("the attacker does not get in: %v", err)
			}
			// Not for longer, so that the next case finds its places free.
			if err := l.settle(append(settings(1<<30, 1<<20, 2000), resumed(false)...)); err != nil {
				t.Fatal(err)
			}
			for _, service := range []string{"sink", "source"} {
				for _, s := range a.openMany(l, service, 20) {
					s.SetWriteDeadline(time.Now().Add(time.Second))
					s.Write(data(1, make([]byte, 6<<10)))
				}
			}
			l.qc.CloseWithError(6, "") // lost, and not closed
			l.wg.Wait()
		}
		return round
	}}
}
