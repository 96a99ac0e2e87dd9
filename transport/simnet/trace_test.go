package simnet_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport/simnet"
)

func TestTraceShowsEveryFate(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.Record(-1)
		a, b := open(t, n, alice), listenOn(t, n.Host(bob), port)
		if err := b.(interface{ SetReadBuffer(int) error }).SetReadBuffer(1); err != nil {
			t.Fatal(err)
		}
		g := natAt(t, n, publicA, simnet.NATConfig{})
		var want []simnet.Fate
		meet := func(fate simnet.Fate, l simnet.Link, to netip.Addr, act func()) {
			n.SetLink(alice, to, l)
			write(t, a, to, "four")
			act()
			time.Sleep(time.Second)
			synctest.Wait()
			want = append(want, fate)
		}
		nothing := func() {}
		slow := simnet.Link{Latency: 10 * ms}
		meet(simnet.Delivered, simnet.Link{}, bob, nothing)
		meet(simnet.DroppedBuffer, simnet.Link{}, bob, nothing)
		meet(simnet.DroppedCut, slow, bob, func() { n.Cut(alice, bob); n.HealAll() })
		meet(simnet.DroppedMTU, simnet.Link{MTU: 3}, bob, nothing)
		meet(simnet.DroppedLoss, simnet.Link{Loss: 1, Burst: simnet.Burst{Enter: 1}}, bob, nothing)
		meet(simnet.DroppedBurst, simnet.Link{Burst: simnet.Burst{Enter: 1}}, bob, nothing)
		meet(simnet.DroppedVanished, slow, bob, n.Host(bob).Vanish)
		meet(simnet.DroppedNoSocket, slow, bob, nothing)
		meet(simnet.DroppedMoved, slow, bob, func() {
			if err := n.Host(bob).Move(carol); err != nil {
				t.Error(err)
			}
		})
		meet(simnet.DroppedNAT, slow, g.Addr(), nothing)
		write(t, a, bob, strings.Repeat("x", 10_000)) // fills the line, arrives when the network is closed
		n.SetLink(alice, carol, simnet.Link{Bandwidth: 1, Queue: 1})
		write(t, a, carol, "first")
		write(t, a, carol, "second")
		n.Close()

		var got []simnet.Fate
		names := map[string]bool{}
		trace := n.Trace()
		for _, e := range trace[:len(want)] {
			got = append(got, e.Fate)
		}
		for _, e := range trace {
			names[e.Fate.String()] = true
			if e.From != netip.AddrPortFrom(alice, port) || e.To.Port() != port || e.Sent > e.At {
				t.Errorf("event %v", e)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("fates %v, want %v", got, want)
		}
		for fate := simnet.Delivered; fate <= simnet.DroppedClosed; fate++ {
			if !names[fate.String()] {
				t.Errorf("no packet has met %v", fate)
			}
		}
		if len(names) != int(simnet.DroppedClosed)+1 {
			t.Errorf("%d names for %d fates", len(names), simnet.DroppedClosed+1)
		}
		if got := fmt.Sprint(simnet.DroppedClosed + 1); got != "Fate(12)" {
			t.Errorf("a fate that is none is %q", got)
		}
	})
}

// The trace agrees with the counters, its lines are what was asked for, and a
// limit keeps the last ones.
func TestTraceIsWhole(t *testing.T) {
	var corrupted uint64
	record := func(limit int) (trace simnet.Trace, total uint64) {
		corrupted = 0
		bubble(t, 42, func(t *testing.T, n *simnet.Network) {
			n.SetDefault(rough)
			n.Record(limit)
			traffic(t, n)
			trace = n.Trace()
			for _, c := range n.Stats() {
				total += c.Sent + c.Duplicated
				corrupted += c.Corrupted
			}
		})
		return trace, total
	}
	all, total := record(-1)
	if uint64(len(all)) != total || total < 1000 {
		t.Fatalf("%d events of %d packets", len(all), total)
	}
	for _, e := range all {
		if e.Damaged {
			corrupted--
		}
	}
	if corrupted != 0 {
		t.Errorf("the counters have %d damaged packets more than the trace", int64(corrupted))
	}
	if none, _ := record(0); len(none) != 0 {
		t.Errorf("%d events without recording", len(none))
	}
	for _, limit := range []int{1, 100, len(all) - 1, len(all), len(all) + 1} {
		some, _ := record(limit)
		// Events of one instant may be cut off in another order than shown.
		if len(some) != min(limit, len(all)) || some[len(some)-1].At != all[len(all)-1].At {
			t.Errorf("limit %d: %d events, the last one %v", limit, len(some), some[len(some)-1])
		}
		if some[0].At != all[len(all)-len(some)].At {
			t.Errorf("limit %d: the first event is %v, want %v", limit, some[0], all[len(all)-len(some)])
		}
	}
	var dump bytes.Buffer
	if err := all.Dump(&dump); err != nil {
		t.Error(err)
	}
	if lines := strings.Split(dump.String(), "\n"); len(lines) != len(all)+1 || lines[7] != all[7].String() {
		t.Errorf("%d lines for %d events", len(lines), len(all))
	}
	if err := all.Dump(broken{}); !errors.Is(err, errBroken) {
		t.Errorf("dumping to what takes nothing: %v", err)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestEventString(t *testing.T) {
	e := simnet.Event{
		Sent: time.Second, At: time.Second + 20*ms + 1,
		From: netip.MustParseAddrPort("10.0.0.1:1"), To: netip.MustParseAddrPort("[fd00::1]:2"),
		Len: 1200, Damaged: true, Fate: simnet.DroppedNoSocket,
	}
	const want = "1.020000001 10.0.0.1:1 > [fd00::1]:2 1200 no-socket damaged, sent 1.000000000"
	if got := e.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDiff(t *testing.T) {
	a, b := simnet.Event{Len: 1}, simnet.Event{Len: 2}
	for _, tc := range []struct {
		x, y simnet.Trace
		want string // a part of it
	}{
		{nil, nil, ""},
		{simnet.Trace{a, b}, simnet.Trace{a, b}, ""},
		{simnet.Trace{a, b}, simnet.Trace{a, a}, "event 1 of 2 and 2:\n" + b.String() + "\n" + a.String()},
		{simnet.Trace{a}, simnet.Trace{a, b}, "event 1 of 1 and 2:\n(the trace has ended)\n" + b.String()},
		{simnet.Trace{a}, nil, "event 0 of 1 and 0:\n" + a.String() + "\n(the trace has ended)"},
	} {
		if got := tc.x.Diff(tc.y); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

// natTraffic has NATs, moves, reboots and every fault, by a few goroutines that
// run at the same instants. Only the one that shares its NATs does not.
func natTraffic(t *testing.T, n *simnet.Network) {
	link := rough
	link.Burst, link.Reorder, link.ReorderDelay = simnet.Burst{Enter: 0.02, Length: 5}, 0.1, 30*ms
	n.SetDefault(link)
	var boxes []*simnet.NAT
	for i, kind := range natKinds {
		boxes = append(boxes, natAt(t, n, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), simnet.NATConfig{Kind: kind}))
	}
	var hosts sync.WaitGroup
	echo := open(t, n, bob)
	for _, g := range boxes {
		h := g.Host(first)
		s := listenOn(t, h, port)
		hosts.Go(func() {
			for i := range 200 {
				s.WriteTo(make([]byte, i), udp(bob))
				if i%50 == 49 {
					g.Reboot()
				}
				time.Sleep(10 * ms)
			}
		})
	}
	roamer := n.Host(alice)
	s := listenOn(t, roamer, port)
	hosts.Go(func() {
		time.Sleep(ms / 2)
		for i := range 20 {
			s.WriteTo(make([]byte, 100+i), udp(bob))
			if err := roamer.MoveBehind(boxes[i%len(boxes)], second); err != nil {
				t.Error(err)
			}
			time.Sleep(77 * ms)
		}
	})
	echo.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 1000)
	for {
		k, from, err := echo.ReadFrom(buf)
		if err != nil {
			break
		}
		echo.WriteTo(buf[:k], from)
	}
	hosts.Wait()
}

func TestFingerprint(t *testing.T) {
	type result struct {
		trace simnet.Trace
		print uint64
	}
	play := func(seed uint64, f func(t *testing.T, n *simnet.Network)) (r result) {
		bubble(t, seed, func(t *testing.T, n *simnet.Network) {
			n.Record(-1)
			f(t, n)
			n.Close()
			r = result{n.Trace(), n.Fingerprint()}
		})
		return r
	}
	for name, f := range map[string]func(t *testing.T, n *simnet.Network){
		"links": func(t *testing.T, n *simnet.Network) { n.SetDefault(rough); traffic(t, n) },
		"NATs":  natTraffic,
	} {
		want := play(42, f)
		if len(want.trace) < 800 {
			t.Fatalf("%s: hardly any traffic: %d events", name, len(want.trace))
		}
		for i := range 10 {
			old := runtime.GOMAXPROCS(1 + i%4)
			got := play(42, f)
			runtime.GOMAXPROCS(old)
			if diff := want.trace.Diff(got.trace); diff != "" {
				t.Errorf("%s: the same seed has made another trace: %s", name, diff)
			}
			if got.print != want.print {
				t.Errorf("%s: the same trace has fingerprints %#x and %#x", name, want.print, got.print)
			}
		}
		other := play(43, f)
		if other.print == want.print || want.trace.Diff(other.trace) == "" {
			t.Errorf("%s: another seed has made the same run", name)
		}
	}
}

// One byte more, one nanosecond later, another port: each is another
// fingerprint, of that direction alone.
func TestFingerprintSeesAll(t *testing.T) {
	type packet struct {
		payload  string
		from, to uint16
	}
	usual := packet{"x", 1, port}
	play := func(change func(n *simnet.Network) packet) (print, there, elsewhere uint64) {
		bubble(t, 1, func(t *testing.T, n *simnet.Network) {
			n.SetDefault(simnet.Link{Latency: 2})
			open(t, n, bob)
			listenOn(t, n.Host(bob), port+1)
			write(t, open(t, n, carol), bob, "constant")
			p := change(n)
			send(t, listenOn(t, n.Host(alice), p.from), netip.AddrPortFrom(bob, p.to), p.payload)
			time.Sleep(time.Second)
			synctest.Wait()
			print, there, elsewhere = n.Fingerprint(), counters(n, alice, bob).Trace, counters(n, carol, bob).Trace
		})
		return print, there, elsewhere
	}
	print, there, elsewhere := play(func(*simnet.Network) packet { return usual })
	if print != there+elsewhere || there == 0 || elsewhere == 0 {
		t.Errorf("the whole is %#x, its parts %#x and %#x", print, there, elsewhere)
	}
	on := func(l simnet.Link, pause time.Duration) func(n *simnet.Network) packet {
		return func(n *simnet.Network) packet {
			n.SetLink(alice, bob, l)
			time.Sleep(pause)
			return usual
		}
	}
	for name, change := range map[string]func(n *simnet.Network) packet{
		"length":    func(*simnet.Network) packet { return packet{"xx", 1, port} },
		"from port": func(*simnet.Network) packet { return packet{"x", 2, port} },
		"to port":   func(*simnet.Network) packet { return packet{"x", 1, port + 1} },
		"arrival":   on(simnet.Link{Latency: 3}, 0),
		"departure": on(simnet.Link{Latency: 1}, 1),
		"fate":      on(simnet.Link{Loss: 1}, 0),
	} {
		otherPrint, otherThere, otherElsewhere := play(change)
		if otherPrint == print || otherThere == there || otherElsewhere != elsewhere {
			t.Errorf("%s: %#x %#x %#x, and before %#x %#x %#x", name,
				otherPrint, otherThere, otherElsewhere, print, there, elsewhere)
		}
	}
	if p, _, _ := play(func(*simnet.Network) packet { return packet{"y", 1, port} }); p != print {
		t.Errorf("the payload has made another fingerprint: %#x, %#x", p, print)
	}
}

// The ports of a NAT do not depend on what others do behind it.
func TestNATPortsDependOnTheirFlowAlone(t *testing.T) {
	mapped := func(before func(t *testing.T, n *simnet.Network, g *simnet.NAT)) (hole netip.AddrPort) {
		bubble(t, 42, func(t *testing.T, n *simnet.Network) {
			g := natAt(t, n, publicA, simnet.NATConfig{Kind: simnet.Symmetric})
			before(t, n, g)
			c := open(t, n, carol)
			write(t, listenOn(t, g.Host(first), port), carol, "x")
			_, hole = receive(t, c)
		})
		return hole
	}
	alone := mapped(func(*testing.T, *simnet.Network, *simnet.NAT) {})
	crowded := mapped(func(t *testing.T, n *simnet.Network, g *simnet.NAT) {
		s := listenOn(t, g.Host(second), port)
		for range 100 {
			write(t, s, bob, "x")
			write(t, s, carol, "x")
		}
		listenOn(t, natAt(t, n, publicB, simnet.NATConfig{}).Host(first), port)
		time.Sleep(time.Second)
	})
	if alone != crowded {
		t.Errorf("alone the port is %v, with a neighbour %v", alone, crowded)
	}
}
