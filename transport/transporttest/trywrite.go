package transporttest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"ckt.local/transport"
)

// testStreamTryWrite writes in both ways in turns, and takes what was written
// from under the stream at once: it is to have a copy.
func testStreamTryWrite(t *testing.T, mk Maker) {
	ca, cb := mk.pair(t, Spec{})
	sa, sb := openStream(t, ca, cb)
	var want []byte
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := range 2000 {
			p := make([]byte, 1+n%700)
			for i := range p {
				p[i] = byte(n + i)
			}
			want = append(want, p...)
			ok, err := false, error(nil)
			if n%3 > 0 {
				ok, err = sa.TryWrite(p)
			}
			if !ok && err == nil {
				_, err = sa.Write(p)
			}
			if err != nil {
				t.Errorf("write %d: %v", n, err)
				break
			}
			clear(p)
		}
		sa.Close()
	})
	got := readAll(t, sb)
	wg.Wait()
	if !slices.Equal([]byte(got), want) {
		t.Errorf("%d bytes came that are not the %d written", len(got), len(want))
	}
	if _, err := sa.TryWrite([]byte("x")); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("TryWrite after Close: %v, want ErrClosed", err)
	}
	// Nobody reads: it has no room at some point, and that is no end.
	sa, sb = openStream(t, ca, cb)
	room := 0
	for ok := true; ok; room++ {
		var err error
		if ok, err = sa.TryWrite(make([]byte, 1000)); err != nil || room > 1<<20 {
			t.Fatalf("TryWrite number %d of 1,000 bytes that nobody reads: %v", room, err)
		}
	}
	wg.Go(func() {
		sa.SetWriteDeadline(time.Now().Add(Patience))
		if _, err := sa.Write([]byte("end")); err != nil {
			t.Errorf("Write when there is no room: %v", err)
		}
		sa.Close()
	})
	if got := readAll(t, sb); len(got) != (room-1)*1000+3 {
		t.Errorf("%d bytes came of %d that were taken", len(got), (room-1)*1000+3)
	}
	wg.Wait()
	sa, sb = openStream(t, ca, cb)
	sb.Reset(777)
	select {
	case <-sa.Context().Done():
	case <-time.After(Patience):
		t.Error("the stream's Context has not ended with the other side's Reset")
	}
	_, err := sa.TryWrite([]byte("x"))
	wantRemote(t, err, 777, "")
}
