package peertest_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/limit"
	"ckt.local/transport/simnet"
)

// dice are what plans are drawn with.
type dice struct{ *rand.Rand }

func newDice(seed, stream uint64) dice { return dice{rand.New(rand.NewPCG(seed, stream))} }

func (d dice) chance(p float64) bool { return d.Float64() < p }

// between draws a duration, to the nanosecond, so that no two events coincide.
func (d dice) between(low, high time.Duration) time.Duration {
	return low + time.Duration(d.Int64N(int64(high-low)+1))
}

// magnitude draws a number between low and high whose logarithm is uniform:
// small ones are as likely as large ones.
func (d dice) magnitude(low, high float64) float64 {
	return low * math.Exp(d.Float64()*math.Log(high/low))
}

func (d dice) spread(low, high time.Duration) time.Duration {
	return time.Duration(d.magnitude(float64(low), float64(high)))
}

// newPlan draws the plan of a seed.
func newPlan(seed uint64) plan {
	d := newDice(seed, 1)
	p := plan{seed: seed, hosts: 2}
	if d.chance(0.4) {
		p.hosts = 3 + d.IntN(3)
	}
	p.circuit, p.limits = drawConfig(newDice(seed, 5))
	p.link.Latency = d.spread(time.Millisecond, 150*time.Millisecond)
	// Packets of one instant leave one after the other, and no two take the
	// same time: else timers of both sides would be due together, and Go lets
	// chance decide between them.
	p.link.Bandwidth, p.link.Queue, p.link.Jitter = 125e6, -1, time.Microsecond
	if d.chance(0.5) {
		p.link.Jitter = d.spread(time.Millisecond, 40*time.Millisecond)
	}
	active := d.spread(5*time.Second, 150*time.Second)
	p.behind, p.mover = -1, d.IntN(p.hosts)
	if d.chance(0.2) {
		// Who is behind a NAT can always find the others, and be found only
		// by those that know where it was. So the others stay where they are.
		p.behind = p.mover
		p.nat = simnet.NATConfig{Kind: simnet.NATKind(d.IntN(4)), InboundRefresh: d.chance(0.5)}
		p.nat.MappingTimeout = d.between(15*time.Second, 3*time.Minute)
	}
	if p.behind < 0 && d.chance(0.1) {
		p.mover = -1
		p.drawRoaming(newDice(seed, 2))
	} else {
		p.drawFaults(newDice(seed, 2), active)
	}
	p.calm = max(p.calm, active)
	p.drawCircuits(newDice(seed, 3), max(active, p.calm/2))
	p.drawSuperseding(newDice(seed, 4))
	return p
}

// drawConfig draws what the circuits of a world are to be like.
func drawConfig(d dice) (circuit.Config, limit.Limits) {
	cfg := circuit.Config{Linger: 2 * time.Minute}
	var l limit.Limits
	if d.chance(0.5) {
		cfg.Linger = d.between(20*time.Second, 90*time.Second)
	}
	if d.chance(0.4) {
		l.Circuit.Window = int(d.magnitude(2<<10, 256<<10))
	}
	if d.chance(0.2) {
		l.Circuit.MaxWindow = int(d.magnitude(1<<10, 1<<20))
	}
	if d.chance(0.2) {
		l.Circuit.Inbox = int64(d.magnitude(2<<20, 16<<20))
	}
	cfg.NoResume = d.chance(0.03)
	if d.chance(0.2) {
		l.Circuit.Replay = int64(d.magnitude(2<<20, 16<<20))
	}
	return cfg, l
}

// A faultDraw is one kind of fault, how often it comes and how it is drawn.
type faultDraw struct {
	weight int
	draw   func(d dice, p *plan) fault
}

func faultDraws() []faultDraw {
	return []faultDraw{
		{5, func(d dice, p *plan) fault { return fault{kind: faultCut, lasts: outage(d, p)} }},
		{4, func(d dice, p *plan) fault { return fault{kind: faultCutOneWay, lasts: outage(d, p)} }},
		{2, func(d dice, p *plan) fault { return fault{kind: faultIsolate, lasts: outage(d, p), b: -1} }},
		{1, func(d dice, p *plan) fault {
			return fault{kind: faultFlap, lasts: d.spread(time.Second, 30*time.Second)}
		}},
		{4, func(d dice, p *plan) fault {
			return fault{kind: faultRough, lasts: d.spread(time.Second, 60*time.Second), link: roughLink(d, p.link)}
		}},
		{1, func(d dice, p *plan) fault {
			l := p.link
			l.Bandwidth = int64(d.magnitude(16<<10, 256<<10))
			l.Queue = int(float64(l.Bandwidth) * d.magnitude(0.2, 2))
			return fault{kind: faultNarrow, lasts: d.spread(time.Second, 40*time.Second), link: l}
		}},
		{2, func(d dice, p *plan) fault {
			return fault{kind: faultKill, lasts: d.spread(10*time.Millisecond, 60*time.Second), b: -1}
		}},
		{1, func(d dice, p *plan) fault {
			return fault{kind: faultStop, lasts: d.spread(10*time.Millisecond, 20*time.Second), b: -1}
		}},
		{3, func(d dice, p *plan) fault { return fault{kind: faultMove, b: -1} }},
		{2, func(d dice, p *plan) fault { return fault{kind: faultRebind, b: -1} }},
	}
}

// outage draws how long a cut lasts: the eye-blink, the tunnel, and now and
// then more than circuits wait for.
func outage(d dice, p *plan) time.Duration {
	switch n := d.IntN(10); {
	case n < 4:
		return d.spread(20*time.Millisecond, 5*time.Second)
	case n < 9:
		return d.between(5*time.Second, 70*time.Second)
	}
	return p.circuit.Linger + d.between(2*time.Second, 30*time.Second)
}

// roughLink draws a link that loses, delays, repeats and damages.
func roughLink(d dice, l simnet.Link) simnet.Link {
	if d.chance(0.7) {
		l.Loss = d.magnitude(0.005, 0.2)
	}
	if d.chance(0.5) {
		l.Jitter = d.spread(5*time.Millisecond, 200*time.Millisecond)
	}
	if d.chance(0.3) {
		l.Burst = simnet.Burst{Enter: d.magnitude(0.0005, 0.02), Length: d.magnitude(2, 60)}
	}
	if d.chance(0.3) {
		l.Reorder, l.ReorderDelay = d.magnitude(0.01, 0.3), d.spread(time.Millisecond, 300*time.Millisecond)
	}
	if d.chance(0.4) {
		l.Duplicate = d.magnitude(0.005, 0.2)
	}
	if d.chance(0.3) {
		l.Corrupt = d.magnitude(0.002, 0.05)
	}
	return l
}

func (p *plan) drawFaults(d dice, active time.Duration) {
	p.calm = active
	draws := faultDraws()
	total := 0
	for _, fd := range draws {
		total += fd.weight
	}
	n := 1 + d.IntN(7)
	if d.chance(0.05) {
		n = 0
	}
	for range n {
		at := d.IntN(total)
		i := 0
		for at >= draws[i].weight {
			at -= draws[i].weight
			i++
		}
		f := draws[i].draw(d, p)
		f.at = d.between(0, active)
		f.a = d.IntN(p.hosts)
		if f.kind == faultRebind && p.behind < 0 {
			f.kind = faultMove
		}
		if f.kind == faultMove || f.kind == faultRebind {
			f.a = p.mover
		}
		if f.b == 0 {
			f.b = (f.a + 1 + d.IntN(p.hosts-1)) % p.hosts
		}
		p.faults = append(p.faults, f)
		p.calm = max(p.calm, f.at+f.lasts)
	}
	slices.SortFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	p.calm += d.between(0, time.Second)
}

// drawRoaming has all hosts change their addresses in turn, so that two of
// them always have time to find one another again.
func (p *plan) drawRoaming(d dice) {
	for range 2 + d.IntN(19) {
		p.calm += d.between(moveLimit+5*time.Second, moveLimit+20*time.Second)
		p.faults = append(p.faults, fault{kind: faultMove, at: p.calm, a: d.IntN(p.hosts), b: -1})
	}
	p.calm += moveLimit + time.Second
}

func (p *plan) drawCircuits(d dice, active time.Duration) {
	n := 1 + int(d.magnitude(1, 12))
	if d.chance(0.03) {
		n = 60
	}
	budget := int64(1200) // fragments, so that no seed takes much longer than others
	for id := range n {
		c := circuitPlan{id: id, from: d.IntN(p.hosts), first: d.chance(0.6), at: d.between(0, active)}
		if d.chance(0.5) {
			c.at = d.between(0, active/10)
		}
		c.again = d.chance(0.1)
		c.to = (c.from + 1 + d.IntN(p.hosts-1)) % p.hosts
		for side := range c.flows {
			c.flows[side] = drawFlow(d, min(budget/2, 300), active-c.at)
			budget -= c.flows[side].fragments
		}
		if c.first {
			c.flows[0].fragments++
		}
		c.close = closePlan{side: d.IntN(2), both: d.chance(0.1), reason: d.chance(0.3), after: d.between(0, active)}
		switch k := d.IntN(10); {
		case k < 6:
			c.close.when, c.close.after = closePolitely, d.between(0, time.Second)
		case k < 8:
			c.close.when = closeAbruptly
		default:
			c.close.when = closeMidway
		}
		p.circuits = append(p.circuits, c)
	}
}

func drawFlow(d dice, most int64, span time.Duration) flowPlan {
	f := flowPlan{send: sendMode(d.IntN(int(sendModes))), fragmentsLoop: d.chance(0.5)}
	if d.chance(0.1) || most < 2 {
		return f // nothing but a tail
	}
	f.fragments = int64(d.magnitude(1, float64(most)))
	switch k := d.IntN(100); {
	case k < 45:
		f.size = tiny
	case k < 80:
		f.size = small
	case k < 97:
		f.size, f.fragments = medium, min(f.fragments, 40)
	default:
		f.size, f.fragments = large, min(f.fragments, 3)
	}
	if d.chance(0.7) {
		f.gap = time.Duration(float64(span) * d.magnitude(0.01, 1) / float64(f.fragments))
	}
	if d.chance(0.2) {
		f.flushEvery = 1 + d.Int64N(20)
	}
	if d.chance(0.2) {
		f.errEvery = 1 + d.Int64N(10)
	}
	if d.chance(0.2) {
		f.readGap = d.spread(100*time.Microsecond, 500*time.Millisecond)
	}
	if d.chance(0.15) {
		f.stallAt, f.stall = 1+d.Int64N(f.fragments), d.spread(time.Second, 90*time.Second)
	}
	if d.chance(0.7) {
		f.tail = 1 + d.Int64N(3)
		f.fragments += f.tail
	}
	return f
}

func (p *plan) drawSuperseding(d dice) {
	if d.chance(0.5) {
		return
	}
	for range int(d.magnitude(1, 30)) {
		c := p.circuits[d.IntN(len(p.circuits))]
		p.moved = append(p.moved, superseding{d.between(c.at, max(c.at, p.calm)), c.id})
	}
}
