package circuit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
)

// inFake runs f in a bubble with an open circuit without another side. What f
// leaves running fails the test.
func inFake(t *testing.T, cfg Config, f func(t *testing.T, c *Circuit, s *fakeStream)) {
	synctest.Test(t, func(t *testing.T) {
		l, err := newFakeLink(cfg, wireSettings{Window: 1 << 20, MaxPayload: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		c, s, err := newFakeCircuit(l, &fakeOwner{})
		if err != nil {
			t.Fatal(err)
		}
		f(t, c, s)
		c.Close()
		c.readEnded(transport.ErrClosed)
		l.Shutdown(t.Context(), nil)
	})
}

func takeFrame(t *testing.T, c *Circuit, typ transport.FrameType, m marshaler) {
	t.Helper()
	if err := c.onFrame(typ, body(m)); err != nil {
		t.Fatal(err)
	}
}

// The reader has whole frames in its buffer when somebody else finds the
// circuit lost: they must not go to Reads, which is closed.
func TestFrameAfterTheLossIsDropped(t *testing.T) {
	inFake(t, Config{}, func(t *testing.T, c *Circuit, _ *fakeStream) {
		c.lose(errors.New("the link has ended"))
		if err := c.onFrame(frameData, body(&wireFragment{Serial: 1})); err == nil || isForeign(err) {
			t.Errorf("a fragment after the loss: %v, want this side's error", err)
		}
		if _, ok := <-c.Reads; ok {
			t.Error("it was delivered after the end")
		}
	})
}

// One wake-up may be meant for any of several Fragments calls; one that
// leaves passes it on.
func TestEndingOneRangeWakesTheOther(t *testing.T) {
	inFake(t, Config{}, func(t *testing.T, c *Circuit, _ *fakeStream) {
		for serial := uint64(1); serial <= 100; serial++ {
			ctxA, cancelA := context.WithCancel(t.Context())
			ctxB, cancelB := context.WithCancel(t.Context())
			for _, ctx := range []context.Context{ctxA, ctxB} {
				go func() {
					for range c.Fragments(ctx) {
						break
					}
				}()
				synctest.Wait() // A waits first and is woken first
			}
			takeFrame(t, c, frameData, &wireFragment{Serial: serial})
			cancelA()
			synctest.Wait()
			if n := c.Stats().Unread; n != 0 {
				t.Fatalf("round %d: %d fragments wait although somebody ranges", serial, n)
			}
			cancelB()
			synctest.Wait()
		}
	})
}

// A side may reset what it sends and never read again.
func TestLostCircuitFreesABlockedWriter(t *testing.T) {
	inFake(t, Config{}, func(t *testing.T, c *Circuit, s *fakeStream) {
		s.block()
		if err := c.SendOneWay(&Fragment{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c.readEnded(&transport.RemoteError{Code: transport.CodeClosed})
		synctest.Wait()
		if !c.s.finished {
			t.Error("the circuit is lost, and its flusher waits for ever")
		}
	})
}

// The link may end between a circuit's registration and its open frame.
func TestOpeningOnALinkThatEndsIsAnswered(t *testing.T) {
	inFake(t, Config{}, func(t *testing.T, c *Circuit, _ *fakeStream) {
		gone := errors.New("gone")
		c.lose(gone)
		if err := c.startOpening(t.Context(), nil, make(chan error, 1)); !errors.Is(err, ErrPeerLost) || !errors.Is(err, gone) {
			t.Errorf("opening on a lost stream: %v, want a LostError", err)
		}
	})
}

// With a window of a few bytes everything is due at once, but only once.
func TestSmallestWindowIsAcknowledgedOnce(t *testing.T) {
	inFake(t, Config{Window: 1}, func(t *testing.T, c *Circuit, _ *fakeStream) {
		takeFrame(t, c, frameData, &wireFragment{Serial: 1})
		time.Sleep(time.Second)
		before := c.link.conn.(*fakeConn).writtenBytes()
		time.Sleep(time.Minute)
		if n := c.link.conn.(*fakeConn).writtenBytes() - before; n != 0 {
			t.Errorf("%d bytes of control frames in a minute in which nothing happened", n)
		}
		<-c.Reads
		time.Sleep(time.Second)
		takeFrame(t, c, frameData, &wireFragment{Serial: 2}) // it has credit
	})
}
