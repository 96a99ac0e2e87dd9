package circuit_test

import (
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/limit"
)

// Each circuit keeps the credit of its last fragment and waits for more for the
// next, longer one, and there is no more memory. Who waits gives up what is too
// little for it.
func TestCircuitsDoNotHoldAndWait(t *testing.T) {
	inHouse(t, limit.Circuit{InboxPerNode: 4 << 20}, func(t *testing.T, h *house) {
		g := h.guest(newKey(t), limit.Circuit{})
		const circuits = 12
		sizes := []int{100 << 10, 300 << 10, 400 << 10, 600 << 10, 800 << 10}
		type got struct{ i, n int }
		done := make(chan got, 1000)
		for i := range circuits {
			a, b := h.open(g)
			go func() {
				for _, size := range sizes {
					if a.Send(t.Context(), &circuit.Fragment{Payload: make([]byte, size)}) != nil {
						return
					}
				}
			}()
			go func() {
				n := 0
				for range b.Reads { // as fast as can be
					n++
					done <- got{i, n}
				}
			}()
		}
		all := 0
		for all < circuits*len(sizes) {
			select {
			case <-done:
				all++
			case <-time.After(10 * time.Minute):
				t.Fatalf("nothing comes for 10 min: %d of %d fragments have; booked %d of %d", all, circuits*len(sizes), booked(h.ledger, limit.Inbox), 4<<20)
			}
		}
	})
}
