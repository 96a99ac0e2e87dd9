package circuit

import (
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/limit"
)

// A want that is said while keep gives credit up goes out behind the yield. The
// receiver would take it for late otherwise, and then take the credit back.
func TestWantDoesNotOvertakeYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := newFakeConn()
		conn.full = true // no control loop but what follows
		l := NewLink(conn, nil, Config{Ledger: Bounded(limit.Circuit{Replay: 1 << 20})})
		if err := l.carrier().takeSettings(body(&wireSettings{Window: 16 << 10, MaxPayload: 1 << 20})); err != nil {
			t.Fatal(err)
		}
		c, err := newFakeCircuit(l, &fakeOwner{})
		if err != nil {
			t.Fatal(err)
		}
		c.acceptFake()
		long := &Fragment{Payload: make([]byte, 100<<10)}
		if _, err := c.at.onAck(wireAck{Credit: 200 << 10}); err != nil { // enough for long
			t.Fatal(err)
		}
		if err := c.SendOneWay(long); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := c.at.onAck(wireAck{Received: 1, Credit: 400 << 10}); err != nil {
			t.Fatal(err)
		}
		l.carrier().appendControl(nil)
		// Somebody else waits for the memory that keep gives back, and is woken by it.
		g := l.cfg.Ledger
		w := limit.NewWaiter(limit.Replay, l.node, func() {
			if err := c.SendOneWay(&Fragment{Payload: make([]byte, 200<<10)}); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		})
		g.Wait(w, 1)
		var order []transport.FrameType
		for range 2 * idleTicks {
			c.keep(time.Now(), time.Hour, nil)
		}
		synctest.Wait()
		b := l.carrier().appendControl(nil)
		for len(b) > 0 {
			typ, _, n, err := transport.ParseFrame(b, maxSmallFrame)
			if err != nil || n == 0 {
				t.Fatal(err)
			}
			if typ == frameWant || typ == frameYield {
				order = append(order, typ)
			}
			b = b[n:]
		}
		if len(order) != 2 || order[0] != frameYield {
			t.Errorf("said %#x, want the yield (0x15) first", order)
		}
		c.Close()
		c.at.readEnded(transport.ErrClosed)
		l.Shutdown(t.Context(), nil)
	})
}
