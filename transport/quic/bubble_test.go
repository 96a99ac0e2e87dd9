package quic_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/quic"
)

// A memNet is a network of sockets in memory, with a delay and some loss.
type memNet struct {
	mu    sync.Mutex
	socks map[string]*memSock
	loss  *rand.Rand // nil: none
}

// lossPercent is how much a network with loss loses.
const lossPercent = 15

// route returns the socket at an address, or nil if the packet is lost.
func (n *memNet) route(to net.Addr) *memSock {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.loss != nil && n.loss.IntN(100) < lossPercent {
		return nil
	}
	return n.socks[to.String()]
}

type memAddr string

func (memAddr) Network() string  { return "mem" }
func (a memAddr) String() string { return string(a) }

type packet struct {
	from net.Addr
	b    []byte
}

type memSock struct {
	net  *memNet
	addr memAddr
	in   chan packet

	mu     sync.Mutex
	wake   chan struct{} // closed by a new deadline
	past   bool          // the deadline has passed
	closed bool
}

func (n *memNet) listen(addr memAddr) *memSock {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &memSock{net: n, addr: addr, in: make(chan packet, 1000), wake: make(chan struct{})}
	n.socks[string(addr)] = s
	return s
}

func (s *memSock) WriteTo(b []byte, to net.Addr) (int, error) {
	if other := s.net.route(to); other != nil {
		p := packet{s.addr, append([]byte(nil), b...)}
		time.AfterFunc(10*time.Millisecond, func() {
			select {
			case other.in <- p:
			default:
			}
		})
	}
	return len(b), nil
}

func (s *memSock) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		s.mu.Lock()
		wake, past, closed := s.wake, s.past, s.closed
		s.mu.Unlock()
		switch {
		case closed:
			return 0, nil, net.ErrClosed
		case past:
			return 0, nil, os.ErrDeadlineExceeded
		}
		select {
		case p := <-s.in:
			return copy(b, p.b), p.from, nil
		case <-wake:
		}
	}
}

func (s *memSock) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.wake)
	s.wake = make(chan struct{})
}

// SetReadDeadline knows only the two deadlines that are in use: now and none.
func (s *memSock) SetReadDeadline(t time.Time) error {
	s.change(func() { s.past = !t.IsZero() })
	return nil
}

func (s *memSock) Close() error {
	s.net.mu.Lock()
	delete(s.net.socks, string(s.addr))
	s.net.mu.Unlock()
	s.change(func() { s.closed = true })
	return nil
}

func (s *memSock) LocalAddr() net.Addr              { return s.addr }
func (s *memSock) SetDeadline(t time.Time) error    { return s.SetReadDeadline(t) }
func (s *memSock) SetWriteDeadline(time.Time) error { return nil }

// inBubble runs a test in a bubble. quic-go's clock is negative in a young
// bubble, and its loss timer may then stand still: let the bubble grow old.
func inBubble(t *testing.T, test func(t *testing.T, n *memNet)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * 365 * 24 * time.Hour)
		test(t, &memNet{socks: make(map[string]*memSock)})
	})
}

func (n *memNet) endpoint(t *testing.T, k *identity.Key, addr memAddr) *quic.Endpoint {
	t.Helper()
	e, err := quic.Listen(quic.Config{
		Conn: n.listen(addr), Key: k, Authorize: everybody,
		Resolve: func(_ context.Context, addr string) (net.Addr, error) { return memAddr(addr), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// In these tests a goroutine that outlives Close fails the test by itself.

func TestBubbleOpenAndClose(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memNet) {
		a, b := n.endpoint(t, generate(t), "a"), n.endpoint(t, generate(t), "b")
		began := time.Now()
		ca, cb := join(t, a, b)
		// One way is 10 ms: two round trips until the dialler knows, half of
		// one more until the acceptor does.
		if took := time.Since(began); took != 50*time.Millisecond {
			t.Errorf("opening took %v, want 50ms", took)
		}
		speak(t, ca, cb)
		time.Sleep(24 * time.Hour) // keep-alives hold it
		speak(t, cb, ca)
		a.Close()
		if r, ok := errors.AsType[*transport.RemoteError](cause(t, cb, 1)); !ok || r.Code != transport.CodeClosed {
			t.Errorf("b's end of the Conn ended with %v, want the word of a", r)
		}
		b.Close()
	})
}

func TestBubbleSilence(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memNet) {
		a, b := n.endpoint(t, generate(t), "a"), n.endpoint(t, generate(t), "b")
		_, cb := join(t, a, b)
		n.mu.Lock()
		clear(n.socks) // every cable is cut
		n.mu.Unlock()
		began := time.Now()
		<-cb.Context().Done()
		if err := context.Cause(cb.Context()); !errors.Is(err, transport.ErrLost) {
			t.Errorf("after silence: %v, want ErrLost", err)
		}
		if took := time.Since(began); took > 17*time.Second {
			t.Errorf("the silence was noticed after %v", took)
		}
		a.Close()
		b.Close()
	})
}

func TestBubbleNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, n *memNet) {
		a := n.endpoint(t, generate(t), "a")
		defer a.Close()
		began := time.Now()
		_, err := a.Dial(t.Context(), "nobody", nil)
		if took := time.Since(began); !errors.Is(err, transport.ErrUnreachable) || took != 5*time.Second {
			t.Errorf("Dial to nobody: %v after %v, want ErrUnreachable after 5s", err, took)
		}
	})
}

func TestBubbleBothDial(t *testing.T) {
	// All the ways in which two dials can overlap: one begins up to three
	// round trips after the other, in steps of a quarter of one.
	inBubble(t, func(t *testing.T, n *memNet) {
		k1, k2 := generate(t), generate(t)
		for step := range 14 {
			for _, later := range []int{0, 1} {
				a := n.endpoint(t, k1, memAddr(fmt.Sprint("a", step, later)))
				b := n.endpoint(t, k2, memAddr(fmt.Sprint("b", step, later)))
				ends := []*quic.Endpoint{a, b}
				var conns [2]transport.Conn
				var wg sync.WaitGroup
				for i := range ends {
					wg.Go(func() {
						if i == later {
							time.Sleep(time.Duration(step) * 5 * time.Millisecond)
						}
						var err error
						if conns[i], err = ends[i].Dial(t.Context(), ends[1-i].Addr().String(), nil); err != nil {
							t.Errorf("step %d: Dial: %v", step, err)
						}
					})
				}
				wg.Wait()
				time.Sleep(time.Minute) // whatever is to fall has fallen
				if conns[0].Context().Err() != nil || conns[1].Context().Err() != nil {
					t.Errorf("step %d: a Conn that Dial returned was closed", step)
				}
				if conns[0].Info().Dialed == conns[1].Info().Dialed {
					t.Errorf("step %d: the two sides hold different Conns", step)
				}
				speak(t, conns[0], conns[1])
				speak(t, conns[1], conns[0])
				a.Close()
				b.Close()
			}
		}
	})
}

func TestBubbleBothDialWithLoss(t *testing.T) {
	// Whatever gets lost on the way: both sides end up with the same Conn, and
	// none that Dial returned is closed.
	inBubble(t, func(t *testing.T, n *memNet) {
		k1, k2 := generate(t), generate(t)
		for seed := range uint64(60) {
			a := n.endpoint(t, k1, memAddr(fmt.Sprint("a", seed)))
			b := n.endpoint(t, k2, memAddr(fmt.Sprint("b", seed)))
			n.mu.Lock()
			n.loss = rand.New(rand.NewPCG(seed, 0))
			n.mu.Unlock()
			var ca, cb transport.Conn
			var wg sync.WaitGroup
			wg.Go(func() { ca = dialUntil(t, a, b) })
			wg.Go(func() {
				time.Sleep(time.Duration(seed%10) * 5 * time.Millisecond)
				cb = dialUntil(t, b, a)
			})
			wg.Wait()
			time.Sleep(time.Minute)
			if ca.Context().Err() != nil || cb.Context().Err() != nil {
				t.Errorf("seed %d: a Conn that Dial returned has ended: %v, %v", seed,
					context.Cause(ca.Context()), context.Cause(cb.Context()))
			} else {
				if ca.Info().Dialed == cb.Info().Dialed {
					t.Errorf("seed %d: the two sides hold different Conns", seed)
				}
				speak(t, ca, cb)
				speak(t, cb, ca)
			}
			a.Close()
			b.Close()
		}
	})
}

// dialUntil dials until it works.
func dialUntil(t *testing.T, from, to *quic.Endpoint) transport.Conn {
	for {
		c, err := from.Dial(t.Context(), to.Addr().String(), to.Key())
		if err == nil {
			return c
		}
		if !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("Dial: %v", err)
		}
	}
}
