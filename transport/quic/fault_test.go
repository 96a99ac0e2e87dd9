package quic_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/quic"
)

// A wire is a socket that can be cut: nothing gets out, or nothing gets in.
type wire struct {
	net.PacketConn
	mute, deaf atomic.Bool
}

func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	if w.mute.Load() {
		return len(b), nil
	}
	return w.PacketConn.WriteTo(b, to)
}

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := w.PacketConn.ReadFrom(b)
		if err != nil || !w.deaf.Load() {
			return n, from, err
		}
	}
}

func (w *wire) cut() {
	w.mute.Store(true)
	w.deaf.Store(true)
}

func (w *wire) mend() {
	w.mute.Store(false)
	w.deaf.Store(false)
}

// listenWire makes an endpoint whose wire can be cut, at addr if it is not nil.
func listenWire(t *testing.T, key *identity.Key, addr net.Addr) (*quic.Endpoint, *wire) {
	t.Helper()
	at := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	if addr != nil {
		at = addr.(*net.UDPAddr)
	}
	pc, err := net.ListenUDP("udp4", at)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{PacketConn: pc}
	e, err := quic.Listen(quic.Config{Conn: w, Key: key, Authorize: everybody})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, w
}

// join opens a Conn from a to b and returns both ends.
func join(t *testing.T, a, b transport.Endpoint) (ca, cb transport.Conn) {
	t.Helper()
	ca, err := a.Dial(seconds(t, 20), b.Addr().String(), b.Key())
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	if cb, err = b.Accept(seconds(t, 20)); err != nil {
		t.Fatalf("Accept: %v", err)
	}
	return ca, cb
}

// cause waits up to n seconds for the end of c.
func cause(t *testing.T, c transport.Conn, n int) error {
	t.Helper()
	select {
	case <-c.Context().Done():
		return context.Cause(c.Context())
	case <-seconds(t, n).Done():
		t.Fatalf("the Conn has not ended within %d s", n)
		return nil
	}
}

// speak sends a word from a to b.
func speak(t *testing.T, a, b transport.Conn) {
	t.Helper()
	sa, err := a.OpenStream(seconds(t, 20))
	if err != nil {
		t.Fatalf("OpenStream: %v", err)
	}
	io.WriteString(sa, "word")
	sa.Close()
	sb, err := b.AcceptStream(seconds(t, 20))
	if err != nil {
		t.Fatalf("AcceptStream: %v", err)
	}
	if got, err := io.ReadAll(sb); err != nil || string(got) != "word" {
		t.Fatalf("read %q, %v", got, err)
	}
	sb.Close()
}

// twoKeys returns keys in order: the node with the first one decides.
func twoKeys(t *testing.T) (smaller, larger *identity.Key) {
	k1, k2 := generate(t), generate(t)
	id1, id2 := k1.ID(), k2.ID()
	if string(id1[:]) < string(id2[:]) {
		return k1, k2
	}
	return k2, k1
}

// inBothOrders runs a test with the dialler having the smaller and the larger
// key: only the smaller one decides.
func inBothOrders(t *testing.T, test func(t *testing.T, dialer, acceptor *identity.Key)) {
	small, large := twoKeys(t)
	t.Run("dialler decides", func(t *testing.T) { test(t, small, large) })
	t.Run("acceptor decides", func(t *testing.T) { test(t, large, small) })
}

// wantLost fails unless err says that a stale Conn was replaced, or that the
// last word about it came through after all.
func wantLost(t *testing.T, err error) {
	t.Helper()
	r, ok := errors.AsType[*transport.RemoteError](err)
	if !errors.Is(err, transport.ErrLost) && (!ok || r.Code != transport.CodeLost) {
		t.Errorf("the stale Conn ended with %v, want ErrLost", err)
	}
}

func TestLostAtTheDialler(t *testing.T) {
	// The dialler gives a Conn up while the path is cut, so the acceptor does
	// not know. The next Dial replaces the stale one, in no time.
	inBothOrders(t, func(t *testing.T, dialer, acceptor *identity.Key) {
		a, wa := listenWire(t, dialer, nil)
		b, _ := listenWire(t, acceptor, nil)
		ca, cb := join(t, a, b)
		wa.cut()
		ca.Close(transport.CodeLost, "no acknowledgements")
		wa.mend()
		began := time.Now()
		ca2, cb2 := join(t, a, b)
		// Silence would take 10 s to end it; what two handshakes take is up to
		// the machine.
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("it took %v to replace the Conn", took)
		}
		wantLost(t, cause(t, cb, 5))
		speak(t, ca2, cb2)
		speak(t, cb2, ca2)
	})
}

func TestLostAtTheAcceptor(t *testing.T) {
	// The acceptor gives it up and dials back: the same, the other way round.
	inBothOrders(t, func(t *testing.T, dialer, acceptor *identity.Key) {
		a, _ := listenWire(t, dialer, nil)
		b, wb := listenWire(t, acceptor, nil)
		ca, cb := join(t, a, b)
		wb.cut()
		cb.Close(transport.CodeLost, "no acknowledgements")
		wb.mend()
		cb2, ca2 := join(t, b, a)
		wantLost(t, cause(t, ca, 5))
		speak(t, ca2, cb2)
		speak(t, cb2, ca2)
	})
}

func TestRestart(t *testing.T) {
	// A process dies without a word and comes back at its address with its
	// key: the hello tells the others that the old one is gone.
	inBothOrders(t, func(t *testing.T, dialer, acceptor *identity.Key) {
		for _, whoDials := range []string{"the restarted one", "the other one"} {
			a, wa := listenWire(t, dialer, nil)
			b, _ := listenWire(t, acceptor, nil)
			_, cb := join(t, a, b)
			wa.cut()
			a.Close()
			a2, _ := listenWire(t, dialer, a.Addr())
			var ca2, cb2 transport.Conn
			if whoDials == "the restarted one" {
				ca2, cb2 = join(t, a2, b)
				if err := cause(t, cb, 5); !errors.Is(err, transport.ErrLost) {
					t.Errorf("%s dials: the old Conn ended with %v, want ErrLost", whoDials, err)
				}
				if cb2.Info().BootNonce == cb.Info().BootNonce {
					t.Error("the boot nonce is the same after the restart")
				}
			} else {
				// It writes to the old Conn, and is told by a stateless reset.
				s, err := cb.OpenStream(seconds(t, 20))
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				s.Write(make([]byte, 64))
				if err := cause(t, cb, 20); !errors.Is(err, transport.ErrLost) || !errors.Is(err, transport.ErrReset) {
					t.Errorf("%s writes: the old Conn ended with %v, want ErrLost and ErrReset", whoDials, err)
				}
				// In silence it would take 10 s. TestResetByARestartedProcess
				// wants one round trip, of a simulated path.
				if took := time.Since(began); took > 8*time.Second {
					t.Errorf("it took %v to notice the restart", took)
				}
				cb2, ca2 = join(t, b, a2)
			}
			speak(t, ca2, cb2)
			speak(t, cb2, ca2)
			a2.Close()
			b.Close()
		}
	})
}

func TestSilence(t *testing.T) {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{PacketConn: pc}
	a, err := quic.Listen(quic.Config{
		Conn: w, Key: generate(t), Authorize: everybody,
		MaxIdle: 3 * time.Second, KeepAlive: 200 * time.Millisecond, // a busy machine is silent for a while, too
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	ca, cb := join(t, a, listen(t, quic.Config{}))
	w.cut()
	for _, c := range []transport.Conn{ca, cb} {
		if err := cause(t, c, 20); !errors.Is(err, transport.ErrLost) {
			t.Errorf("after silence: %v, want ErrLost", err)
		}
	}
	w.mend()
}

func TestSocketFails(t *testing.T) {
	// Somebody closes the socket under the endpoint.
	a, w := listenWire(t, generate(t), nil)
	b, _ := listenWire(t, generate(t), nil)
	ca, _ := join(t, a, b)
	w.PacketConn.Close()
	if err := cause(t, ca, 20); !errors.Is(err, transport.ErrLost) {
		t.Errorf("the Conn ended with %v, want ErrLost: nobody closed it", err)
	}
	if _, err := a.Accept(seconds(t, 20)); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Accept: %v, want ErrClosed", err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestChurn(t *testing.T) {
	// Both sides dial, give up and close as they like. What stays in the end
	// is one Conn.
	inBothOrders(t, func(t *testing.T, ka, kb *identity.Key) {
		a, wa := listenWire(t, ka, nil)
		b, _ := listenWire(t, kb, nil)
		var wg sync.WaitGroup
		for i, ends := range [][2]*quic.Endpoint{{a, b}, {b, a}, {a, b}, {b, a}} {
			wg.Go(func() {
				for n := range 40 {
					c, err := ends[0].Dial(seconds(t, 20), ends[1].Addr().String(), ends[1].Key())
					if err != nil {
						t.Errorf("Dial: %v", err)
						return
					}
					switch {
					case i == 0 && n%5 == 4: // unheard by the other side
						wa.mute.Store(true)
						c.Close(transport.CodeLost, "")
						wa.mute.Store(false)
					case n%3 == i:
						c.Close(transport.CodeClosed, "")
					}
				}
			})
		}
		wg.Wait()
		var ca, cb transport.Conn
		for {
			var err error
			if ca, err = a.Dial(seconds(t, 20), b.Addr().String(), b.Key()); err != nil {
				t.Fatal(err)
			}
			if cb, err = b.Dial(seconds(t, 20), a.Addr().String(), a.Key()); err != nil {
				t.Fatal(err)
			}
			if ca.Context().Err() == nil && cb.Context().Err() == nil && ca.Info().Dialed != cb.Info().Dialed {
				break // the last words of the churn have been heard
			}
		}
		speak(t, ca, cb)
		speak(t, cb, ca)
	})
}
