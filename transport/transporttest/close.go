package transporttest

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ckt.local/transport"
)

// echo sends the first stream of c back.
func echo(t *testing.T, c transport.Conn) {
	s, err := c.AcceptStream(t.Context())
	if err != nil {
		return
	}
	io.Copy(s, s)
	s.Close()
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return string(b)
}

func testCloseConn(t *testing.T, mk Maker) {
	ca, cb := mk.pair(t, Spec{})
	sa, sb := openStream(t, ca, cb)
	long := strings.Repeat("r", transport.MaxReason) + "cut off"
	if err := ca.Close(300, long); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := cause(t, ca); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("cause at the closer: %v, want ErrClosed", err)
	}
	wantRemote(t, cause(t, cb), 300, long[:transport.MaxReason])

	// Everything on the Conn fails with the cause, at either side.
	buf := make([]byte, 1)
	for _, end := range []struct {
		c transport.Conn
		s transport.Stream
	}{{ca, sa}, {cb, sb}} {
		_, readErr := end.s.Read(buf)
		_, writeErr := end.s.Write(buf)
		_, openErr := end.c.OpenStream(patience(t))
		_, acceptErr := end.c.AcceptStream(patience(t))
		for _, err := range []error{readErr, writeErr, openErr, acceptErr} {
			if end.c == ca && !errors.Is(err, transport.ErrClosed) {
				t.Errorf("at the closer: %v, want ErrClosed", err)
			}
			if end.c == cb {
				wantRemote(t, err, 300, long[:transport.MaxReason])
			}
		}
		if err := end.c.Close(transport.CodeClosed, ""); err != nil {
			t.Errorf("Close of a Conn that has ended: %v", err)
		}
	}
	if err := cause(t, ca); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("the cause has changed to %v", err)
	}
}

func testCloseEndpoint(t *testing.T, mk Maker) {
	a, b := mk.make(t, Spec{}), mk.make(t, Spec{})
	ca, cb := join(t, a, b)
	other := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := a.Accept(t.Context())
		other <- err
	})
	for range 3 {
		wg.Go(func() {
			if err := a.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	wg.Wait()
	if err := <-other; !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Accept that was waiting: %v, want ErrClosed", err)
	}
	if err := cause(t, ca); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("cause at the closer: %v, want ErrClosed", err)
	}
	wantRemote(t, cause(t, cb), transport.CodeClosed, "")
	if _, err := a.Accept(patience(t)); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Accept: %v, want ErrClosed", err)
	}
	if _, err := a.Dial(patience(t), b.Addr().String(), b.Key()); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Dial: %v, want ErrClosed", err)
	}
}

func testCloseUnaccepted(t *testing.T, mk Maker) {
	// A Conn that nobody has accepted is closed with the endpoint like others.
	a, b := mk.make(t, Spec{}), mk.make(t, Spec{})
	ca := dial(t, a, b)
	s, err := ca.OpenStream(patience(t))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(s, firstByte)
	b.Close()
	wantRemote(t, cause(t, ca), transport.CodeClosed, "")
}

func testNoGoroutineLeft(t *testing.T, mk Maker) {
	before := runtime.NumGoroutine()
	t.Run("work", func(t *testing.T) {
		ca, cb := mk.pair(t, Spec{})
		for range 10 {
			openStream(t, ca, cb)
		}
		talk(t, ca, cb, "hello")
	}) // the endpoints are closed here
	deadline := time.Now().Add(Patience)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after Close:\n%s",
				before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched() // those that Close has joined are about to be counted out
	}
}
