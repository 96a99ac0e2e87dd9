package limit

import "testing"

// A waiter comes while others are being woken, and needs least. It does not hide
// the others of its node from that Release.
func TestLateWaiterHidesNobody(t *testing.T) {
	g := NewLedger(Limits{Circuit: Circuit{Inbox: 8000, InboxPerNode: 8000}})
	id := node(1)
	had := g.Take(Inbox, id, 7000, 7000) // all there is
	if had != 7000 {
		t.Fatal(had)
	}
	// c is a circuit in book: it has not found memory, waits, and tries once more.
	c := NewWaiter(Inbox, id, func() {})
	a := NewWaiter(Inbox, id, func() {
		g.Wait(c, 1)
	})
	woken := false
	b := NewWaiter(Inbox, id, func() { woken = true })
	g.Wait(a, 2)
	g.Wait(b, 1000)
	g.Release(Inbox, id, had)
	if n := g.Take(Inbox, id, 1, 1); n != 1 { // the second try of c
		t.Fatal(n)
	}
	g.Leave(c)
	if !woken {
		t.Error("who needs 1000 is not woken by a Release after which there are 6999, and there may be no other")
	}
}
