package simnet_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport/simnet"
)

const ms = time.Millisecond

func TestCutIsOneWay(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 10 * ms})
		a, b := open(t, n, alice), open(t, n, bob)
		write(t, a, bob, "on the way")
		n.Cut(alice, bob)
		write(t, a, bob, "cut")
		write(t, b, alice, "back")
		n.Heal(alice, bob)
		write(t, a, bob, "healed")
		expect(t, "the cut loses what is on the way, and healing brings nothing back",
			listen(t, b, time.Second), receipt{10 * ms, "healed"})
		expect(t, "the other direction was never cut", listen(t, a, time.Second), receipt{0, "back"})
		if got := counters(n, alice, bob).Dropped; got != (simnet.Drops{Cut: 2}) {
			t.Errorf("drops %+v, want two for the cut", got)
		}
	})
}

func TestCutEmptiesTheQueue(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Bandwidth: 1, Queue: -1})
		a, b := open(t, n, alice), open(t, n, bob)
		write(t, a, bob, "an hour's worth of packets, or nearly so")
		n.Cut(alice, bob)
		n.Heal(alice, bob)
		write(t, a, bob, "x")
		expect(t, "the link is idle after a cut", listen(t, b, time.Hour), receipt{time.Second, "x"})
	})
}

func TestPartitionIsBothWays(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		a, b, c := open(t, n, alice), open(t, n, bob), open(t, n, carol)
		exchange := func(why string, ab, ba int) {
			t.Helper()
			write(t, a, bob, "x")
			write(t, b, alice, "x")
			write(t, a, carol, "x")
			if got := len(listen(t, b, time.Second)); got != ab {
				t.Errorf("%s: bob got %d packets, want %d", why, got, ab)
			}
			if got := len(listen(t, a, time.Second)); got != ba {
				t.Errorf("%s: alice got %d packets, want %d", why, got, ba)
			}
			if got := len(listen(t, c, time.Second)); got != 1 {
				t.Errorf("%s: carol got %d packets, and has no part in it", why, got)
			}
		}
		n.Partition(alice, bob)
		exchange("partitioned", 0, 0)
		n.Heal(bob, alice)
		exchange("half healed", 0, 1)
		n.Rejoin(alice, bob)
		exchange("rejoined", 1, 1)
		n.Partition(alice, bob)
		n.Cut(carol, bob)
		n.HealAll()
		exchange("all healed", 1, 1)
		write(t, c, bob, "x")
		expect(t, "all healed", listen(t, b, time.Second), receipt{0, "x"})
	})
}

func TestVanishIsSilent(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 10 * ms})
		a, b := open(t, n, alice), open(t, n, bob)

		write(t, a, bob, "read before")
		expect(t, "all is well", listen(t, b, 10*ms+1), receipt{10 * ms, "read before"})
		write(t, a, bob, "arrived, not read")
		time.Sleep(10 * ms)
		synctest.Wait()
		write(t, a, bob, "on the way to bob")
		write(t, b, alice, "on the way from bob")
		n.Host(bob).Vanish()
		before := counters(n, bob, alice)
		write(t, b, alice, "written by the ghost")
		write(t, a, bob, "nobody there")

		expect(t, "nothing leaves a host that is gone", listen(t, a, time.Hour))
		expect(t, "nothing reaches it; reads wait", listen(t, b, time.Hour))
		if after := counters(n, bob, alice); before != after || after.Dropped != (simnet.Drops{Vanished: 1}) {
			t.Errorf("a ghost's packets are not counted: %+v, then %+v", before, after)
		}
		if got := counters(n, alice, bob).Dropped; got != (simnet.Drops{Vanished: 1, NoSocket: 1}) {
			t.Errorf("drops %+v, want one that was on the way and one that came late", got)
		}
	})
}

func TestVanishedHostComesBack(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 10 * ms})
		a, old := open(t, n, alice), open(t, n, bob)
		n.Host(bob).Vanish()
		again := open(t, n, bob)
		write(t, a, bob, "hello")
		expect(t, "the ghost is deaf", listen(t, old, time.Second))
		expect(t, "the new socket has the port", listen(t, again, time.Second), receipt{0, "hello"})
		if err := old.Close(); err != nil {
			t.Errorf("closing a ghost: %v", err)
		}
		write(t, a, bob, "still there?")
		expect(t, "the ghost's end does not take the port away", listen(t, again, time.Second),
			receipt{10 * ms, "still there?"})
		write(t, again, alice, "yes")
		expect(t, "the new socket sends", listen(t, a, time.Second), receipt{10 * ms, "yes"})
		n.Host(bob).Vanish()
		n.Host(bob).Vanish()
		write(t, a, bob, "gone again")
		expect(t, "it can vanish again", listen(t, again, time.Second))
		if err := again.Close(); err != nil {
			t.Errorf("closing the second ghost: %v", err)
		}
	})
}

func TestGhostReaderEndsWithCloseDeadlineOrNetwork(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(n *simnet.Network, c net.PacketConn)
		want error
	}{
		{"Close", func(_ *simnet.Network, c net.PacketConn) { c.Close() }, net.ErrClosed},
		{"deadline", func(_ *simnet.Network, c net.PacketConn) { c.SetReadDeadline(time.Now()) }, os.ErrDeadlineExceeded},
		{"Network.Close", func(n *simnet.Network, _ net.PacketConn) { n.Close() }, net.ErrClosed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, n *simnet.Network) {
				c := open(t, n, bob)
				read := make(chan error, 1)
				go func() {
					_, _, err := c.ReadFrom(make([]byte, 1))
					read <- err
				}()
				synctest.Wait()
				n.Host(bob).Vanish()
				synctest.Wait()
				select {
				case err := <-read:
					t.Fatalf("the reader has noticed: %v", err)
				default:
				}
				tc.end(n, c)
				if err := <-read; !errors.Is(err, tc.want) {
					t.Errorf("the reader ends with %v, want %v", err, tc.want)
				}
			})
		})
	}
}

func TestOtherHostsDoNotVanish(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 10 * ms})
		a, c := open(t, n, alice), open(t, n, carol)
		write(t, a, carol, "x")
		n.Host(bob).Vanish()
		expect(t, "it is not bob's packet", listen(t, c, time.Second), receipt{10 * ms, "x"})
	})
}

func TestMappedAddressesAreIPv4(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		mapped := netip.AddrFrom16(bob.As16())
		if n.Host(mapped) != n.Host(bob) {
			t.Error("one address, two hosts")
		}
		a, b := open(t, n, alice), open(t, n, bob)
		n.Cut(alice, mapped)
		write(t, a, bob, "cut")
		n.Heal(alice, bob)
		write(t, a, mapped, "healed")
		expect(t, "both forms name one direction", listen(t, b, time.Second), receipt{0, "healed"})
	})
}
