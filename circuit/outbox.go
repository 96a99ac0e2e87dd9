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
	pool *bufPool

	chunks []*chunk // oldest first; the last one is appended to
	at     int      // index of the chunk with the next byte to send
	last   uint64   // serial of the last fragment taken
	sent   uint64   // serial of the last fragment handed to the stream
	acked  uint64   // serial of the last fragment acknowledged

	cost     int    // of all frames held
	sentCost uint64 // of all frames ever sent
	credit   uint64 // a frame may be sent while sentCost is below it
}

// A chunk is a run of whole frames in one buffer.
type chunk struct {
	buf     []byte // never grows beyond its capacity: a writer may hold a part of it
	off     int    // bytes sent
	first   uint64 // serial of the first frame
	last    uint64 // serial of the last frame
	cost    int
	args    []argCost // of the frames with Args that are not sent yet
	writing bool      // the flusher has a slice of buf in its hands
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

// canSend reports whether take would give something.
func (o *outbox) canSend() bool { return o.unsent() && o.sentCost < o.credit }

// add appends a fragment as the next serial. The caller has checked the
// fragment's limits and the window.
func (o *outbox) add(w *wireFragment, payload []byte) error {
	w.Serial = o.last + 1
	most := transport.MaxFrameHeader + w.Msgsize() + len(payload)
	c := o.tail(most)
	start := len(c.buf)
	// The body is marshalled behind the longest header it can have and then
	// moved up to the header it has.
	body, err := w.MarshalMsg(c.buf[:start+transport.MaxFrameHeader])
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
	c := &chunk{}
	if n <= bufSize {
		c.buf = o.pool.get()[:0]
	} else {
		c.buf = make([]byte, 0, n)
	}
	o.chunks = append(o.chunks, c)
	return c
}

// take returns the next bytes to send: whole frames of one chunk, as many as
// the credit lets start. The caller writes them and then calls written.
func (o *outbox) take() (*chunk, []byte) {
	if !o.canSend() {
		return nil, nil
	}
	for o.chunks[o.at].off == len(o.chunks[o.at].buf) {
		o.at++
	}
	c := o.chunks[o.at]
	start := c.off
	for c.off < len(c.buf) && o.sentCost < o.credit {
		size, _ := transport.FrameSize(c.buf[c.off:], len(c.buf)) // own bytes: no error
		c.off += size
		o.sent++
		o.sentCost += uint64(frameCost(size, 0) + c.argsOf(o.sent))
	}
	c.writing = true
	return c, c.buf[start:c.off]
}

// argsOf returns the cost of the Args of the frame that is sent next, and
// forgets it.
func (c *chunk) argsOf(serial uint64) int {
	if len(c.args) == 0 || c.args[0].serial != serial {
		return 0
	}
	cost := c.args[0].cost
	c.args = c.args[1:]
	return cost
}

// written ends a take.
func (o *outbox) written(c *chunk) {
	c.writing = false
	if c.last <= o.acked {
		o.pool.put(c.buf)
	}
}

// ack forgets what the other side has received. It reports false if serial
// was never sent.
func (o *outbox) ack(serial uint64) bool {
	if serial > o.sent {
		return false
	}
	if serial <= o.acked {
		return true
	}
	o.acked = serial
	n := 0
	for n < len(o.chunks) && o.chunks[n].last <= serial && o.chunks[n].off == len(o.chunks[n].buf) {
		c := o.chunks[n]
		o.cost -= c.cost
		if !c.writing {
			o.pool.put(c.buf)
		}
		n++
	}
	o.drop(n)
	return true
}

// clear forgets everything that waits, acknowledged or not.
func (o *outbox) clear() {
	for _, c := range o.chunks {
		if !c.writing {
			o.pool.put(c.buf)
		}
	}
	o.drop(len(o.chunks))
	o.cost = 0
	o.sent = o.last
}

func (o *outbox) drop(n int) {
	clear(o.chunks[:n])
	o.chunks = o.chunks[n:]
	o.at = max(0, o.at-n)
	if len(o.chunks) == 0 {
		o.chunks, o.at = nil, 0
	}
}
