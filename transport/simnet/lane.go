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
	key uint64 // the lane's share of the seed

	link *Link // nil: the network's default
	cut  bool

	free    time.Duration // when the last byte accepted so far has left
	waiting []departure   // packets that have not begun to leave, in order
	backlog int           // bytes in waiting

	count Counters // count.Sent is also the ordinal of the latest packet
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
}

// carry takes one packet and returns what becomes of it: no arrivals if it is
// dropped, else one for each copy. It owns payload from here on.
func (l *lane) carry(now time.Duration, link Link, payload []byte) []arrival {
	l.count.Sent++
	l.count.SentBytes += uint64(len(payload))
	draw := packetDraws(l.key, l.count.Sent)

	left, ok := l.depart(now, link, len(payload))
	switch {
	case !ok: // depart has counted it
		return nil
	case draw.chance(drawLoss, link.Loss):
		l.count.Dropped.Loss++
		return nil
	}
	arrivals := []arrival{l.transit(left, link, payload, draw)}
	if draw.chance(drawDuplicate, link.Duplicate) {
		l.count.Duplicated++
		arrivals = append(arrivals, l.transit(left, link, payload, draw.again()))
	}
	return arrivals
}

// depart sends size bytes off and returns when the last of them has left, or
// false if they never do.
func (l *lane) depart(now time.Duration, link Link, size int) (time.Duration, bool) {
	switch {
	case l.cut:
		l.count.Dropped.Cut++
		return 0, false
	case link.MTU > 0 && size > link.MTU:
		l.count.Dropped.MTU++
		return 0, false
	}
	start := max(now, l.free)
	if link.Bandwidth <= 0 {
		return start, true // after what a former limit still holds back
	}
	if start > now && !l.queue(now, start, link, size) {
		l.count.Dropped.Queue++
		return 0, false
	}
	l.free = start + transmission(size, link.Bandwidth)
	return l.free, true
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
	if len(payload) > 0 && draw.chance(drawCorrupt, link.Corrupt) {
		l.count.Corrupted++
		payload = corrupted(payload, draw)
	}
	delay := max(link.Latency, 0) + time.Duration(draw.below(drawJitter, uint64(max(link.Jitter, 0))+1))
	return arrival{due: left + delay, payload: payload}
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
