package circuit

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
)

// However many processes are away, only so many are called at a time: their
// addresses may be somebody else's by now. None is forgotten over that.
func TestRedialsOfAllLinksAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const away, tryTime = 4 * maxRedials, 2 * time.Second
		var now, most atomic.Int64
		var tried [away]atomic.Int64
		hub := NewHub(nil, Config{})
		settings := body(&wireSettings{Window: 1 << 20, MaxPayload: 1 << 20, LingerMillis: 120_000})
		var links []*Link
		var circuits []*fakeCircuit
		for i := range away {
			l := hub.Link(newFakeConn(), func(context.Context) error {
				n := now.Add(1)
				defer now.Add(-1)
				for m := most.Load(); m < n && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				tried[i].Add(1)
				time.Sleep(tryTime)
				return transport.ErrUnreachable
			})
			links = append(links, l)
			if err := l.carrier().takeSettings(settings); err != nil {
				t.Fatal(err)
			}
			c, err := newFakeCircuit(l, &fakeOwner{})
			if err != nil {
				t.Fatal(err)
			}
			c.acceptFake()
			circuits = append(circuits, c)
		}
		for i, l := range links {
			l.carrier().conn.(*fakeConn).cancel(transport.ErrLost)
			circuits[i].endFake(transport.ErrLost)
		}
		time.Sleep(time.Minute)
		if n := most.Load(); n != maxRedials {
			t.Errorf("%d redials at a time, want %d", n, maxRedials)
		}
		for i := range tried {
			if n := tried[i].Load(); n < 3 {
				t.Errorf("process %d was called %d times in a minute", i, n)
			}
		}
		for _, l := range links {
			l.end(errGone)
			l.Wait()
		}
	})
}

// How many circuits the other side may say it resumes is bounded for each
// connection, and not for each frame alone.
func TestResumedCircuitsAreLimited(t *testing.T) {
	l, err := newFakeLink(Config{}, wireSettings{Window: 1 << 20, MaxPayload: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Wait()
	defer l.end(errGone)
	w := wireResumed{IDs: make([][16]byte, maxAcks), More: true}
	frame := body(&w)
	car := l.carrier()
	for named := 0; named < maxResumed; named += maxAcks {
		if err := car.onResumed(frame); err != nil {
			t.Fatalf("after %d: %v", named, err)
		}
	}
	w.IDs = w.IDs[:1]
	if err := car.onResumed(body(&w)); err == nil {
		t.Errorf("more than %d are taken", maxResumed)
	}
}
