package circuit

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
)

// inLastingFake is inFake with a circuit that outlives its connections.
func inLastingFake(t *testing.T, f func(t *testing.T, l *Link)) {
	synctest.Test(t, func(t *testing.T) {
		l, err := newFakeLink(Config{}, wireSettings{Window: 1 << 20, MaxPayload: 1 << 20, LingerMillis: 120_000})
		if err != nil {
			t.Fatal(err)
		}
		f(t, l)
		for _, c := range l.snapshot() {
			c.Close()
		}
		l.end(transport.ErrClosed)
		l.Wait()
	})
}

// newLastingFake returns a circuit that this side has opened, or accepted.
func newLastingFake(t *testing.T, l *Link, accepted bool) *fakeCircuit {
	t.Helper()
	c, err := newFakeCircuit(l, &fakeOwner{})
	if err != nil {
		t.Fatal(err)
	}
	if accepted {
		c.acceptFake()
		return c
	}
	answer := make(chan error, 1)
	c.openFake(answer)
	takeFrame(t, c, frameAccept, &wireAccept{Seed: fakeSeed, Generation: 1, Credit: 1 << 20})
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	return c
}

// The end of a connection takes its circuits off one by one; the next one may
// be there before it has come to the last.
func TestNextConnectionComesWhileTheLastOneEnds(t *testing.T) {
	inLastingFake(t, func(t *testing.T, l *Link) {
		c := newLastingFake(t, l, false)
		old := l.carrier()
		old.mu.Lock() // what fail does first
		old.over = true
		old.mu.Unlock()
		old.cancel(transport.ErrLost)
		next := newFakeConn()
		l.Attach(next)
		synctest.Wait()
		c.detachFake(transport.ErrLost) // and last
		time.Sleep(time.Second)
		if st := c.State(); !st.Attached || st.Attachments != 2 {
			t.Errorf("a second later the circuit is %v, with %d attachments", st, st.Attachments)
		}
		old.conn.Close(transport.CodeClosed, "")
	})
}

// A side that has been told of the close on an earlier attachment ends its
// direction of the next one at once.
func TestEndOfStreamThatAnswersAnEarlierClose(t *testing.T) {
	for _, accepted := range []bool{true, false} {
		inLastingFake(t, func(t *testing.T, l *Link) {
			c := newLastingFake(t, l, accepted)
			c.SendOneWay(&Fragment{})
			c.Close()
			synctest.Wait() // the fin is written
			c.detachFake(transport.ErrLost)
			c.reattachFake(t, accepted, 1)
			before := c.s.faults
			c.endFake(io.EOF) // before the fin is written again
			synctest.Wait()
			if !c.s.released || c.s.faults != before || c.s.out.unacked() != 0 {
				t.Errorf("released %v after %d faults, before %d, %d unacknowledged", c.s.released, c.s.faults, before, c.s.out.unacked())
			}
		})
	}
}

// reattachFake attaches the circuit once more, on the same connection, to
// another side that has received so much.
func (f *fakeCircuit) reattachFake(t *testing.T, accepted bool, received uint64) {
	t.Helper()
	if accepted {
		f.attachFake(func(s *state, a *attachment) {
			s.out.ack(received)
			f.begin(s, a, &wireOpen{})
		})
		return
	}
	f.attachFake(func(s *state, a *attachment) {
		a.handshake = f.openFrame(s)
		s.take(a)
	})
	takeFrame(t, f, frameAccept, &wireAccept{Seed: fakeSeed, Generation: f.at.gen, Received: received, Credit: 1 << 20})
}

// Acknowledgements have a stream of their own and may overtake the accept
// frame, which was written before them: the credit that they give holds.
func TestAcknowledgementOvertakesTheAccept(t *testing.T) {
	inLastingFake(t, func(t *testing.T, l *Link) {
		c, err := newFakeCircuit(l, &fakeOwner{})
		if err != nil {
			t.Fatal(err)
		}
		answer := make(chan error, 1)
		c.openFake(answer)
		for gen := uint64(1); gen <= 2; gen++ {
			early := gen << 22
			l.carrier().onAcks([]wireAck{{Stream: c.at.stream.ID(), Credit: early}})
			takeFrame(t, c, frameAccept, &wireAccept{Seed: fakeSeed, Generation: gen, Credit: early / 2})
			if c.s.out.credit != early {
				t.Errorf("generation %d: the credit is %d, and %d was given", gen, c.s.out.credit, early)
			}
			c.detachFake(transport.ErrLost)
			c.attachFake(func(s *state, a *attachment) {
				a.handshake = c.openFrame(s)
				s.take(a)
			})
		}
		// What was given on an earlier attachment does not: credit that was
		// yielded, for one, may have been lost on the way.
		takeFrame(t, c, frameAccept, &wireAccept{Seed: fakeSeed, Generation: 3, Credit: 1 << 20})
		if c.s.out.credit != 1<<20 {
			t.Errorf("the credit is %d, and %d was given", c.s.out.credit, 1<<20)
		}
		c.detachFake(transport.ErrLost)
	})
}

// What a reader takes between the open frame of a resumption and its answer has
// to become credit all the same.
func TestCreditThatIsDueBeforeTheAnswer(t *testing.T) {
	inLastingFake(t, func(t *testing.T, l *Link) {
		c := newLastingFake(t, l, false)
		payload := make([]byte, l.cfg.limits.Start/2-2*fragmentOverhead)
		for serial := uint64(1); serial <= 2; serial++ {
			if err := c.at.onFrame(frameData, body(&wireFragment{Serial: serial}, payload...)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		c.detachFake(transport.ErrLost)
		c.attachFake(func(s *state, a *attachment) {
			a.handshake = c.openFrame(s)
			s.take(a)
		})
		synctest.Wait() // the open frame is written, with the credit as it is now
		<-c.Reads
		<-c.Reads
		synctest.Wait()
		before := c.grantedFake()
		takeFrame(t, c, frameAccept, &wireAccept{Seed: fakeSeed, Generation: c.at.gen, Credit: 1 << 20})
		time.Sleep(time.Second)
		if c.grantedFake() == before {
			t.Errorf("the credit is %d and stays, though both fragments are read", before)
		}
		c.Close()
		c.detachFake(transport.ErrLost)
		c.lose(transport.ErrLost)
	})
}
