package circuit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
)

func fakePair(t *testing.T, cfg Config) (*Link, *Circuit, *fakeStream) {
	l, err := newFakeLink(cfg, wireSettings{Window: 1 << 20, MaxPayload: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	c, s, err := newFakeCircuit(l, &fakeOwner{})
	if err != nil {
		t.Fatal(err)
	}
	return l, c, s
}

func TestZFrameAfterLoss(t *testing.T) {
	l, c, _ := fakePair(t, Config{})
	c.lose(errors.New("x"))
	err := c.onFrame(frameData, body(&wireFragment{Serial: 1}))
	t.Log(err)
	c.readEnded(transport.ErrClosed)
	l.Shutdown(t.Context(), nil)
}

func TestZCloseAfterFin(t *testing.T) {
	l, c, _ := fakePair(t, Config{})
	c.onFrame(frameFin, body(&wireFin{}))
	c.Close()
	c.update(func(s *state) { s.readDone = true })
	done := make(chan struct{})
	go func() { l.Shutdown(t.Context(), nil); close(done) }()
	select {
	case <-done:
	case <-time.After(3 * time.Second):
		t.Fatal("never finishes")
	}
}

func TestZTwoIterators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c, _ := fakePair(t, Config{})
		for i := range 1000 {
			ctxA, cancelA := context.WithCancel(t.Context())
			aDone := make(chan int, 1)
			go func() {
				n := 0
				for range c.Fragments(ctxA) {
					n++
				}
				aDone <- n
			}()
			synctest.Wait()
			ctxB, cancelB := context.WithCancel(t.Context())
			bGot := make(chan int, 1)
			go func() {
				n := 0
				for _, err := range c.Fragments(ctxB) {
					if err != nil {
						break
					}
					n++
					break
				}
				bGot <- n
			}()
			synctest.Wait()
			c.onFrame(frameData, body(&wireFragment{Serial: uint64(i + 1)}))
			cancelA()
			synctest.Wait()
			if c.Stats().Unread != 0 {
				t.Fatalf("round %d: lost wakeup: unread %d", i, c.Stats().Unread)
			}
			cancelB()
			<-aDone
			<-bGot
		}
		c.readEnded(transport.ErrClosed)
		l.Shutdown(t.Context(), nil)
	})
}

func TestZIterWaitsForContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c, _ := fakePair(t, Config{})
		c.onFrame(frameData, body(&wireFragment{Serial: 1}))
		c.onFrame(frameData, body(&wireFragment{Serial: 2}))
		c.onFrame(frameFin, body(&wireFin{Last: 2}))
		go c.readEnded(errors.New("x"))
		for range c.Fragments(t.Context()) {
			select {
			case <-c.Context.Done():
			case <-time.After(time.Hour):
				t.Error("Context did not end in an hour")
			}
		}
		l.Shutdown(t.Context(), nil)
	})
}

func TestZShutdownWithUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c, _ := fakePair(t, Config{})
		c.onFrame(frameData, body(&wireFragment{Serial: 1}))
		c.onFrame(frameFin, body(&wireFin{Last: 1}))
		synctest.Wait()
		c.update(func(s *state) { s.readDone = true })
		time.Sleep(time.Second)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		l.Shutdown(ctx, nil)
		t.Log(time.Since(start))
	})
}

func TestZStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c, s := fakePair(t, Config{})
		s.stuck = true
		c.SendOneWay(&Fragment{})
		synctest.Wait()
		c.readEnded(&transport.RemoteError{})
		synctest.Wait()
		if c.s.finished {
			t.Log("finished")
		} else {
			t.Error("not finished")
		}
		l.Shutdown(t.Context(), nil)
	})
}

func TestZOpenLost(t *testing.T) {
	l, c, _ := fakePair(t, Config{})
	c.lose(errors.New("x"))
	answer := make(chan error, 1)
	t.Log(c.startOpening(t.Context(), nil, answer), len(answer))
	c.readEnded(transport.ErrClosed)
	l.Shutdown(t.Context(), nil)
}

func TestZSmallWindow(t *testing.T) {
	l, c, _ := fakePair(t, Config{Window: 1})
	c.onFrame(frameData, body(&wireFragment{Serial: 1}))
	n := 0
	for i := range 1000 {
		_ = i
		time.Sleep(time.Millisecond)
		if len(l.control.wake) > 0 {
			n++
		}
	}
	t.Log("wakes seen", n)
	c.Close()
	c.readEnded(transport.ErrClosed)
	l.Shutdown(t.Context(), nil)
}
