package circuit

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/limit"
)

// inFake runs f in a bubble with an open circuit without another side. What f
// leaves running fails the test.
func inFake(t *testing.T, cfg Config, f func(t *testing.T, c *fakeCircuit)) {
	synctest.Test(t, func(t *testing.T) {
		l, err := newFakeLink(cfg, wireSettings{Window: 1 << 20, MaxPayload: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		c, err := newFakeCircuit(l, &fakeOwner{})
		if err != nil {
			t.Fatal(err)
		}
		c.acceptFake()
		f(t, c)
		c.Close()
		if !c.at.readDone {
			c.at.readEnded(transport.ErrClosed)
		}
		l.Shutdown(t.Context(), nil)
	})
}

func takeFrame(t *testing.T, c *fakeCircuit, typ transport.FrameType, m transport.Marshaler) {
	t.Helper()
	if err := c.at.onFrame(typ, body(m)); err != nil {
		t.Fatal(err)
	}
}

// The reader has whole frames in its buffer when somebody else finds the
// circuit lost: they must not go to Reads, which is closed.
func TestFrameAfterTheLossIsDropped(t *testing.T) {
	inFake(t, Config{}, func(t *testing.T, c *fakeCircuit) {
		c.lose(errors.New("the link has ended"))
		if err := c.at.onFrame(frameData, body(&wireFragment{Serial: 1})); err == nil || isForeign(err) {
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
	inFake(t, Config{}, func(t *testing.T, c *fakeCircuit) {
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
	inFake(t, Config{}, func(t *testing.T, c *fakeCircuit) {
		c.pipe.block()
		if err := c.SendOneWay(&Fragment{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c.at.readEnded(&transport.RemoteError{Code: transport.CodeClosed})
		synctest.Wait()
		if !c.s.finished {
			t.Error("the circuit is lost, and its flusher waits for ever")
		}
	})
}

// The link may end between a circuit's registration and its open frame.
func TestOpeningOnALinkThatEndsIsAnswered(t *testing.T) {
	inFake(t, Config{}, func(t *testing.T, c *fakeCircuit) {
		opening, err := newFakeCircuit(c.link, &fakeOwner{})
		if err != nil {
			t.Fatal(err)
		}
		answer := make(chan error, 1)
		opening.s.opening = answer
		gone := errors.New("gone")
		opening.lose(gone)
		if err := <-answer; !errors.Is(err, ErrPeerLost) || !errors.Is(err, gone) {
			t.Errorf("opening on a lost stream: %v, want a LostError", err)
		}
		car := c.link.carrier()
		turns := car.lanes[laneNew].turns
		s, err := car.openStream(t.Context(), turns)
		if err != nil {
			t.Fatal(err)
		}
		opening.attach(car, s, turns)
		if opening.State().Attached {
			t.Error("it is attached after its end")
		}
		if n := len(turns); n != 0 {
			t.Errorf("it keeps %d turns", n)
		}
		opening.Close()
	})
}

// A slowOwner takes a second to take note of an end.
type slowOwner struct{ fakeOwner }

func (o *slowOwner) RemoveCircuit(c *Circuit) {
	time.Sleep(time.Second)
	o.fakeOwner.RemoveCircuit(c)
}

// The goroutine that tells the owner of the end may be held up while the others
// of the circuit end. Whoever waits for the link waits for it as well.
func TestWaitReturnsWhenTheOwnerKnows(t *testing.T) {
	inFake(t, Config{}, func(t *testing.T, c *fakeCircuit) {
		o := &slowOwner{}
		slow, err := newFakeCircuit(c.link, o)
		if err != nil {
			t.Fatal(err)
		}
		slow.acceptFake()
		go slow.lose(errors.New("gone"))
		synctest.Wait()
		slow.at.readEnded(transport.ErrLost)
		c.Close()
		c.at.readEnded(transport.ErrLost)
		c.link.end(transport.ErrLost)
		c.link.Wait()
		if o.removed != 1 {
			t.Errorf("the owner was told of the end of %d circuits", o.removed)
		}
	})
}

// With a window of a few bytes everything is due at once, but only once.
func TestSmallestWindowIsAcknowledgedOnce(t *testing.T) {
	inFake(t, Config{Ledger: Bounded(limit.Circuit{Window: 1})}, func(t *testing.T, c *fakeCircuit) {
		takeFrame(t, c, frameData, &wireFragment{Serial: 1})
		time.Sleep(time.Second)
		before := c.link.carrier().conn.(*fakeConn).writtenBytes()
		time.Sleep(time.Minute)
		if n := c.link.carrier().conn.(*fakeConn).writtenBytes() - before; n != 0 {
			t.Errorf("%d bytes of control frames in a minute in which nothing happened", n)
		}
		<-c.Reads
		time.Sleep(time.Second)
		takeFrame(t, c, frameData, &wireFragment{Serial: 2}) // it has credit
	})
}

// Shutdown closes circuits at this side, so what nobody has read of one that
// the other side has closed cannot hold it up.
func TestShutdownDoesNotWaitForReaders(t *testing.T) {
	inFake(t, Config{}, func(t *testing.T, c *fakeCircuit) {
		takeFrame(t, c, frameData, &wireFragment{Serial: 1})
		takeFrame(t, c, frameFin, &wireFin{Last: 1})
		synctest.Wait()
		c.at.readEnded(io.EOF)
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := c.link.Shutdown(ctx, nil); err != nil || time.Since(start) > time.Second {
			t.Errorf("Shutdown took %v, and its bound was 1 s: %v", time.Since(start), err)
		}
	})
}

// A loop over Fragments may wait for the Context in its body.
func TestContextEndsInsideARange(t *testing.T) {
	inFake(t, Config{}, func(t *testing.T, c *fakeCircuit) {
		for serial := range uint64(3) {
			takeFrame(t, c, frameData, &wireFragment{Serial: serial + 1})
		}
		takeFrame(t, c, frameFin, &wireFin{Last: 3})
		n := 0
		for range c.Fragments(t.Context()) {
			switch n++; n {
			case 1:
				time.Sleep(4 * time.Second)
				if c.Context.Err() != nil {
					t.Error("the Context has ended within 5 s")
				}
			case 2:
				start := time.Now()
				select {
				case <-c.Context.Done():
				case <-time.After(time.Hour):
				}
				if d := time.Since(start); d != quietAfterEnd {
					t.Errorf("nobody reads, and the Context ended after %v, want %v", d, quietAfterEnd)
				}
			}
		}
		if n != 3 {
			t.Errorf("%d fragments were ranged over, want 3", n)
		}
	})
}

// A side that reads no acknowledgements must not make this one keep every
// circuit it has ever had, to acknowledge it some day.
func TestControlStreamThatIsNotRead(t *testing.T) {
	inFake(t, Config{}, func(t *testing.T, c *fakeCircuit) {
		synctest.Wait() // settings are written
		car := c.link.carrier()
		for _, s := range c.link.carrier().conn.(*fakeConn).streams {
			s.block()
		}
		takeFrame(t, c, frameData, &wireFragment{Serial: 1}) // its acknowledgement gets stuck
		time.Sleep(time.Second)
		for range 1000 {
			churn, err := newFakeCircuit(c.link, &fakeOwner{})
			if err != nil {
				break
			}
			churn.acceptFake()
			takeFrame(t, churn, frameData, &wireFragment{Serial: 1})
			churn.lose(errors.New("reset"))
			churn.at.readEnded(errors.New("reset"))
			churn.Close()
			time.Sleep(100 * time.Millisecond)
		}
		k := &car.control
		k.mu.Lock()
		defer k.mu.Unlock()
		if n := len(k.dirty); n > 100 {
			t.Errorf("%d circuits that are gone are kept", n)
		}
		if cause := context.Cause(c.link.ctx); !errors.Is(cause, transport.ErrLost) {
			t.Errorf("the link's cause is %v", cause)
		}
	})
}
