// Package transporttest holds the suite that every [transport.Endpoint]
// passes. A wire's own tests call [Run] with a function that makes endpoints;
// what is particular to the wire, such as broken bytes, they test themselves.
package transporttest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"ckt.local/transport"
)

// Patience is how long a test of the suite waits for what has to happen.
const Patience = 30 * time.Second

// A Spec says what endpoint a test needs.
type Spec struct {
	// Key is the node's key. nil: a fresh one.
	Key ed25519.PrivateKey

	// Authorize as the wire's configuration has it. nil: everybody may connect.
	Authorize func(key ed25519.PublicKey, addr net.Addr) error

	// MaxStreams is how many streams of one Conn the other side may have open
	// at a time. 0: the wire's default, which is at least 2,000.
	MaxStreams int64

	// HandshakeTimeout is when a dial that nobody answers is given up.
	// 0: the wire's default.
	HandshakeTimeout time.Duration
}

// A Maker makes an endpoint that the other endpoints of the test can dial at
// its Addr. Each call makes a node of its own, also with a Key that another
// one has. The suite closes it.
type Maker func(t *testing.T, s Spec) transport.Endpoint

// Run runs the suite as subtests of t.
func Run(t *testing.T, mk Maker) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, mk Maker)
	}{
		{"OpenAndAccept", testOpenAndAccept},
		{"PinnedKey", testPinnedKey},
		{"WrongPin", testWrongPin},
		{"DialUnauthorized", testDialUnauthorized},
		{"RefusedKey", testRefusedKey},
		{"Nobody", testNobody},
		{"DialGivenUp", testDialGivenUp},
		{"Itself", testItself},
		{"SlowStranger", testSlowStranger},
		{"DialTwice", testDialTwice},
		{"DialBack", testDialBack},
		{"DialManyAtOnce", testDialManyAtOnce},
		{"DialFromMany", testDialFromMany},
		{"SameKey", testSameKey},
		{"EmptyAddr", testEmptyAddr},
		{"BothDial", testBothDial},
		{"DialAndClose", testDialAndClose},
		{"CloseConn", testCloseConn},
		{"CloseEndpoint", testCloseEndpoint},
		{"CloseUnaccepted", testCloseUnaccepted},
		{"NoGoroutineLeft", testNoGoroutineLeft},
		{"Stream", testStream},
		{"StreamTryWrite", testStreamTryWrite},
		{"StreamReset", testStreamReset},
		{"StreamDeadline", testStreamDeadline},
		{"StreamIndependence", testStreamIndependence},
		{"StreamLimit", testStreamLimit},
		{"ManyStreams", testManyStreams},
		{"NetConn", testNetConn},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, mk) })
	}
}

func (mk Maker) make(t *testing.T, s Spec) transport.Endpoint {
	t.Helper()
	e := mk(t, s)
	t.Cleanup(func() { e.Close() })
	return e
}

// pair makes two endpoints and the Conn between them.
func (mk Maker) pair(t *testing.T, s Spec) (dialer, acceptor transport.Conn) {
	t.Helper()
	a, b := mk.make(t, s), mk.make(t, s)
	return join(t, a, b)
}

// join opens a Conn from a to b, and returns both its ends.
func join(t *testing.T, a, b transport.Endpoint) (dialer, acceptor transport.Conn) {
	t.Helper()
	dialer = dial(t, a, b)
	acceptor, err := b.Accept(patience(t))
	if err != nil {
		t.Fatalf("Accept: %v", err)
	}
	return dialer, acceptor
}

func dial(t *testing.T, a, b transport.Endpoint) transport.Conn {
	t.Helper()
	c, err := a.Dial(patience(t), b.Addr().String(), b.Key())
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	return c
}

func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// newKey makes a key.
func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// cause waits for the end of c and returns its cause.
func cause(t *testing.T, c transport.Conn) error {
	t.Helper()
	select {
	case <-c.Context().Done():
		return context.Cause(c.Context())
	case <-patience(t).Done():
		t.Fatal("the Conn has not ended")
		return nil
	}
}

// wantRemote fails unless err is what the other side said.
func wantRemote(t *testing.T, err error, code transport.Code, reason string) {
	t.Helper()
	r, ok := errors.AsType[*transport.RemoteError](err)
	if !ok {
		t.Fatalf("got %v, want a RemoteError with code %v", err, code)
	}
	if r.Code != code || r.Reason != reason {
		t.Fatalf("got %v, want code %v and reason %q", r, code, reason)
	}
	for _, ours := range []error{transport.ErrClosed, transport.ErrLost, transport.ErrUnreachable} {
		if errors.Is(err, ours) {
			t.Fatalf("%v is a word of the other side, and matches our %v", err, ours)
		}
	}
}

// talk sends a message from a to b on a new stream, and it back.
func talk(t *testing.T, a, b transport.Conn, message string) {
	t.Helper()
	sa, sb := openStream(t, a, b)
	for _, way := range [][2]transport.Stream{{sa, sb}, {sb, sa}} {
		if _, err := io.WriteString(way[0], message); err != nil {
			t.Fatalf("Write: %v", err)
		}
		if err := way[0].Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		got, err := io.ReadAll(way[1])
		if err != nil || string(got) != message {
			t.Fatalf("read %q, %v; want %q", got, err, message)
		}
	}
}

// firstByte makes a new stream known to the other side.
const firstByte = "*"

// openStream opens a stream from a to b, and returns both its ends.
func openStream(t *testing.T, a, b transport.Conn) (sa, sb transport.Stream) {
	t.Helper()
	sa, sb, err := tryOpenStream(patience(t), a, b)
	if err != nil {
		t.Fatal(err)
	}
	return sa, sb
}

func tryOpenStream(ctx context.Context, a, b transport.Conn) (sa, sb transport.Stream, err error) {
	if sa, err = a.OpenStream(ctx); err != nil {
		return nil, nil, fmt.Errorf("OpenStream: %w", err)
	}
	if _, err = io.WriteString(sa, firstByte); err != nil {
		return nil, nil, fmt.Errorf("Write: %w", err)
	}
	if sb, err = b.AcceptStream(ctx); err != nil {
		return nil, nil, fmt.Errorf("AcceptStream: %w", err)
	}
	got := make([]byte, 1)
	if _, err = io.ReadFull(sb, got); err != nil || string(got) != firstByte {
		return nil, nil, fmt.Errorf("first byte: %x, %w", got, err)
	}
	if sa.ID() != sb.ID() {
		return nil, nil, fmt.Errorf("stream %d is stream %d at the other side", sa.ID(), sb.ID())
	}
	return sa, sb, nil
}
