package quic_test

import (
	"testing"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/simnet"
)

func TestRedialAsksTheOtherSide(t *testing.T) {
	// The Conn is open here. If it is at the other side too, Redial returns it;
	// if that has given it up and was not heard, Redial replaces it.
	small, large := twoKeys(t)
	for _, keys := range [][2]*identity.Key{{small, large}, {large, small}} {
		inSim(t, simnet.Link{Latency: 20 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
			for _, dialer := range []bool{true, false} {
				a, b := simListen(t, n, alice, keys[0]), simListen(t, n, bob, keys[1])
				here, there := join(t, a, b)
				e, to := a, bob
				if !dialer {
					here, there, e, to = there, here, b, alice
				}
				if c, err := e.Redial(t.Context(), simAddr(to), nil); c != here || err != nil {
					t.Errorf("Redial of a Conn that both sides have: %v, %v", c, err)
				}
				wantAlive(t, here, there)

				n.Partition(alice, bob)
				there.Close(transport.CodeLost, "")
				n.HealAll()
				wantAlive(t, here)
				began := time.Now()
				c, err := e.Redial(t.Context(), simAddr(to), nil)
				if err != nil || c == here {
					t.Fatalf("Redial of a Conn that the other side has lost: %v, the same %v", err, c == here)
				}
				if took := time.Since(began); took > 100*time.Millisecond {
					t.Errorf("Redial has taken %v, want two round trips", took)
				}
				wantLost(t, cause(t, here, 1))
				time.Sleep(time.Minute)
				wantAlive(t, c)
				a.Close()
				b.Close()
			}
		})
	}
}
