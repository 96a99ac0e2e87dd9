package quic_test

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/quic"
	"ckt.local/transport/simnet"
)

// A routeless is a socket of a machine that may have no route.
type routeless struct {
	net.PacketConn
	down atomic.Bool
}

func (s *routeless) WriteTo(b []byte, to net.Addr) (int, error) {
	if s.down.Load() {
		return 0, &net.OpError{Op: "write", Net: "udp", Err: os.NewSyscallError("sendto", syscall.ENETUNREACH)}
	}
	return s.PacketConn.WriteTo(b, to)
}

func TestNoRouteForAWhile(t *testing.T) {
	inSim(t, simnet.Link{Latency: 20 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
		pc, err := n.Host(alice).Listen(simPort)
		if err != nil {
			t.Fatal(err)
		}
		s := &routeless{PacketConn: pc}
		a, err := quic.Listen(quic.Config{Conn: s, Key: generate(t), Authorize: everybody})
		if err != nil {
			t.Fatal(err)
		}
		b := simListen(t, n, bob, generate(t))

		s.down.Store(true)
		began := time.Now()
		_, err = a.Dial(t.Context(), simAddr(bob), nil)
		if !errors.Is(err, transport.ErrUnreachable) || !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("Dial without a route: %v, want ErrUnreachable, and why", err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("Dial without a route has taken %v, want 5s: a route may come", took)
		}
		var up time.Time
		time.AfterFunc(2*time.Second+333*time.Millisecond, func() {
			up = time.Now()
			s.down.Store(false)
		})
		ca, cb := join(t, a, b)
		if took := ca.Info().Opened.Sub(up); took > 700*time.Millisecond {
			t.Errorf("the route was there for %v before Dial has used it", took)
		}

		s.down.Store(true)
		go func() {
			time.Sleep(3 * time.Second)
			s.down.Store(false)
		}()
		speak(t, ca, cb)
		speak(t, cb, ca)
		wantAlive(t, ca, cb)
		a.Close()
		b.Close()
	})
}
