package circuit

import (
	"testing"
	"testing/synctest"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// want is the other side's word that it waits for credit.
func (f *fakeCircuit) want(at, next, upto uint64) error {
	return f.at.onWant(&wireWant{Stream: f.pipe.id, At: at, Next: next, Upto: upto})
}

// inboxOf is a node whose circuits may have so many bytes waiting to be read.
func inboxOf(most int64) Config {
	return Config{Ledger: Bounded(limit.Circuit{Inbox: most, Start: 16 << 10})}
}

// fills hands in fragments until the credit is used up but for what is less
// than another one.
func (f *fakeCircuit) fills(t *testing.T, size int) (cost uint64) {
	t.Helper()
	for serial := uint64(1); ; serial++ {
		b := body(&wireFragment{Serial: serial}, make([]byte, size)...)
		next := cost + uint64(frameCost(frameSize(len(b)), 0))
		if next > f.grantedFake() {
			return cost
		}
		if err := f.at.onFrame(frameData, b); err != nil {
			t.Fatal(err)
		}
		cost = next
	}
}

// granting is what the next acknowledgement would say.
func (f *fakeCircuit) granting(t *testing.T) uint64 {
	t.Helper()
	ack, ok := f.at.acknowledge()
	if !ok {
		t.Fatal("not attached")
	}
	return ack.Credit
}

// What is read makes room for the next fragment: a circuit that has asked for
// more than there was must not wait for others to give memory back.
func TestReadingMakesAWantSmaller(t *testing.T) {
	inFake(t, inboxOf(64<<10), func(t *testing.T, c *fakeCircuit) {
		at := c.fills(t, 3<<10)
		next := at + 50<<10 // with what is unread it is more than there is
		if err := c.want(at, next, next); err != nil {
			t.Fatal(err)
		}
		if got := c.granting(t); got >= next {
			t.Fatalf("a credit of %d, and there is no memory for it", got)
		}
		for c.Stats().Unread > 0 {
			<-c.Reads
			synctest.Wait()
		}
		if got := c.granting(t); got < next {
			t.Errorf("all is read, and the credit is %d for a fragment that takes it to %d", got, next)
		}
	})
}

// A fragment that is too long for what is left keeps no shorter one from being
// sent.
func TestLongFragmentDoesNotKeepShortOnesFromMemory(t *testing.T) {
	cfg := Config{Ledger: Bounded(limit.Circuit{Replay: 64 << 10, Start: 16 << 10})}
	inFake(t, cfg, func(t *testing.T, c *fakeCircuit) {
		if err := c.SendOneWay(&Fragment{Payload: make([]byte, 60<<10)}); err != ErrBacklog {
			t.Fatalf("60 KiB where there are 56: %v, want ErrBacklog", err)
		}
		if err := c.SendOneWay(&Fragment{Payload: make([]byte, 30<<10)}); err != nil {
			t.Errorf("30 KiB where there are 56: %v", err)
		}
	})
}

// What is acknowledged makes room likewise.
func TestAcknowledgementsMakeRoomForALongFragment(t *testing.T) {
	cfg := Config{Ledger: Bounded(limit.Circuit{Replay: 64 << 10, Start: 16 << 10})}
	inFake(t, cfg, func(t *testing.T, c *fakeCircuit) {
		if err := c.SendOneWay(&Fragment{Payload: make([]byte, 15<<10)}); err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() { sent <- c.Send(t.Context(), &Fragment{Payload: make([]byte, 50<<10)}) }()
		synctest.Wait()
		select {
		case err := <-sent:
			t.Fatalf("50 KiB are taken beside 15, and there are 56: %v", err)
		default:
		}
		if _, err := c.at.onAck(wireAck{Received: 1, Credit: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case err := <-sent:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("everything is acknowledged, and Send waits")
			c.Close()
			<-sent
		}
	})
}

// A want is told once, however often the circuit came to a halt and went on
// before it could be said.
func TestWantIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := newFakeConn()
		conn.full = true // so there is no control loop but what follows
		l := NewLink(conn, nil, Config{})
		if err := l.carrier().takeSettings(body(&wireSettings{Window: 1, MaxPayload: 1 << 20})); err != nil {
			t.Fatal(err)
		}
		c, err := newFakeCircuit(l, &fakeOwner{})
		if err != nil {
			t.Fatal(err)
		}
		c.acceptFake()
		f := &Fragment{Payload: make([]byte, 100<<10)}
		for n := range uint64(3) {
			if err := c.SendOneWay(f); err != nil {
				t.Fatal(err)
			}
			if n < 2 {
				if _, err := c.at.onAck(wireAck{Credit: uint64(costOf(&wireFragment{}, len(f.Payload))) * (n + 1)}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		if said := wantsIn(t, l.carrier().appendControl(nil)); len(said) != 1 {
			t.Errorf("told %+v, want to be told once", said)
		}
		c.Close()
		c.at.readEnded(transport.ErrClosed)
		l.Shutdown(t.Context(), nil)
	})
}

// wantsIn returns the wants among control frames.
func wantsIn(t *testing.T, b []byte) (said []wireWant) {
	t.Helper()
	for len(b) > 0 {
		typ, frame, n, err := transport.ParseFrame(b, maxSmallFrame)
		if err != nil || n == 0 {
			t.Fatalf("what was written is no frame: %v", err)
		}
		if typ == frameWant {
			var w wireWant
			if err := parse(frame, &w); err != nil {
				t.Fatal(err)
			}
			said = append(said, w)
		}
		b = b[n:]
	}
	return said
}

// Circuits that wait for more memory than there is do not keep others waiting
// when some is given back.
func TestVainWaitersDoNotKeepOthersWaiting(t *testing.T) {
	inFake(t, inboxOf(1<<20), func(t *testing.T, c *fakeCircuit) {
		g, hog := c.link.cfg.Ledger, identity.NodeID{7}
		var vain []*fakeCircuit
		for range 40 {
			v, err := newFakeCircuit(c.link, &fakeOwner{})
			if err != nil {
				t.Fatal(err)
			}
			v.acceptFake()
			vain = append(vain, v)
		}
		had := g.Take(limit.Inbox, hog, 1, 1)
		for n := had; n > 0; had += n { // all that there is
			n = g.Take(limit.Inbox, hog, 1, 1<<20)
		}
		for _, v := range vain {
			if err := v.want(0, 900<<10, 900<<10); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.want(0, 30<<10, 30<<10); err != nil {
			t.Fatal(err)
		}
		g.Release(limit.Inbox, hog, had)
		synctest.Wait()
		if got := c.granting(t); got < 30<<10 {
			t.Errorf("all is given back, and the credit is %d", got)
		}
		for _, v := range vain {
			v.Close()
			v.endFake(transport.ErrClosed)
		}
	})
}
