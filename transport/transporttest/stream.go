package transporttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"ckt.local/transport"
)

func testStream(t *testing.T, mk Maker) {
	ca, cb := mk.pair(t, Spec{})
	sa, sb := openStream(t, ca, cb)
	sa.Prioritize(transport.Urgent)
	sa.Prioritize(transport.Bulk)
	// Close ends one direction, after what was written before.
	want := bytes.Repeat([]byte("0123456789"), 30_000)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := sa.Write(want); err != nil {
			t.Errorf("Write: %v", err)
		}
		if err := errors.Join(sa.Close(), sa.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if got := readAll(t, sb); got != string(want) {
		t.Errorf("read %d bytes, want %d", len(got), len(want))
	}
	wg.Wait()
	if _, err := sb.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read after the end: %v, want io.EOF", err)
	}
	if _, err := sa.Write(want); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Write after Close: %v, want ErrClosed", err)
	}
	io.WriteString(sb, "the other direction is open")
	if sa.Context().Err() == nil || sb.Context().Err() != nil {
		t.Errorf("the Context of a stream: %v after Close, %v before", sa.Context().Err(), sb.Context().Err())
	}
	sb.Close()
	if got := readAll(t, sa); got != "the other direction is open" {
		t.Errorf("read %q", got)
	}
}

func testStreamReset(t *testing.T, mk Maker) {
	ca, cb := mk.pair(t, Spec{})
	sa, sb := openStream(t, ca, cb)
	pending := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := sa.Read(make([]byte, 1))
		pending <- err
	})
	sa.Reset(777)
	sa.Reset(778)
	wg.Wait()
	if err := <-pending; !errors.Is(err, transport.ErrClosed) {
		t.Errorf("pending Read at the side that resets: %v, want ErrClosed", err)
	}
	if _, err := sa.Write([]byte("x")); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Write at the side that resets: %v, want ErrClosed", err)
	}
	_, err := io.ReadAll(sb)
	wantRemote(t, err, 777, "")
	wantRemote(t, writeUntilError(t, sb), 777, "")
	for side, s := range map[string]transport.Stream{"that resets": sa, "that was reset": sb} {
		select {
		case <-s.Context().Done():
		case <-time.After(Patience):
			t.Errorf("the Context of the side %s has not ended", side)
		}
	}
	if err := sb.Close(); err == nil {
		t.Error("Close of a stream that was reset has worked")
	}
	talk(t, ca, cb, "the Conn lives on")
}

// writeUntilError writes until s notices that nobody reads.
func writeUntilError(t *testing.T, s transport.Stream) error {
	t.Helper()
	s.SetWriteDeadline(time.Now().Add(Patience))
	for {
		if _, err := s.Write(make([]byte, 1000)); err != nil {
			return err
		}
	}
}

func testStreamDeadline(t *testing.T, mk Maker) {
	ca, cb := mk.pair(t, Spec{})
	sa, sb := openStream(t, ca, cb)
	sa.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := sa.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read: %v, want os.ErrDeadlineExceeded", err)
	}
	sa.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	var err error
	for err == nil { // nobody reads: the window fills
		_, err = sa.Write(make([]byte, 1<<20))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write: %v, want os.ErrDeadlineExceeded", err)
	}
	// A deadline that has passed is no end: both directions go on.
	sa.SetReadDeadline(time.Time{})
	sa.SetWriteDeadline(time.Time{})
	io.WriteString(sb, "ok")
	if _, err := io.ReadFull(sa, make([]byte, 2)); err != nil {
		t.Errorf("Read after the deadline was lifted: %v", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(io.Discard, sb) })
	if _, err := sa.Write([]byte("ok")); err != nil {
		t.Errorf("Write after the deadline was lifted: %v", err)
	}
	sa.Close()
	wg.Wait()
}

func testStreamIndependence(t *testing.T, mk Maker) {
	ca, cb := mk.pair(t, Spec{})
	// Two streams that nobody reads, full to the brim.
	for range 2 {
		sa, _ := openStream(t, ca, cb)
		sa.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		for err := error(nil); err == nil; {
			_, err = sa.Write(make([]byte, 1<<20))
		}
	}
	// The others have the path to themselves.
	for range 20 {
		talk(t, ca, cb, string(bytes.Repeat([]byte("x"), 200_000)))
	}
}

func testStreamLimit(t *testing.T, mk Maker) {
	const limit = 4
	ca, cb := mk.pair(t, Spec{MaxStreams: limit})
	var last, lastB transport.Stream
	for range limit {
		last, lastB = openStream(t, ca, cb)
	}
	brief, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := ca.OpenStream(brief); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("OpenStream at the limit: %v, want context.DeadlineExceeded", err)
	}
	ctx, cancelNow := context.WithCancel(t.Context())
	cancelNow()
	if _, err := ca.OpenStream(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("OpenStream at the limit: %v, want context.Canceled", err)
	}
	// A stream that has ended at both sides makes room.
	last.Close()
	readAll(t, lastB)
	lastB.Close()
	readAll(t, last)
	if _, err := ca.OpenStream(patience(t)); err != nil {
		t.Errorf("OpenStream below the limit: %v", err)
	}
	// The end of the Conn releases whoever waits.
	waiting := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := ca.OpenStream(t.Context())
		waiting <- err
	})
	ca.Close(transport.CodeClosed, "")
	wg.Wait()
	if err := <-waiting; !errors.Is(err, transport.ErrClosed) {
		t.Errorf("OpenStream while the Conn was closed: %v, want ErrClosed", err)
	}
}

func testManyStreams(t *testing.T, mk Maker) {
	const streams = 1000
	ca, cb := mk.pair(t, Spec{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for range streams {
			s, err := cb.AcceptStream(patience(t))
			if err != nil {
				t.Errorf("AcceptStream: %v", err)
				return
			}
			wg.Go(func() {
				io.Copy(s, s)
				s.Close()
			})
		}
	})
	// All are open before the first one is closed.
	open := make([]transport.Stream, 0, streams)
	for range streams {
		s, err := ca.OpenStream(patience(t))
		if err != nil {
			t.Fatalf("OpenStream: %v", err)
		}
		io.WriteString(s, "hello")
		open = append(open, s)
	}
	ids := make(map[uint64]bool)
	for _, s := range open {
		ids[s.ID()] = true
		s.Close()
		if got := readAll(t, s); got != "hello" {
			t.Fatalf("read %q", got)
		}
	}
	wg.Wait()
	if len(ids) != streams {
		t.Errorf("%d streams have %d numbers", streams, len(ids))
	}
}
