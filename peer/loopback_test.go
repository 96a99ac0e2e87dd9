package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

func testLoopback(t *testing.T) (a, b *loopConn) {
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	a, b = newLoopback(key.ID().Key(), &net.UDPAddr{Port: 1}, 7)
	t.Cleanup(func() { a.Close(transport.CodeClosed, "") })
	return a, b
}

func loopStreams(t *testing.T, a, b *loopConn) (x, y transport.Stream) {
	t.Helper()
	x, err := a.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if y, err = b.AcceptStream(t.Context()); err != nil {
		t.Fatal(err)
	}
	if x.ID() != y.ID() {
		t.Fatalf("stream %d is %d at the other end", x.ID(), y.ID())
	}
	return x, y
}

func TestLoopbackStreamsEndInEachDirection(t *testing.T) {
	a, b := testLoopback(t)
	for _, ends := range [][2]*loopConn{{a, b}, {b, a}, {a, b}} {
		x, y := loopStreams(t, ends[0], ends[1])
		want := bytes.Repeat([]byte("0123456789"), loopbackBuffer/4) // more than the buffer takes
		sent := make(chan error, 1)
		go func() {
			_, err := x.Write(want)
			sent <- errors.Join(err, x.Close())
		}()
		got, err := io.ReadAll(y)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		// The other direction goes on.
		if _, err := y.Write([]byte("back")); err != nil {
			t.Fatal(err)
		}
		y.Close()
		if got, err := io.ReadAll(x); err != nil || string(got) != "back" {
			t.Fatalf("%q, %v", got, err)
		}
		if _, err := x.Write([]byte("late")); !errors.Is(err, transport.ErrClosed) {
			t.Fatalf("writing after Close: %v", err)
		}
	}
	if n := len(a.streams) + len(b.streams); n != 0 {
		t.Fatalf("%d streams are remembered that have ended", n)
	}
}

func TestLoopbackReset(t *testing.T) {
	a, b := testLoopback(t)
	x, y := loopStreams(t, a, b)
	if _, err := x.Write([]byte("dropped")); err != nil {
		t.Fatal(err)
	}
	x.Reset(300)
	buf := make([]byte, 1)
	for _, call := range []func([]byte) (int, error){y.Read, y.Write} {
		if _, err := call(buf); !isRemote(err, 300) {
			t.Errorf("at the other end: %v", err)
		}
	}
	for _, call := range []func([]byte) (int, error){x.Read, x.Write} {
		if _, err := call(buf); !errors.Is(err, transport.ErrClosed) {
			t.Errorf("at this end: %v", err)
		}
	}
}

func isRemote(err error, code transport.Code) bool {
	e, ok := errors.AsType[*transport.RemoteError](err)
	return ok && e.Code == code
}

func TestLoopbackDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testLoopback(t)
		x, _ := loopStreams(t, a, b)
		start := time.Now()
		x.SetReadDeadline(start.Add(time.Second))
		if _, err := x.Read(make([]byte, 1)); err != os.ErrDeadlineExceeded {
			t.Errorf("read: %v", err)
		}
		x.SetWriteDeadline(start.Add(3 * time.Second))
		if n, err := x.Write(make([]byte, loopbackBuffer+1)); n != loopbackBuffer || err != os.ErrDeadlineExceeded {
			t.Errorf("write: %d, %v", n, err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("after %v, want 3 s", d)
		}
	})
}

func TestLoopbackClose(t *testing.T) {
	a, b := testLoopback(t)
	x, y := loopStreams(t, a, b)
	pending := make(chan error, 2)
	go func() { _, err := y.Read(make([]byte, 1)); pending <- err }()
	go func() { _, err := b.AcceptStream(context.Background()); pending <- err }()
	a.Close(301, "done")
	for range 2 {
		if err := <-pending; !isRemote(err, 301) {
			t.Errorf("a call at the other end: %v", err)
		}
	}
	if err := context.Cause(b.Context()); !isRemote(err, 301) {
		t.Errorf("cause at the other end: %v", err)
	}
	if _, err := x.Write([]byte("x")); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("writing at this end: %v", err)
	}
	if _, err := a.OpenStream(t.Context()); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("opening at this end: %v", err)
	}
}
