package circuit_test

import (
	"context"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/limit"
)

// A node whose circuits nobody reads has them wait at its bound. None is lost
// over that, what was sent is there when somebody reads, and the circuits of
// another node go on as if there was nothing.
func TestNodeAtItsBoundWaitsAlone(t *testing.T) {
	const perNode = 1 << 20
	inHouse(t, limit.Circuit{InboxPerNode: perNode}, func(t *testing.T, h *house) {
		greedy, other := h.guest(newKey(t), limit.Circuit{}), h.guest(newKey(t), limit.Circuit{})
		const circuits, fragments, size = 8, 20, 64 << 10 // ten times what there is
		var ends []*circuit.Circuit
		var posts []<-chan error
		for range circuits {
			a, b := h.open(greedy)
			ends = append(ends, b)
			posts = append(posts, post(t.Context(), a, fragments, size))
		}
		time.Sleep(10 * time.Second)
		if n := booked(h.ledger, limit.Inbox); n > perNode || n < perNode/2 {
			t.Errorf("%d are booked where the bound is %d and more is wanted", n, perNode)
		}
		a, b := h.open(other)
		start := time.Now()
		sent := post(t.Context(), a, 100, size)
		collect(t, b, 100)
		if d := time.Since(start); d > 2*time.Second || <-sent != nil {
			t.Errorf("beside a node at its bound 6 MiB take %v", d)
		}
		time.Sleep(time.Minute)
		for i, b := range ends {
			if b.Context.Err() != nil {
				t.Errorf("circuit %d has ended: %v", i, context.Cause(b.Context))
			}
		}
		for i, b := range ends { // one after the other: the memory of one is what the next waits for
			collect(t, b, fragments)
			if err := <-posts[i]; err != nil {
				t.Error(err)
			}
		}
	})
}

// If all memory is used up, by whomever, all wait, and go on when it is given
// back. What a circuit has for certain it has even then.
func TestAllWaitForTheMemoryOfAll(t *testing.T) {
	const all = 2 << 20
	inHouse(t, limit.Circuit{Inbox: all, InboxPerNode: all}, func(t *testing.T, h *house) {
		greedy, other := h.guest(newKey(t), limit.Circuit{}), h.guest(newKey(t), limit.Circuit{})
		a, b := h.open(other)
		small, smallB := h.open(other)
		const circuits, fragments, size = 16, 20, 64 << 10
		var ends []*circuit.Circuit
		var posts []<-chan error
		for range circuits {
			a, b := h.open(greedy)
			ends = append(ends, b)
			posts = append(posts, post(t.Context(), a, fragments, size))
		}
		time.Sleep(10 * time.Second)
		if n := booked(h.ledger, limit.Inbox); n > all {
			t.Errorf("%d are booked, over the bound of %d", n, all)
		}
		sent := post(t.Context(), small, 100, 4<<10)
		collect(t, smallB, 100)
		if err := <-sent; err != nil {
			t.Error(err)
		}
		sent = post(t.Context(), a, 4, 1<<20)
		time.Sleep(10 * time.Second)
		if n := b.Stats().FragmentsRcv; n != 0 {
			t.Errorf("%d fragments of 1 MiB came where there was no room for them", n)
		}
		for i, b := range ends {
			collect(t, b, fragments)
			if err := <-posts[i]; err != nil {
				t.Error(err)
			}
		}
		collect(t, b, 4)
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// Without memory for what is not acknowledged SendOneWay says so, and Send
// waits until another circuit has no use for its own any more. What a circuit
// has for certain it has even then.
func TestSendersWaitForTheMemoryOfOthers(t *testing.T) {
	const replay = 1 << 20
	narrow := limit.Circuit{Window: 16 << 10, MaxWindow: -1}
	inHouse(t, narrow, func(t *testing.T, h *house) {
		g := h.guest(newKey(t), limit.Circuit{Replay: replay})
		first, firstB := h.open(g)
		second, secondB := h.open(g)
		long := &circuit.Fragment{Payload: make([]byte, 64<<10)}
		sent := int64(0)
		for first.SendOneWay(long) == nil { // it is not read, so little of it is taken
			sent++
		}
		if err := second.SendOneWay(long); err != circuit.ErrBacklog {
			t.Errorf("64 KiB without memory: %v, want ErrBacklog", err)
		}
		if err := second.SendOneWay(frag(1, "short")); err != nil {
			t.Errorf("a few bytes: %v", err)
		}
		waiting := post(t.Context(), second, 1, 64<<10)
		time.Sleep(time.Minute)
		select {
		case err := <-waiting:
			t.Fatalf("Send is back while there is no memory: %v", err)
		default:
		}
		if n := booked(g.ledger, limit.Replay); n > replay || n < replay*3/4 {
			t.Errorf("%d are booked where the bound is %d", n, replay)
		}
		for range sent {
			<-firstB.Reads
		}
		start := time.Now()
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 8*time.Second {
			t.Errorf("everything is acknowledged, and Send has waited for %v more", d)
		}
		<-secondB.Reads
		if f := <-secondB.Reads; len(f.Payload) != 64<<10 {
			t.Errorf("got %d bytes", len(f.Payload))
		}
	})
}

// Who grows leaves room for those who begin, at both ends.
func TestCircuitsCanBeginWhileOthersHaveAllTheyCanGet(t *testing.T) {
	const start, bound = 16 << 10, 1 << 20
	bounds := limit.Circuit{Inbox: bound, InboxPerNode: bound, Replay: bound, ReplayPerNode: bound}
	inHouse(t, bounds, func(t *testing.T, h *house) {
		g := h.guest(newKey(t), bounds)
		ctx, stop := context.WithCancel(t.Context())
		var busy []*circuit.Circuit
		for range 8 {
			a, _ := h.open(g)
			busy = append(busy, a)
		}
		var posts []<-chan error
		for _, a := range busy {
			posts = append(posts, post(ctx, a, 1000, 60<<10))
		}
		time.Sleep(30 * time.Second)
		for range bound / 8 / start {
			a, b := h.open(g)
			sent := post(t.Context(), a, 10, 1<<10)
			collect(t, b, 10)
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
		for _, r := range []limit.Resource{limit.Inbox, limit.Replay} {
			if in, out := booked(h.ledger, r), booked(g.ledger, r); max(in, out) < bound*3/4 || max(in, out) > bound {
				t.Errorf("%d and %d %v are booked where the bound is %d", in, out, r, bound)
			}
		}
		stop()
		for _, p := range posts {
			<-p
		}
	})
}
