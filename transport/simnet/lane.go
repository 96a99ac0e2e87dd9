package simnet

import (
	"slices"
	"time"
)

// maxCopies is how many times one packet arrives at most.
const maxCopies = 2

// A lane is the state of one direction. Network.mu guards all of it.
//
// A lane knows neither sockets nor clocks: it is told the time and says when
// what arrives, so that a new kind of fault is a change here alone.
type lane struct {
	Direction
	area *area
	key  uint64 // the lane's share of the seed

	link  *Link // nil: the network's default
	cut   bool
	burst burst

	free    time.Duration // when the last byte accepted so far has left
	waiting []departure   // packets that have not begun to leave, in order
	backlog int           // bytes in waiting

	count Counters // count.Sent is also the ordinal of the latest packet
}

// A burst says whether a lane is losing packets in a row.
type burst struct {
	on    bool
	since time.Duration
}

// hits steps from one packet to the next and says whether the burst takes this
// one. Every packet counts, also one that is dropped for another reason: what
// the queue does must not shift what the burst does.
func (b *burst) hits(now time.Duration, cfg Burst, draw draws) bool {
	if !(cfg.Enter > 0) {
		b.on = false
		return false
	}
	limit, loss := cfg.Limit, cfg.Loss
	if limit == 0 {
		limit = DefaultBurstLimit
	}
	if loss == 0 {
		loss = 1
	}
	if b.on && limit > 0 && now-b.since >= limit {
		b.on = false
	}
	if !b.on {
		if !draw.chance(drawBurst, cfg.Enter) {
			return false
		}
		b.on, b.since = true, now
	}
	if draw.chance(drawBurstEnd, 1/max(cfg.Length, 1)) {
		b.on = false
	}
	return draw.chance(drawBurstLoss, loss)
}

// A departure is a packet that waits for its turn to leave.
type departure struct {
	start time.Duration
	size  int
}

// An arrival is one copy of a packet, and when it is there.
type arrival struct {
	due     time.Duration
	payload []byte
	damaged bool
}

// carry takes one packet and says what becomes of it: the copies that arrive,
// or why there is none. It owns payload from here on.
func (l *lane) carry(now time.Duration, link Link, payload []byte) (arrivals [maxCopies]arrival, copies int, fate Fate) {
	draw := packetDraws(l.key, l.count.Sent)
	burst := l.burst.hits(now, link.Burst, draw)
	left, fate := l.depart(now, link, len(payload))
	switch {
	case fate != Delivered:
		return arrivals, 0, fate
	case draw.chance(drawLoss, link.Loss):
		return arrivals, 0, DroppedLoss
	case burst:
		return arrivals, 0, DroppedBurst
	}
	arrivals[0] = l.transit(left, link, payload, draw)
	if !draw.chance(drawDuplicate, link.Duplicate) {
		return arrivals, 1, Delivered
	}
	l.count.Duplicated++
	arrivals[1] = l.transit(left, link, payload, draw.again())
	return arrivals, 2, Delivered
}

// depart sends size bytes off and returns when the last of them has left, or
// why they never do.
func (l *lane) depart(now time.Duration, link Link, size int) (time.Duration, Fate) {
	switch {
	case l.cut:
		return 0, DroppedCut
	case link.MTU > 0 && size > link.MTU:
		return 0, DroppedMTU
	}
	start := max(now, l.free)
	if link.Bandwidth <= 0 {
		return start, Delivered // after what a former limit still holds back
	}
	if start > now && !l.queue(now, start, link, size) {
		return 0, DroppedQueue
	}
	l.free = start + transmission(size, link.Bandwidth)
	return l.free, Delivered
}

// queue lets a packet wait until start, if there is room.
func (l *lane) queue(now, start time.Duration, link Link, size int) bool {
	for len(l.waiting) > 0 && l.waiting[0].start <= now {
		l.backlog -= l.waiting[0].size
		l.waiting = l.waiting[1:]
	}
	room := link.Queue
	if room == 0 {
		room = DefaultQueue
	}
	if room > 0 && l.backlog+size > room {
		return false
	}
	l.waiting = append(l.waiting, departure{start: start, size: size})
	l.backlog += size
	return true
}

// transit is the way of one copy from the sender's end to the receiver's.
func (l *lane) transit(left time.Duration, link Link, payload []byte, draw draws) arrival {
	a := arrival{payload: payload}
	if len(payload) > 0 && draw.chance(drawCorrupt, link.Corrupt) {
		l.count.Corrupted++
		a.payload, a.damaged = corrupted(payload, draw), true
	}
	a.due = left + max(link.Latency, 0) + time.Duration(draw.below(drawJitter, uint64(max(link.Jitter, 0))+1))
	if draw.chance(drawReorder, link.Reorder) {
		l.count.HeldBack++
		a.due += max(link.ReorderDelay, 0)
	}
	return a
}

// drain forgets what waits to leave.
func (l *lane) drain() {
	l.free, l.waiting, l.backlog = 0, nil, 0
}

// corrupted returns a damaged copy: the other copy of the packet may be whole.
func corrupted(payload []byte, draw draws) []byte {
	p := slices.Clone(payload)
	p[draw.below(drawPlace, uint64(len(p)))] ^= byte(1 + draw.below(drawMask, 255))
	return p
}

// transmission is how long size bytes take at a bandwidth above zero, rounded
// up so that no packet is free.
func transmission(size int, bandwidth int64) time.Duration {
	work := int64(size) * int64(time.Second)
	took := work / bandwidth
	if work%bandwidth > 0 {
		took++
	}
	return time.Duration(took)
}
