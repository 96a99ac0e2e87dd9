package transporttest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"ckt.local/transport"
)

func testOpenAndAccept(t *testing.T, mk Maker) {
	a, b := mk.make(t, Spec{}), mk.make(t, Spec{})
	before := time.Now()
	ca, cb := join(t, a, b)
	ia, ib := ca.Info(), cb.Info()
	if !ia.RemoteKey.Equal(b.Key()) || !ib.RemoteKey.Equal(a.Key()) {
		t.Errorf("remote keys %x and %x, want %x and %x", ia.RemoteKey, ib.RemoteKey, b.Key(), a.Key())
	}
	if !ia.Dialed || ib.Dialed {
		t.Errorf("Dialed is %v at the dialler and %v at the acceptor", ia.Dialed, ib.Dialed)
	}
	if ia.BootNonce == ib.BootNonce {
		t.Errorf("both sides have boot nonce %d", ia.BootNonce)
	}
	if ia.RemoteAddr.String() != b.Addr().String() || ib.RemoteAddr.String() != a.Addr().String() {
		t.Errorf("remote addresses %v and %v, want %v and %v", ia.RemoteAddr, ib.RemoteAddr, b.Addr(), a.Addr())
	}
	if ia.Opened.Before(before) || ib.Opened.Before(before) || ia.LocalAddr == nil || ib.LocalAddr == nil {
		t.Errorf("Info is not filled in: %+v, %+v", ia, ib)
	}
	// Who dialled makes no difference to what a Conn can do.
	talk(t, ca, cb, "from the dialler")
	talk(t, cb, ca, "from the acceptor")
	if err := ca.Context().Err(); err != nil {
		t.Errorf("the Context of an open Conn has ended: %v", err)
	}
}

func testPinnedKey(t *testing.T, mk Maker) {
	// A pin is a decision of its own: the dialler's authorisation is not asked.
	never := func(ed25519.PublicKey, net.Addr) error { return errors.New("asked") }
	a, b := mk.make(t, Spec{Authorize: never}), mk.make(t, Spec{})
	ca, cb := join(t, a, b)
	talk(t, ca, cb, "hello")
}

func testWrongPin(t *testing.T, mk Maker) {
	a, b := mk.make(t, Spec{}), mk.make(t, Spec{})
	want := newKey(t).Public().(ed25519.PublicKey)
	_, err := a.Dial(patience(t), b.Addr().String(), want)
	wrong, ok := errors.AsType[*transport.WrongKeyError](err)
	if !ok {
		t.Fatalf("Dial with a wrong pin: %v, want a WrongKeyError", err)
	}
	if !wrong.Want.Equal(want) || !wrong.Got.Equal(b.Key()) || wrong.Addr != b.Addr().String() {
		t.Errorf("the error says %+v", wrong)
	}
	ca, cb := join(t, a, b) // The refusal has cost nothing: the right pin works.
	talk(t, ca, cb, "hello")
	if _, err := a.Dial(patience(t), b.Addr().String(), want); err == nil {
		t.Error("Dial with a wrong pin returned the Conn that is open to the address")
	}
}

func testDialUnauthorized(t *testing.T, mk Maker) {
	no := errors.New("not on the list")
	a := mk.make(t, Spec{Authorize: func(ed25519.PublicKey, net.Addr) error { return no }})
	b := mk.make(t, Spec{})
	check := func(when string) {
		t.Helper()
		_, err := a.Dial(patience(t), b.Addr().String(), nil)
		u, ok := errors.AsType[*transport.UnauthorizedError](err)
		if !ok || !errors.Is(err, no) || !u.Key.Equal(b.Key()) {
			t.Errorf("Dial without a key %s: %v, want an UnauthorizedError", when, err)
		}
	}
	check("without a Conn")
	join(t, a, b)
	check("with a Conn that was opened with a pin")
}

func testRefusedKey(t *testing.T, mk Maker) {
	friend := newKey(t)
	only := func(key ed25519.PublicKey, _ net.Addr) error {
		if !key.Equal(friend.Public()) {
			return errors.New("secret detail")
		}
		return nil
	}
	b := mk.make(t, Spec{Authorize: only})
	stranger, a := mk.make(t, Spec{}), mk.make(t, Spec{Key: friend})
	for range 3 {
		_, err := stranger.Dial(patience(t), b.Addr().String(), b.Key())
		wantRemote(t, err, transport.CodeRefused, "this key is not authorised")
	}
	// What Accept returns is the friend: the stranger never got that far.
	_, cb := join(t, a, b)
	if !cb.Info().RemoteKey.Equal(a.Key()) {
		t.Errorf("Accept returned a Conn of key %x", cb.Info().RemoteKey)
	}
}

func testNobody(t *testing.T, mk Maker) {
	a, b := mk.make(t, Spec{HandshakeTimeout: 200 * time.Millisecond}), mk.make(t, Spec{})
	b.Close()
	if _, err := a.Dial(patience(t), b.Addr().String(), b.Key()); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("Dial to nobody: %v, want ErrUnreachable", err)
	}
	if _, err := a.Dial(patience(t), "there is no such address", nil); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("Dial to nonsense: %v, want ErrUnreachable", err)
	}
}

func testDialGivenUp(t *testing.T, mk Maker) {
	a, b := mk.make(t, Spec{}), mk.make(t, Spec{})
	b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := a.Dial(ctx, b.Addr().String(), b.Key())
	if !errors.Is(err, transport.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial: %v, want ErrUnreachable because of the deadline", err)
	}
}

func testItself(t *testing.T, mk Maker) {
	a := mk.make(t, Spec{})
	for _, pin := range []ed25519.PublicKey{a.Key(), nil} {
		if _, err := a.Dial(patience(t), a.Addr().String(), pin); !errors.Is(err, transport.ErrSelf) {
			t.Errorf("Dial to itself with pin %x: %v, want ErrSelf", pin, err)
		}
	}
}

func testSlowStranger(t *testing.T, mk Maker) {
	slow := newKey(t)
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b := mk.make(t, Spec{Authorize: func(key ed25519.PublicKey, _ net.Addr) error {
		if key.Equal(slow.Public()) {
			once.Do(func() { close(asked) })
			<-release
		}
		return nil
	}})
	stranger, a := mk.make(t, Spec{Key: slow}), mk.make(t, Spec{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { stranger.Dial(ctx, b.Addr().String(), nil) })
	<-asked
	// The stranger's hello hangs for ever; nobody else notices.
	ca, cb := join(t, a, b)
	talk(t, ca, cb, "hello")
	cancel()
	close(release)
	wg.Wait()
}

func testDialTwice(t *testing.T, mk Maker) {
	a, b := mk.make(t, Spec{}), mk.make(t, Spec{})
	c1, _ := join(t, a, b)
	for _, pin := range []ed25519.PublicKey{b.Key(), nil} {
		if c2, err := a.Dial(patience(t), b.Addr().String(), pin); err != nil || c2 != c1 {
			t.Errorf("the second Dial returned %v, %v; want the open Conn", c2, err)
		}
	}
	none(t, b)
}

// none checks that b has nothing more to accept.
func none(t *testing.T, b transport.Endpoint) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if c, err := b.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Accept returned a Conn too many: %v, %v", c, err)
	}
}

func testDialBack(t *testing.T, mk Maker) {
	// The same node is reached over the Conn that exists, whoever dialled it.
	a, b := mk.make(t, Spec{}), mk.make(t, Spec{})
	_, cb := join(t, a, b)
	if c := dial(t, b, a); c != cb {
		t.Errorf("dialling back returned another Conn")
	}
	none(t, a)
}

func testDialManyAtOnce(t *testing.T, mk Maker) {
	a, b := mk.make(t, Spec{}), mk.make(t, Spec{})
	const callers = 20
	conns := make([]transport.Conn, callers)
	var wg sync.WaitGroup
	for i := range conns {
		pin := b.Key()
		if i%2 == 1 {
			pin = nil
		}
		wg.Go(func() {
			c, err := a.Dial(patience(t), b.Addr().String(), pin)
			if err != nil {
				t.Errorf("Dial: %v", err)
			}
			conns[i] = c
		})
	}
	wg.Wait()
	for _, c := range conns {
		if c != conns[0] {
			t.Fatal("two Dials returned different Conns")
		}
	}
	cb, err := b.Accept(patience(t))
	if err != nil {
		t.Fatal(err)
	}
	talk(t, conns[0], cb, "hello")
	none(t, b)
}

func testDialFromMany(t *testing.T, mk Maker) {
	// Many nodes of one machine at once, half of them with one key, are more
	// than a wire may have under way; all of them get in.
	key := newKey(t)
	b := mk.make(t, Spec{})
	const nodes = 60
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range nodes {
		s := Spec{HandshakeTimeout: Patience} // what a handshake takes in a crowd is up to the machine
		if i%2 == 0 {
			s.Key = key
		}
		a := mk.make(t, s)
		wg.Go(func() {
			<-start
			if _, err := a.Dial(patience(t), b.Addr().String(), b.Key()); err != nil {
				t.Errorf("Dial of node %d: %v", i, err)
			}
		})
	}
	close(start)
	wg.Wait()
	for i := range nodes {
		if _, err := b.Accept(patience(t)); err != nil {
			t.Fatalf("Accept of Conn %d: %v", i, err)
		}
	}
}

func testSameKey(t *testing.T, mk Maker) {
	// The machines of one person may share a key. They are three nodes.
	key := newKey(t)
	a, b, c := mk.make(t, Spec{Key: key}), mk.make(t, Spec{Key: key}), mk.make(t, Spec{Key: key})
	ab, ba := join(t, a, b)
	ac, ca := join(t, a, c)
	bc, cb := join(t, b, c)
	talk(t, ab, ba, "a to b")
	talk(t, ac, ca, "a to c")
	talk(t, bc, cb, "b to c")
	if got := dial(t, a, c); got != ac {
		t.Error("Dial to c did not return the Conn to c")
	}
}

func testEmptyAddr(t *testing.T, mk Maker) {
	a, b := mk.make(t, Spec{}), mk.make(t, Spec{})
	if _, err := b.Dial(patience(t), "", a.Key()); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("Dial without an address and without a Conn: %v, want ErrUnreachable", err)
	}
	if _, err := b.Dial(patience(t), "", nil); err == nil {
		t.Error("Dial without an address and without a key has worked")
	}
	_, cb := join(t, a, b)
	if c, err := b.Dial(patience(t), "", a.Key()); err != nil || c != cb {
		t.Errorf("Dial without an address: %v, %v; want the open Conn", c, err)
	}
}
