package circuit_test

import (
	"fmt"
	"testing"
	"time"

	"ckt.local/circuit"
)

// Whatever was sent arrives once and in order, and soon after the network is
// back, whoever has opened the circuit and however fast its ends read.
func TestCircuitsOutliveOutages(t *testing.T) {
	for _, cut := range []time.Duration{2 * time.Second, 20 * time.Second, 60 * time.Second, 100 * time.Second} {
		for _, slow := range []time.Duration{0, 50 * time.Millisecond} {
			for _, fromB := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v/slow=%v/fromB=%v", cut, slow, fromB), func(t *testing.T) {
					inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
						testOutage(t, p, cut, slow, fromB)
					})
				})
			}
		}
	}
}

func testOutage(t *testing.T, p *lasting, cut, slow time.Duration, fromB bool) {
	a, b := p.ends(t, fromB)
	there := send(t, a, b, 30*time.Millisecond, slow)
	back := send(t, b, a, 30*time.Millisecond, 0)
	time.Sleep(3 * time.Second)
	p.outage(cut)
	atB := make(chan time.Duration, 1)
	go func() { atB <- untilMore(t, b) }()
	d := max(untilMore(t, a), <-atB)
	t.Logf("the first fragment came %v after the heal", d)
	if d > 6*time.Second {
		t.Errorf("the first fragment comes %v after the heal", d)
	}
	time.Sleep(2 * time.Second)
	there.finish()
	back.finish()
	for _, c := range []*circuit.Circuit{a, b} {
		if n := c.Stats().Attachments; cut >= 20*time.Second && n < 2 {
			t.Errorf("%d attachments after a cut of %v", n, cut)
		}
	}
}

// One outage after another, some of them while the last one is being mended.
func TestManyOutages(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		c, d := p.ends(t, true)
		flows := []*traffic{
			send(t, a, b, 40*time.Millisecond, 0), send(t, b, a, 40*time.Millisecond, 0),
			send(t, c, d, 60*time.Millisecond, 0), send(t, d, c, 60*time.Millisecond, 0),
		}
		for i := range 20 {
			time.Sleep(time.Duration(i*37%11) * 70 * time.Millisecond)
			p.outage(time.Duration(i*29%13) * 700 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		for _, f := range flows {
			f.finish()
		}
	})
}

// Nothing of what this side says arrives, and all of what the other side says
// does. The sender must not go on believing, and neither may be the one that
// waits for the other to notice.
func TestOneWayCuts(t *testing.T) {
	for _, fromA := range []bool{true, false} {
		for _, opener := range []bool{true, false} {
			t.Run(fmt.Sprintf("cutFromA=%v/openedByA=%v", fromA, opener), func(t *testing.T) {
				inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
					testOneWayCut(t, p, fromA, opener)
				})
			})
		}
	}
}

func testOneWayCut(t *testing.T, p *lasting, fromA, opener bool) {
	a, b := p.ends(t, !opener)
	there, back := send(t, a, b, 20*time.Millisecond, 0), send(t, b, a, 20*time.Millisecond, 0)
	time.Sleep(2 * time.Second)
	from, to, mute := p.ha.Addr(), p.hb.Addr(), a
	if !fromA {
		from, to, mute = to, from, b
	}
	p.net.Cut(from, to)
	within(t, 6*time.Second, "whom nobody hears is detached", func() bool { return !mute.State().Attached })
	time.Sleep(20 * time.Second)
	p.net.Heal(from, to)
	within(t, 6*time.Second, "both are attached again", func() bool { return a.State().Attached && b.State().Attached })
	if d := max(untilMore(t, a), untilMore(t, b)); d > 6*time.Second {
		t.Errorf("the first fragment comes %v after the heal", d)
	}
	time.Sleep(time.Second)
	there.finish()
	back.finish()
}

// An idle circuit is resumed too, and what is sent in the outage arrives.
func TestSentDuringAnOutage(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		time.Sleep(time.Minute)
		p.partition()
		time.Sleep(20 * time.Second)
		if a.State().Attached || b.State().Attached {
			t.Error("attached, with 20 s of silence")
		}
		const n = 100
		for i := range int64(n) {
			if a.SendOneWay(frag(i, "there")) != nil || b.SendOneWay(frag(i, "back")) != nil {
				t.Fatal("a detached circuit takes nothing")
			}
		}
		for a.SendOneWay(&circuit.Fragment{Payload: make([]byte, 64<<10)}) == nil {
		}
		if err := a.SendOneWay(frag(0, "")); err != circuit.ErrBacklog {
			t.Errorf("with a full window: %v", err)
		}
		p.rejoin()
		for i := range int64(n) {
			if f, g := <-a.Reads, <-b.Reads; f.FragPart != i || g.FragPart != i {
				t.Fatalf("parts %d and %d came, want %d", f.FragPart, g.FragPart, i)
			}
		}
	})
}
