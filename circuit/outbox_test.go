package circuit

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"ckt.local/transport"
)

// An outboxModel is what an outbox ought to be, without chunks and cursors: a
// list of frames and three numbers.
type outboxModel struct {
	t      *testing.T
	o      outbox
	frames [][]byte // the first one with serial 1
	costs  []int

	acked, sent, most uint64
	credit            uint64
	replayed          int64
	out               []taken
	cleared           bool
}

// taken is what take has given and written has not had back.
type taken struct {
	c    *chunk
	b    []byte
	copy []byte
}

// costUpTo is what the fragments up to serial cost in sum.
func (m *outboxModel) costUpTo(serial uint64) (sum uint64) {
	for _, c := range m.costs[:serial] {
		sum += uint64(c)
	}
	return sum
}

func (m *outboxModel) last() uint64 { return uint64(len(m.frames)) }

func (m *outboxModel) add(size, args int) {
	if m.cleared {
		return // nothing is sent any more
	}
	w := &wireFragment{Op: int64(size)}
	for i := range args {
		if w.Args == nil {
			w.Args = map[string]string{}
		}
		w.Args[string(rune('a'+i))] = ""
	}
	payload := bytes.Repeat([]byte{byte(m.last() + 1)}, size)
	if err := m.o.add(w, payload); err != nil {
		m.t.Fatal(err)
	}
	m.frames = append(m.frames, payload)
	c := m.o.chunks[len(m.o.chunks)-1]
	n := 0
	for rest := c.buf; len(rest) > 0; rest = rest[n:] { // the frame is the last one of the last chunk
		n, _ = transport.FrameSize(rest, len(rest))
	}
	m.costs = append(m.costs, frameCost(n, args))
}

// take checks that what is given are the next frames, as many as may go.
func (m *outboxModel) take(limit int) {
	c, b := m.o.take(limit)
	may := m.sent < m.last() && m.costUpTo(m.sent+1) <= m.credit
	if (c != nil) != may || (len(b) > 0) != may {
		m.t.Fatalf("take gives %d bytes; sent %d of %d with credit %d", len(b), m.sent, m.last(), m.credit)
	}
	if !may {
		return
	}
	m.out = append(m.out, taken{c, b, bytes.Clone(b)})
	for at := 0; at < len(b); {
		typ, body, n, err := transport.ParseFrame(b[at:], 1<<20)
		var w wireFragment
		var payload []byte
		if err == nil && n > 0 && typ == frameData {
			payload, err = w.UnmarshalMsg(body)
		}
		switch {
		case err != nil || n == 0 || w.Serial != m.sent+1 || !bytes.Equal(payload, m.frames[m.sent]):
			m.t.Fatalf("fragment %d, %v, after %d", w.Serial, err, m.sent)
		case at > 0 && at >= limit:
			m.t.Fatalf("a frame begins after %d bytes, over the limit of %d", at, limit)
		case m.costUpTo(m.sent+1) > m.credit:
			m.t.Fatalf("fragment %d is sent without credit", w.Serial)
		}
		at += n
		m.sent++
		if m.sent > m.most {
			m.most = m.sent
		} else {
			m.replayed++
		}
	}
}

// written gives back what was taken first, or last: there may be two writers.
func (m *outboxModel) written(first bool) {
	if len(m.out) == 0 {
		return
	}
	i := len(m.out) - 1
	if first {
		i = 0
	}
	w := m.out[i]
	if !bytes.Equal(w.b, w.copy) {
		m.t.Fatal("what is being written has changed")
	}
	m.out = slices.Delete(m.out, i, i+1)
	m.o.written(w.c)
}

func (m *outboxModel) ack(serial uint64) {
	if ok := m.o.ack(serial); ok != (serial <= m.most) {
		m.t.Fatalf("ack of %d: %v, and %d are sent", serial, ok, m.most)
	}
	if serial <= m.most {
		m.acked = max(m.acked, serial)
		m.sent = max(m.sent, m.acked)
	}
}

func (m *outboxModel) seek() {
	m.o.seek(m.o.acked)
	if !m.o.once && !m.cleared {
		m.sent = m.acked
	}
}

func (m *outboxModel) clear() {
	m.o.clear()
	m.cleared = true
	m.sent, m.most = m.last(), m.last()
}

func (m *outboxModel) check() {
	o := &m.o
	if o.last != m.last() || o.acked != m.acked || o.sent != m.sent || o.most != m.most || o.replayed != m.replayed {
		m.t.Fatalf("last %d, acked %d, sent %d, most %d, replayed %d; want %d, %d, %d, %d, %d",
			o.last, o.acked, o.sent, o.most, o.replayed, m.last(), m.acked, m.sent, m.most, m.replayed)
	}
	if sum := m.costUpTo(m.sent); o.sentCost != sum {
		m.t.Fatalf("sent %d at a cost of %d, want %d", m.sent, o.sentCost, sum)
	}
	all, held := m.costUpTo(m.last()), uint64(0)
	for _, c := range o.chunks {
		held += uint64(c.cost)
	}
	least := all - m.costUpTo(m.acked)
	if m.cleared {
		least = 0
	}
	if uint64(o.cost) != held || held < least || o.freed+held != all {
		m.t.Fatalf("%d are held at a cost of %d, counted %d, freed %d of %d", least, held, o.cost, o.freed, all)
	}
	// Only the chunk that the first one of them is in may hold more.
	if len(o.chunks) > 0 && !m.cleared && o.chunks[0].last <= m.acked && o.chunks[0].off == len(o.chunks[0].buf) {
		m.t.Fatalf("%d is acknowledged and kept", o.chunks[0].last)
	}
	if o.unsentCost() != int(all-o.sentCost) || o.unsent() != (m.sent < m.last()) {
		m.t.Fatalf("%d wait to be sent, want %d", o.unsentCost(), all-o.sentCost)
	}
}

// run takes two bytes for each step.
func (m *outboxModel) run(data []byte) {
	for ; len(data) >= 2; data = data[2:] {
		arg := int(data[1])
		switch data[0] % 10 {
		case 0, 1:
			m.add(arg*8, 0)
		case 2:
			m.add(arg*700, arg%4) // up to several chunks
		case 3, 4:
			m.take(1 + arg*256)
		case 5:
			m.written(arg&1 == 0)
		case 6:
			if m.most >= m.acked {
				m.ack(m.acked + uint64(arg)%(m.most-m.acked+2)) // also one too many
			}
		case 7:
			m.seek()
		case 8:
			m.credit = m.costUpTo(m.sent) + uint64(arg)<<8
			if arg&3 == 0 {
				m.credit /= 2 // another side after a resume
			}
			m.o.credit = m.credit
		case 9:
			if arg == 255 {
				m.clear()
			}
		}
		m.check()
	}
	for len(m.out) > 0 {
		m.written(true)
	}
	m.check()
}

func newOutboxModel(t *testing.T, once bool) *outboxModel {
	m := &outboxModel{t: t, credit: 1 << 20}
	m.o = outbox{pool: &buffers{}, once: once, credit: m.credit}
	return m
}

func FuzzOutbox(f *testing.F) {
	f.Add(false, []byte{0, 9, 0, 9, 3, 0, 5, 0, 7, 0, 3, 255, 6, 1, 3, 0, 6, 255})
	f.Add(true, []byte{0, 9, 2, 99, 3, 0, 5, 0, 7, 0, 3, 255, 6, 1, 9, 255, 5, 0})
	f.Add(false, []byte{2, 255, 2, 255, 3, 255, 3, 255, 7, 0, 6, 1, 3, 1, 5, 1, 5, 1, 2, 255, 3, 9})
	f.Add(false, []byte{8, 4, 1, 255, 1, 255, 1, 255, 3, 255, 8, 3, 3, 255, 7, 0, 8, 1, 3, 255, 6, 3})
	f.Fuzz(func(t *testing.T, once bool, data []byte) {
		if len(data) <= 400 {
			newOutboxModel(t, once).run(data)
		}
	})
}

func TestOutboxAtRandom(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		data := make([]byte, 300)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		newOutboxModel(t, seed%4 == 0).run(data)
	}
}
