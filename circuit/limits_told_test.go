package circuit_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/limit"
)

// wantLimit wants an error about a limit of the other side, or of this one.
func wantLimit(t *testing.T, err error, what string, bound int64) *transport.LimitError {
	t.Helper()
	le, ok := errors.AsType[*transport.LimitError](err)
	if !ok || !strings.HasPrefix(le.What, what) || le.Limit != bound {
		t.Errorf("got %v (%+v), want the limit of %d %s", err, le, bound, what)
		return &transport.LimitError{}
	}
	return le
}

// How many circuits a node may have open counts over all its processes, and
// how many there may be over all nodes. Whoever is refused learns which limit
// it is, how high, and whose.
func TestCircuitsOfANodeAreCountedAcrossItsLinks(t *testing.T) {
	const perNode, all = 10, 15
	inHouse(t, limit.Circuit{CircuitsPerNode: perNode, Circuits: all}, func(t *testing.T, h *house) {
		key := newKey(t)
		first, second := h.guest(key, limit.Circuit{}), h.guest(key, limit.Circuit{})
		other := h.guest(newKey(t), limit.Circuit{})
		open := func(g *guest, n int) (last *circuit.Circuit) {
			for range n {
				last, _ = h.open(g)
			}
			return last
		}
		refused := func(g *guest, what string, bound int64) {
			t.Helper()
			_, err := g.link.Open(t.Context(), g.params(nil))
			if le := wantLimit(t, err, what, bound); le.What != what || !le.Remote || le.Size != 0 {
				t.Errorf("refused with %+v, want the other side's", le)
			}
			if re, ok := errors.AsType[*circuit.RefusedError](err); !ok || re.Code != circuit.RefusedLimit {
				t.Errorf("got %v, want it refused for a limit", err)
			}
		}
		c := open(first, 6)
		open(second, 4)
		refused(first, "circuits of one node", perNode)
		refused(second, "circuits of one node", perNode)
		open(other, 5)
		refused(other, "circuits", all)
		c.Close()
		<-c.Context.Done()
		time.Sleep(time.Second)
		open(second, 1) // a place of the first link's
		refused(first, "circuits of one node", perNode)
	})
}

// Bursts of openings are slowed down to what is allowed, and only what would
// have to wait for more than a second is refused.
func TestBurstsOfOpeningsAreSlowedBeforeTheyAreRefused(t *testing.T) {
	const rate = 50
	inHouse(t, limit.Circuit{OpensPerSecond: rate}, func(t *testing.T, h *house) {
		key := newKey(t)
		guests := []*guest{h.guest(key, limit.Circuit{}), h.guest(key, limit.Circuit{})}
		go func() {
			for range h.news {
			}
		}()
		burst := func(n int) (open, refused int, last time.Duration) {
			var mu sync.Mutex
			var wg sync.WaitGroup
			start := time.Now()
			for i := range n {
				g := guests[i%2]
				wg.Go(func() {
					_, err := g.link.Open(context.Background(), g.params(nil))
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						open, last = open+1, max(last, time.Since(start))
						return
					}
					refused++
					if le := wantLimit(t, err, "openings per second", rate); !le.Remote {
						t.Errorf("%+v is not told as the other side's", le)
					}
				})
			}
			wg.Wait()
			return open, refused, last
		}
		if open, refused, last := burst(rate); open != rate || refused != 0 || last > 100*time.Millisecond {
			t.Errorf("a second's worth at once: %d open, %d refused, the last after %v", open, refused, last)
		}
		time.Sleep(time.Second)
		if open, refused, last := burst(2 * rate); open != 2*rate || refused != 0 || last < 900*time.Millisecond || last > 1100*time.Millisecond {
			t.Errorf("two seconds' worth at once: %d open, %d refused, the last after %v", open, refused, last)
		}
		time.Sleep(3 * time.Second)
		if open, refused, last := burst(4 * rate); open < 2*rate || open > 2*rate+2 || open+refused != 4*rate || last > 1200*time.Millisecond {
			t.Errorf("four seconds' worth at once: %d open, %d refused, the last after %v", open, refused, last)
		}
		time.Sleep(3 * time.Second)
		other := h.guest(newKey(t), limit.Circuit{})
		if _, err := other.link.Open(t.Context(), other.params(nil)); err != nil {
			t.Error(err)
		}
	})
}

// Of the bounds on a fragment the smaller ones of both sides hold, and the
// sender is told whose it is.
func TestFragmentLimitsSayWhoseTheyAre(t *testing.T) {
	small := limit.Circuit{Payload: 1000, Args: 3, ArgBytes: 100, Text: 50}
	for _, tc := range []struct {
		what  string
		f     *circuit.Fragment
		size  int64
		limit int64
	}{
		{"payload", &circuit.Fragment{Payload: make([]byte, 1001)}, 1001, 1000},
		{"args", &circuit.Fragment{Args: manyArgs(4, 1)}, 4, 3},
		{"args in bytes", &circuit.Fragment{Args: manyArgs(3, 33)}, 105, 100},
		{"err", &circuit.Fragment{Err: strings.Repeat("e", 51)}, 51, 50},
		{"subject", &circuit.Fragment{FragSubject: strings.Repeat("s", 51)}, 51, 50},
	} {
		for _, remote := range []bool{false, true} {
			name, theirs, ours := tc.what+" of this side", limit.Circuit{}, small
			if remote {
				name, theirs, ours = tc.what+" of the other side", small, limit.Circuit{}
			}
			t.Run(name, func(t *testing.T) {
				inHouse(t, theirs, func(t *testing.T, h *house) {
					g := h.guest(newKey(t), ours)
					a, b := h.open(g)
					want := transport.LimitError{What: tc.what, Size: tc.size, Limit: tc.limit, Remote: remote}
					for _, err := range []error{a.SendOneWay(tc.f), a.Send(t.Context(), tc.f), openWith(g, tc.f)} {
						if le, ok := errors.AsType[*transport.LimitError](err); !ok || *le != want {
							t.Errorf("got %v, want %v", err, &want)
						}
					}
					if err := a.SendOneWay(frag(1, "goes on")); err != nil || (<-b.Reads).Serial != 1 {
						t.Errorf("after it: %v", err)
					}
				})
			})
		}
	}
}

func openWith(g *guest, first *circuit.Fragment) error {
	_, err := g.link.Open(context.Background(), g.params(first))
	return err
}

// Where there is no memory for one more circuit it is refused for that.
func TestNoMemoryForAnotherCircuitIsTold(t *testing.T) {
	const room = 4
	inHouse(t, limit.Circuit{InboxPerNode: room * 16 << 10}, func(t *testing.T, h *house) {
		g := h.guest(newKey(t), limit.Circuit{})
		var last *circuit.Circuit
		for range room {
			last, _ = h.open(g)
		}
		err := openWith(g, nil)
		if le := wantLimit(t, err, "inbox bytes of one node", room*16<<10); !le.Remote {
			t.Errorf("%v is not told as the other side's", err)
		}
		last.Close()
		time.Sleep(time.Second)
		h.open(g)
		h.open(h.guest(newKey(t), limit.Circuit{})) // others have their own
	})
}
