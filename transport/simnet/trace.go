package simnet

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"
)

// A Fate is what becomes of a packet, or of one of its copies: it is delivered,
// or dropped for the cause of that name in [Drops].
type Fate uint8

// The fates of a packet.
const (
	Delivered Fate = iota
	DroppedCut
	DroppedMTU
	DroppedQueue
	DroppedLoss
	DroppedBurst
	DroppedVanished
	DroppedMoved
	DroppedNAT
	DroppedNoSocket
	DroppedBuffer
	DroppedClosed
)

// String returns the fate in one word.
func (f Fate) String() string {
	names := [...]string{
		"delivered", "cut", "mtu", "queue", "loss", "burst",
		"vanished", "moved", "nat", "no-socket", "buffer", "closed",
	}
	if int(f) < len(names) {
		return names[f]
	}
	return fmt.Sprintf("Fate(%d)", uint8(f))
}

// An Event is one packet, or one of its copies, that has met its fate. Times
// count from [New]. Addresses are those on the link: of a host behind a [NAT]
// it shows that of the NAT.
type Event struct {
	Sent, At time.Duration
	From, To netip.AddrPort
	Len      int // of the payload
	Damaged  bool
	Fate     Fate
}

// String returns the event in one line without a newline.
func (e Event) String() string {
	damaged := ""
	if e.Damaged {
		damaged = " damaged"
	}
	return fmt.Sprintf("%.9f %v > %v %d %v%s, sent %.9f",
		e.At.Seconds(), e.From, e.To, e.Len, e.Fate, damaged, e.Sent.Seconds())
}

// A Trace is a list of events in the order of their time, and those of one
// instant in the order of their addresses.
type Trace []Event

// Dump writes the trace, an event a line.
func (t Trace) Dump(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, e := range t {
		b.WriteString(e.String())
		b.WriteByte('\n')
	}
	return b.Flush()
}

// Diff returns the first difference between two traces in words, or the empty
// string if they are equal.
func (t Trace) Diff(other Trace) string {
	for i := range max(len(t), len(other)) {
		if i < len(t) && i < len(other) && t[i] == other[i] {
			continue
		}
		return fmt.Sprintf("event %d of %d and %d:\n%s\n%s", i, len(t), len(other), t.line(i), other.line(i))
	}
	return ""
}

func (t Trace) line(i int) string {
	if i < len(t) {
		return t[i].String()
	}
	return "(the trace has ended)"
}

// A recorder keeps the last events.
type recorder struct {
	limit  int // below zero: no limit
	events []Event
	next   int // where the oldest one is, once there are limit events
}

func (r *recorder) add(e Event) {
	if r.limit < 0 || len(r.events) < r.limit {
		r.events = append(r.events, e)
		return
	}
	r.events[r.next] = e
	r.next = (r.next + 1) % r.limit
}

// Record starts a [Trace]: from now on the last limit events are kept, or all
// if limit is below zero. Zero keeps none, which is how a network begins. What
// was kept before is forgotten.
func (n *Network) Record(limit int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.record = recorder{limit: limit}
}

// Trace returns what has been kept since [Network.Record]. It can be read after
// Close, with the packets in it that were in flight.
func (n *Network) Trace() Trace {
	n.mu.Lock()
	r := n.record
	t := slices.Concat(r.events[r.next:], r.events[:r.next])
	n.mu.Unlock()
	slices.SortStableFunc(t, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.At, b.At), a.From.Compare(b.From), a.To.Compare(b.To))
	})
	return t
}

// Fingerprint returns a hash over all events so far: times, addresses, lengths
// and fates, but not payloads, as encryption makes those different in each
// run. It costs next to nothing, needs no [Network.Record], and does not depend
// on the order of what happens at one instant in different directions. Two runs
// whose fingerprints are equal had the same traffic.
func (n *Network) Fingerprint() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	var sum uint64
	for _, a := range n.areas {
		for _, l := range a.lanes {
			sum += l.count.Trace
		}
	}
	return sum
}

// settle notes the fate of one packet. The caller holds n.mu.
func (n *Network) settle(f *flight, fate Fate) {
	now, c := n.now(), &f.lane.count
	c.settle(fate, len(f.payload))
	c.Trace += f.fingerprint(now, fate)
	if n.record.limit != 0 {
		n.record.add(Event{
			Sent: f.sent, At: now,
			From: f.from, To: f.to,
			Len: len(f.payload), Damaged: f.damaged,
			Fate: fate,
		})
	}
}

// fingerprint is the share of one packet. Shares are added up, so that their
// order does not matter. The lane's key stands for the addresses.
func (f *flight) fingerprint(now time.Duration, fate Fate) uint64 {
	what := uint64(f.from.Port())<<48 | uint64(f.to.Port())<<32 | uint64(len(f.payload))<<8 | uint64(fate)
	h := mix(f.lane.key + what)
	h = mix(h + uint64(f.sent))
	return mix(h + uint64(now))
}
