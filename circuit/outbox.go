package circuit

import (
	"ckt.local/transport"
)

// An outbox holds the data frames that one side of a circuit has taken from
// its user and the other side has not acknowledged: first those that have
// been sent, then those that wait for credit. It is the replay buffer, the
// send queue and the count of what is unacknowledged in one. Its circuit's
// mutex guards it.
type outbox struct {
	pool *buffers
	once bool // nothing is sent a second time, so what is written need not be kept

	chunks []*chunk // oldest first; the last one is appended to
	at     int      // index of the chunk with the next byte to send
	last   uint64   // serial of the last fragment taken
	sent   uint64   // serial of the last fragment handed to the attachment
	most   uint64   // the highest that sent has been
	acked  uint64   // serial of the last fragment acknowledged

	cost     int    // of all frames held
	sentCost uint64 // of all frames up to sent
	freed    uint64 // of all frames that are not held any more
	credit   uint64 // a frame may be sent if sentCost does not exceed it then
	head     int    // what the next frame to be sent costs; 0: not known yet
	replayed int64  // frames that were sent again
}

// A chunk is a run of whole frames in one buffer.
type chunk struct {
	buf     []byte // never grows beyond its capacity: a writer may hold a part of it
	off     int    // bytes sent
	first   uint64 // serial of the first frame
	last    uint64 // serial of the last frame
	cost    int
	spent   int       // of it, for what is sent
	memory  *memory   // what buf is a part of; nil: a pooled buffer
	args    []argCost // of the frames with Args
	argsAt  int       // those before it belong to frames that are sent
	writers int       // flushers that have a slice of buf in their hands
	dropped bool      // the outbox holds it no longer
}

// argCost is what a fragment's Args cost beside its frame.
type argCost struct {
	serial uint64
	cost   int
}

// frameCost is what a data frame of size bytes with a number of pairs in Args
// costs of a window.
func frameCost(size, args int) int { return fragmentOverhead + size + args*argOverhead }

func (o *outbox) unacked() int { return int(o.last - o.acked) }

func (o *outbox) unsent() bool { return o.sent < o.last }

// unsentCost is what waits to be sent.
func (o *outbox) unsentCost() int { return int(o.freed + uint64(o.cost) - o.sentCost) }

// canSend reports whether take would give something.
func (o *outbox) canSend() bool {
	return o.unsent() && (o.next() <= o.credit || planted(bugCreditIgnored))
}

// next returns what sentCost will be after the next frame to be sent. There is
// one.
func (o *outbox) next() uint64 {
	if o.head == 0 {
		c := o.chunks[o.at]
		for c.off == len(c.buf) {
			o.at++
			c = o.chunks[o.at]
		}
		_, o.head = o.measure(c)
	}
	return o.sentCost + uint64(o.head)
}

// measure returns the size of the next frame of c, and what it costs.
func (o *outbox) measure(c *chunk) (size, cost int) {
	size, _ = transport.FrameSize(c.buf[c.off:], len(c.buf)) // own bytes: no error
	cost = frameCost(size, 0)
	if c.argsAt < len(c.args) && c.args[c.argsAt].serial == o.sent+1 {
		cost += c.args[c.argsAt].cost
	}
	return size, cost
}

// add appends a fragment as the next serial. The caller has checked the
// fragment's limits and the window.
func (o *outbox) add(w *wireFragment, payload []byte) error {
	w.Serial = o.last + 1
	most := transport.MaxFrameHeader + w.Msgsize() + len(payload)
	c := o.tail(most)
	start := len(c.buf)
	// The body is marshalled behind the longest header it can have and then
	// moved up to the header it has.
	body, err := w.append(c.buf[:start+transport.MaxFrameHeader])
	if err != nil {
		return err
	}
	body = append(body, payload...)
	n := len(body) - start - transport.MaxFrameHeader
	buf := transport.AppendFrameHeader(body[:start], frameData, n)
	copy(body[len(buf):], body[start+transport.MaxFrameHeader:])
	c.buf = body[:len(buf)+n]

	o.last = w.Serial
	c.last = w.Serial
	if c.first == 0 {
		c.first = w.Serial
	}
	if len(w.Args) > 0 {
		c.args = append(c.args, argCost{w.Serial, len(w.Args) * argOverhead})
	}
	cost := frameCost(len(c.buf)-start, len(w.Args))
	c.cost += cost
	o.cost += cost
	return nil
}

// tail returns a chunk with room for n more bytes.
func (o *outbox) tail(n int) *chunk {
	if len(o.chunks) > 0 {
		c := o.chunks[len(o.chunks)-1]
		if cap(c.buf)-len(c.buf) >= n {
			return c
		}
	}
	c := o.pool.chunks.get()
	if n <= bufSize {
		c.buf = o.pool.get()[:0]
	} else {
		c.memory = o.pool.allot(n)
		c.buf = c.memory.bytes[:0:n]
	}
	o.chunks = append(o.chunks, c)
	return c
}

// take returns the next bytes to send: whole frames of one chunk, as many as
// the credit lets start and, after the first, as limit has room for. The
// caller writes them and then calls written.
func (o *outbox) take(limit int) (*chunk, []byte) {
	if !o.canSend() {
		return nil, nil
	}
	for o.chunks[o.at].off == len(o.chunks[o.at].buf) {
		o.at++
	}
	c := o.chunks[o.at]
	start := c.off
	o.stepAll(c, limit)
	for c.off < len(c.buf) && o.canSend() && (c.off == start || c.off-start < limit) {
		o.step(c)
		if o.sent > o.most {
			o.most = o.sent
		} else {
			o.replayed++
		}
	}
	c.writers++
	return c, c.buf[start:c.off]
}

// stepAll moves the cursor over all frames of c at once, if the credit and limit
// have room for them.
func (o *outbox) stepAll(c *chunk, limit int) {
	rest := uint64(c.cost - c.spent)
	if len(c.buf)-c.off > limit || o.sentCost+rest > o.credit {
		return
	}
	o.replayed += int64(min(c.last, max(o.most, o.sent)) - o.sent)
	o.sentCost += rest
	o.sent, o.most, o.head = c.last, max(o.most, c.last), 0
	c.off, c.spent, c.argsAt = len(c.buf), c.cost, len(c.args)
}

// step moves the cursor over the next frame of c.
func (o *outbox) step(c *chunk) {
	size, cost := o.measure(c)
	c.off += size
	c.spent += cost
	o.sent++
	if c.argsAt < len(c.args) && c.args[c.argsAt].serial == o.sent {
		c.argsAt++
	}
	o.sentCost += uint64(cost)
	o.head = 0
}

// seek moves the cursor so that the fragment after serial is sent next. Serial
// is not below what is acknowledged.
func (o *outbox) seek(serial uint64) {
	if o.once || len(o.chunks) == 0 {
		return // everything up to last is acknowledged, or will never be sent
	}
	for _, c := range o.chunks[:min(o.at+1, len(o.chunks))] {
		c.off, c.spent, c.argsAt = 0, 0, 0
	}
	o.at, o.sent, o.sentCost, o.head = 0, o.chunks[0].first-1, o.freed, 0
	for o.sent < serial {
		for o.chunks[o.at].off == len(o.chunks[o.at].buf) {
			o.at++
		}
		o.step(o.chunks[o.at])
	}
}

// written ends a take.
func (o *outbox) written(c *chunk) {
	c.writers--
	if planted(bugAckOnWrite) && !c.dropped {
		o.ack(o.sent)
	}
	spent := o.once && !c.dropped && c.off == len(c.buf) && c != o.chunks[len(o.chunks)-1]
	switch {
	case c.writers > 0:
	case c.dropped:
		o.recycle(c)
	case spent:
		o.free(c)
		c.off = 0
	}
}

// ack forgets what the other side has received. It reports false if serial
// was never sent.
func (o *outbox) ack(serial uint64) bool {
	if serial > o.most {
		return false
	}
	if serial <= o.acked {
		return true
	}
	o.acked = serial
	if serial > o.sent {
		o.seek(serial) // it was sent on an earlier attachment
	}
	n := 0
	for n < len(o.chunks) && o.chunks[n].last <= serial && o.chunks[n].off == len(o.chunks[n].buf) {
		o.cost -= o.chunks[n].cost
		o.freed += uint64(o.chunks[n].cost)
		n++
	}
	o.drop(n)
	return true
}

// clear forgets everything that waits, acknowledged or not.
func (o *outbox) clear() {
	o.drop(len(o.chunks))
	o.freed += uint64(o.cost)
	o.cost, o.sentCost = 0, o.freed
	o.sent, o.most, o.head = o.last, o.last, 0
}

func (o *outbox) drop(n int) {
	for _, c := range o.chunks[:n] {
		c.dropped = true
		if c.writers == 0 {
			o.recycle(c)
		}
	}
	left := copy(o.chunks, o.chunks[n:]) // in place: the list is short, and is used again
	clear(o.chunks[left:])
	o.chunks = o.chunks[:left]
	o.at = max(0, o.at-n)
	if left == 0 {
		o.at = 0
		if cap(o.chunks) > idleChunks {
			o.chunks = nil
		}
	}
}

// idleChunks is how long a list of chunks an idle circuit keeps.
const idleChunks = 4

// free gives the buffer of a chunk back, which nobody writes from any more.
func (o *outbox) free(c *chunk) {
	if c.memory != nil {
		c.memory.free()
		c.memory = nil
	} else {
		o.pool.put(c.buf)
	}
	c.buf = nil
}

// recycle gives all of a chunk back, which nobody knows any more.
func (o *outbox) recycle(c *chunk) {
	o.free(c)
	*c = chunk{}
	o.pool.chunks.put(c)
}
