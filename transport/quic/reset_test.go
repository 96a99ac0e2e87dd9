package quic_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/quic"
	"ckt.local/transport/simnet"
)

// kill ends the process of e without a word, as a power cut does.
func kill(n *simnet.Network, at netip.Addr, e *quic.Endpoint) {
	n.Host(at).Vanish()
	e.Close()
}

func TestResetByARestartedProcess(t *testing.T) {
	// Whoever writes to a process that has restarted hears of it within one
	// round trip, be the Conn new or old, dialled or accepted.
	const rtt = 40 * time.Millisecond
	inSim(t, simnet.Link{Latency: rtt / 2}, func(t *testing.T, n *simnet.Network) {
		k1, k2 := generate(t), generate(t)
		for _, age := range []time.Duration{0, time.Second, time.Hour} {
			for _, dialerRestarts := range []bool{false, true} {
				a, b := simListen(t, n, alice, k1), simListen(t, n, bob, k2)
				old, other := join(t, a, b)
				time.Sleep(age)
				if dialerRestarts {
					kill(n, alice, a)
					a, old = simListen(t, n, alice, k1), other
				} else {
					kill(n, bob, b)
					b = simListen(t, n, bob, k2)
				}
				s, err := old.OpenStream(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if _, err := s.Write(make([]byte, 64)); err != nil {
					t.Fatal(err)
				}
				err = cause(t, old, 20)
				if !errors.Is(err, transport.ErrReset) || !errors.Is(err, transport.ErrLost) {
					t.Errorf("aged %v, dialler restarts %v: %v, want ErrReset", age, dialerRestarts, err)
				}
				if took := time.Since(began); took > rtt {
					t.Errorf("aged %v, dialler restarts %v: noticed after %v, want %v", age, dialerRestarts, took, rtt)
				}
				if _, err := s.Write(make([]byte, 64)); !errors.Is(err, transport.ErrReset) {
					t.Errorf("a write afterwards: %v, want ErrReset", err)
				}
				a.Close()
				b.Close()
			}
		}
	})
}

func TestSilenceIsNoReset(t *testing.T) {
	inSim(t, simnet.Link{Latency: 20 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
		a, b := simListen(t, n, alice, generate(t)), simListen(t, n, bob, generate(t))
		ca, cb := join(t, a, b)
		n.Partition(alice, bob)
		for _, c := range []transport.Conn{ca, cb} {
			if err := cause(t, c, 20); !errors.Is(err, transport.ErrLost) || errors.Is(err, transport.ErrReset) {
				t.Errorf("after silence: %v, want ErrLost and not ErrReset", err)
			}
		}
		a.Close()
		b.Close()
	})
}
