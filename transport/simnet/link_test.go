package simnet_test

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"ckt.local/transport/simnet"
)

func TestPerfectLinkDeliversAtOnceAndInOrder(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		a, b := open(t, n, alice), open(t, n, bob)
		write(t, a, bob, "one")
		write(t, a, bob, "")
		write(t, a, bob, "three")
		expect(t, "the zero link changes nothing", listen(t, b, time.Second),
			receipt{0, "one"}, receipt{0, ""}, receipt{0, "three"})
		expect(t, "nobody wrote to alice", listen(t, a, time.Second))
	})
}

func TestLatencyIsExact(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		a, b, c := open(t, n, alice), open(t, n, bob), open(t, n, carol)
		n.SetDefault(simnet.Link{Latency: 30 * time.Millisecond})
		n.SetLink(alice, bob, simnet.Link{Latency: 7 * time.Nanosecond})

		write(t, a, bob, "x")
		expect(t, "the override holds", listen(t, b, time.Second), receipt{7, "x"})
		write(t, b, alice, "x")
		expect(t, "the other direction is the default", listen(t, a, time.Second), receipt{30 * time.Millisecond, "x"})
		write(t, a, carol, "x")
		expect(t, "another host is the default", listen(t, c, time.Second), receipt{30 * time.Millisecond, "x"})
		write(t, a, alice, "x")
		expect(t, "a host's own address is a direction as well", listen(t, a, time.Second), receipt{30 * time.Millisecond, "x"})

		write(t, a, bob, "old link")
		n.SetLink(alice, bob, simnet.Link{Latency: time.Hour})
		expect(t, "what is on the way stays on the old link", listen(t, b, time.Second), receipt{7, "old link"})
		n.ResetLink(alice, bob)
		write(t, a, bob, "x")
		expect(t, "after the reset it is the default", listen(t, b, time.Second), receipt{30 * time.Millisecond, "x"})
	})
}

func TestLinkReturnsWhatIsInForce(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{MTU: 1})
		n.SetLink(alice, bob, simnet.Link{MTU: 2})
		if got := n.Link(alice, bob).MTU; got != 2 {
			t.Errorf("an override: MTU %d, want 2", got)
		}
		if got := n.Link(bob, alice).MTU; got != 1 {
			t.Errorf("a default: MTU %d, want 1", got)
		}
		if got := len(n.Stats()); got != 1 {
			t.Errorf("asking for a link has made a direction: %d, want 1", got)
		}
	})
}

func TestJitterIsUniformAndReorders(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		const packets = 2000
		n.SetDefault(simnet.Link{Latency: 10 * time.Millisecond, Jitter: 40 * time.Millisecond})
		a, b := open(t, n, alice), open(t, n, bob)
		for i := range packets {
			write(t, a, bob, fmt.Sprintf("%04d", i))
		}
		got := listen(t, b, time.Second)
		if len(got) != packets {
			t.Fatalf("jitter loses nothing: got %d packets, want %d", len(got), packets)
		}
		var sum time.Duration
		for _, r := range got {
			if r.at < 10*time.Millisecond || r.at > 50*time.Millisecond {
				t.Errorf("a packet took %v, want 10ms to 50ms", r.at)
			}
			sum += r.at
		}
		if mean := sum / packets; mean < 29*time.Millisecond || mean > 31*time.Millisecond {
			t.Errorf("the mean of uniform shares is %v, want 30ms ± 1ms", mean)
		}
		inOrder := func(a, b receipt) int { return strings.Compare(a.payload, b.payload) }
		if slices.IsSortedFunc(got, inOrder) {
			t.Error("packets sent together with 40ms jitter all kept their order")
		}
	})
}

func TestRatios(t *testing.T) {
	const packets = 5000
	for _, tc := range []struct {
		name  string
		p     float64
		link  func(p float64) simnet.Link
		count func(c simnet.Counters) uint64
	}{
		{"loss", 0.2,
			func(p float64) simnet.Link { return simnet.Link{Loss: p} },
			func(c simnet.Counters) uint64 { return c.Dropped.Loss }},
		{"duplicate", 0.1,
			func(p float64) simnet.Link { return simnet.Link{Duplicate: p} },
			func(c simnet.Counters) uint64 { return c.Duplicated }},
		{"corrupt", 0.05,
			func(p float64) simnet.Link { return simnet.Link{Corrupt: p} },
			func(c simnet.Counters) uint64 { return c.Corrupted }},
	} {
		for p, means := range map[float64]float64{math.NaN(): 0, -1: 0, 0: 0, tc.p: tc.p, 1: 1, 2: 1} {
			t.Run(fmt.Sprintf("%s %v", tc.name, p), func(t *testing.T) {
				bubble(t, 7, func(t *testing.T, n *simnet.Network) {
					n.SetDefault(tc.link(p))
					a, _ := open(t, n, alice), open(t, n, bob)
					for range packets {
						write(t, a, bob, "x")
					}
					want := means * packets
					slack := 4 * math.Sqrt(packets*means*(1-means)) // 4 standard deviations
					if got := float64(tc.count(counters(n, alice, bob))); math.Abs(got-want) > slack {
						t.Errorf("%v of %d packets, want %v ± %.0f", got, packets, want, slack)
					}
				})
			})
		}
	}
}

func TestDuplicatesTakeTheirOwnWay(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Duplicate: 1, Jitter: time.Second, Corrupt: 0.5})
		a, b := open(t, n, alice), open(t, n, bob)
		const packets = 100
		for range packets {
			write(t, a, bob, "payload")
		}
		got := listen(t, b, time.Minute)
		if len(got) != 2*packets {
			t.Fatalf("got %d packets, want %d", len(got), 2*packets)
		}
		times := map[time.Duration]bool{}
		for _, r := range got {
			times[r.at] = true
		}
		if len(times) != 2*packets {
			t.Errorf("%d different times for %d copies with jitter", len(times), 2*packets)
		}
		if c := counters(n, alice, bob).Corrupted; c < packets/2 || c > packets*3/2 {
			t.Errorf("%d of %d copies damaged, want about half", c, 2*packets)
		}
	})
}

func TestCorruptionFlipsBitsOfOneByte(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Corrupt: 1})
		a, b := open(t, n, alice), open(t, n, bob)
		sent := bytes.Repeat([]byte{0xa5}, 100)
		places := map[int]bool{}
		const packets = 1000
		for range packets {
			write(t, a, bob, string(sent))
		}
		for _, r := range listen(t, b, time.Second) {
			flipped := 0
			for i := range sent {
				if d := bits.OnesCount8(sent[i] ^ r.payload[i]); d > 0 {
					places[i] = true
					flipped++
				}
			}
			if flipped != 1 || len(r.payload) != len(sent) {
				t.Fatalf("%d of %d bytes differ, want 1 of %d", flipped, len(r.payload), len(sent))
			}
		}
		if len(places) != len(sent) {
			t.Errorf("damage in %d different places, want %d", len(places), len(sent))
		}
		write(t, a, bob, "")
		expect(t, "an empty packet has nothing to damage", listen(t, b, time.Second), receipt{0, ""})
	})
}

func TestMTU(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{MTU: 1200})
		a, b := open(t, n, alice), open(t, n, bob)
		fits := strings.Repeat("x", 1200)
		write(t, a, bob, fits)
		write(t, a, bob, fits+"x")
		expect(t, "only the first fits", listen(t, b, time.Second), receipt{0, fits})
		if got := counters(n, alice, bob).Dropped; got != (simnet.Drops{MTU: 1}) {
			t.Errorf("drops %+v, want one for the MTU", got)
		}
	})
}

func TestBandwidthSpacesPackets(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Bandwidth: 1000, Latency: time.Second})
		a, b := open(t, n, alice), open(t, n, bob)
		kb := strings.Repeat("x", 1000)
		write(t, a, bob, kb)
		write(t, a, bob, "")
		write(t, a, bob, kb[:500])
		expect(t, "one packet leaves after the other, and then takes the latency", listen(t, b, time.Minute),
			receipt{2 * time.Second, kb}, receipt{2 * time.Second, ""}, receipt{2500 * time.Millisecond, kb[:500]})
		write(t, a, bob, kb[:1])
		expect(t, "an idle link has saved nothing up", listen(t, b, time.Minute),
			receipt{1001 * time.Millisecond, kb[:1]})

		write(t, a, bob, kb)
		write(t, b, alice, kb)
		expect(t, "directions do not share bandwidth", listen(t, a, time.Minute), receipt{2 * time.Second, kb})
		expect(t, "the other one", listen(t, b, time.Minute), receipt{0, kb})

		write(t, a, bob, kb)
		n.SetDefault(simnet.Link{})
		write(t, a, bob, "later")
		expect(t, "without the limit, packets still queue behind those from before", listen(t, b, time.Minute),
			receipt{time.Second, "later"}, receipt{2 * time.Second, kb})
	})
}

func TestQueueDropsAtTheTail(t *testing.T) {
	kb := strings.Repeat("x", 1000)
	for _, tc := range []struct {
		name  string
		queue int
		sent  int
		want  int // packets that arrive of those sent at one instant
	}{
		{"one leaves and three wait", 3000, 6, 4},
		{"one byte short of three", 2999, 6, 3},
		{"a queue that holds nothing", 1, 6, 1},
		{"the default", 0, 400, 1 + simnet.DefaultQueue/1000},
		{"no bound", -1, 400, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, n *simnet.Network) {
				n.SetDefault(simnet.Link{Bandwidth: 1000, Queue: tc.queue})
				a, b := open(t, n, alice), open(t, n, bob)
				for range tc.sent {
					write(t, a, bob, kb)
				}
				if got := len(listen(t, b, time.Hour)); got != tc.want {
					t.Errorf("%d packets arrived, want %d", got, tc.want)
				}
				want := simnet.Drops{Queue: uint64(tc.sent - tc.want)}
				if got := counters(n, alice, bob).Dropped; got != want {
					t.Errorf("drops %+v, want %+v", got, want)
				}
			})
		})
	}
}

func TestQueueDrainsWithTime(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Bandwidth: 1000, Queue: 1000})
		a, b := open(t, n, alice), open(t, n, bob)
		kb := strings.Repeat("x", 1000)
		write(t, a, bob, kb) // leaves from 0s to 1s
		write(t, a, bob, kb) // waits until 1s
		write(t, a, bob, kb) // finds no room
		time.Sleep(time.Second - 1)
		write(t, a, bob, kb) // neither does this one, a nanosecond early
		time.Sleep(time.Nanosecond)
		write(t, a, bob, kb) // waits until 2s
		expect(t, "three have had room", listen(t, b, time.Minute),
			receipt{0, kb}, receipt{time.Second, kb}, receipt{2 * time.Second, kb})
		if got := counters(n, alice, bob).Dropped.Queue; got != 2 {
			t.Errorf("%d packets found no room, want 2", got)
		}
	})
}
