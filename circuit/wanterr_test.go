package circuit

import (
	"testing"
	"time"

	"ckt.local/transport/limit"
	"testing/synctest"
)

// The other side waits for credit that there is, less than a quarter of what is
// booked. It is told when all of Reads is read, also if a fragment on Errors
// stays unread.
func TestUnreadErrorsHoldNoCreditBack(t *testing.T) {
	cfg := Config{Ledger: Bounded(limit.Circuit{Window: 16 << 10, MaxWindow: -1})}
	inFake(t, cfg, func(t *testing.T, c *fakeCircuit) {
		b := body(&wireFragment{Serial: 1, Err: "something"})
		if err := c.at.onFrame(frameData, b); err != nil {
			t.Fatal(err)
		}
		at := uint64(frameCost(frameSize(len(b)), 0))
		time.Sleep(time.Second)
		synctest.Wait()
		c.link.carrier().appendControl(nil)
		before := c.grantedFake()
		next := at + 16000 // a fragment that does fit in a window
		if err := c.want(at, next, next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		c.mu.Lock()
		room := c.s.took + uint64(c.s.inBooked)
		c.mu.Unlock()
		if got := c.grantedFake(); got < next && room >= next {
			t.Errorf("granted %d (before: %d), and the other side waits for %d; booked up to %d", got, before, next, room)
		}
	})
}
