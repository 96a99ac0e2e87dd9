package circuit

import (
	"bytes"
	"io"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime/metrics"
	"strings"
	"testing"

	"ckt.local/transport"
)

// A chunkReader gives data in pieces of random sizes, as a network does.
type chunkReader struct {
	data []byte
	rnd  *rand.Rand
}

func newChunkReader(data []byte, seed uint64) *chunkReader {
	return &chunkReader{data: data, rnd: rand.New(rand.NewPCG(seed, 0))}
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	most := 1 << r.rnd.IntN(18)
	n := copy(p, r.data[:min(len(r.data), 1+r.rnd.IntN(most))])
	r.data = r.data[n:]
	return n, nil
}

// tupleOf returns an empty tuple of a frame's type, nil if there is none.
func tupleOf(typ transport.FrameType) wire {
	switch typ {
	case frameSettings:
		return &wireSettings{}
	case frameAck:
		return &wireAcks{}
	case framePing:
		return &wirePing{}
	case framePong:
		return &wirePong{}
	case frameResumed:
		return &wireResumed{}
	case frameYield:
		return &wireYield{}
	case frameWant:
		return &wireWant{}
	case frameOpen:
		return &wireOpen{}
	case frameAccept:
		return &wireAccept{}
	case frameRefuse:
		return &wireRefuse{}
	case frameData:
		return &wireFragment{}
	case frameFin:
		return &wireFin{}
	}
	return nil
}

// allocated is how many bytes the process has ever allocated.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// readAsALink reads frames until the first fault, as a link does, and checks
// each tuple.
func readAsALink(t *testing.T, data []byte, limit int, seed uint64) error {
	fr := frameReader{r: newChunkReader(data, seed), pool: &buffers{}, limit: int32(limit)}
	defer fr.release()
	for {
		typ, body, err := fr.next()
		if most := bufSize + 4*len(data); cap(fr.buf) > most {
			t.Fatalf("%d bytes of input got a buffer of %d", len(data), cap(fr.buf))
		}
		if err != nil {
			return err
		}
		if len(body)+1 > limit {
			t.Fatalf("a frame of %d bytes is over the limit of %d", len(body)+1, limit)
		}
		tuple := tupleOf(typ)
		if tuple == nil {
			continue
		}
		rest, err := tuple.UnmarshalMsg(body)
		if w, ok := tuple.(*wireFragment); ok {
			var short wireFragment
			payload, shortErr := short.parse(body)
			if (err == nil) != (shortErr == nil) || err == nil && (!bytes.Equal(payload, rest) || !reflect.DeepEqual(&short, w)) {
				t.Fatalf("read the short way: %+v, %d bytes, %v; else: %+v, %d bytes, %v", short, len(payload), shortErr, w, len(rest), err)
			}
		}
		if err != nil {
			return err
		}
		again := tupleOf(typ)
		b, err := tuple.MarshalMsg(nil)
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", tuple, err)
		}
		if left, err := again.UnmarshalMsg(b); err != nil || len(left) > 0 || !reflect.DeepEqual(tuple, again) {
			t.Fatalf("%+v was read, and written and read again is %+v, %d bytes left, %v", tuple, again, len(left), err)
		}
		if len(rest) > 0 && typ != frameData {
			return io.ErrUnexpectedEOF
		}
	}
}

func FuzzFrames(f *testing.F) {
	var all []byte
	for i, g := range golden() {
		f.Add(g.bytes(), uint64(i), uint(0))
		f.Add(g.bytes()[:len(g.bytes())/2], uint64(i), uint(0))
		all = append(all, g.bytes()...)
	}
	f.Add(all, uint64(99), uint(3))
	f.Add([]byte{0xff, 0xff, 0xff, 0x7f, byte(frameData)}, uint64(0), uint(0))
	f.Add([]byte{0x80, 0x80, 0x80, 0x20, byte(frameData), 0x96}, uint64(0), uint(100))                          // claims 64 MiB
	f.Add([]byte{0x20, byte(frameFin), 0x93, 0, 0xc3, 0xdb, 0x7f, 0xff, 0xff, 0xff}, uint64(0), uint(50))       // a string of 2 GiB
	f.Add([]byte{0x08, byte(frameAck), 0x91, 0xdd, 0xff, 0xff, 0xff, 0xff}, uint64(0), uint(1))                 // 2³² acks
	f.Add([]byte{0x0c, byte(frameData), 0x96, 1, 0, 0xa0, 0, 0xdf, 0xff, 0xff, 0xff, 0xff}, uint64(0), uint(1)) // 2³² args
	f.Add([]byte{0xc0, 0xb8, 0x02, byte(frameData), 0x96, 1, 0, 0xa0, 0, 0xc0, 0xa0}, uint64(1), uint(40_000))  // longer than a pooled buffer
	f.Add([]byte{0xc0, 0xb8, 0x02, 0x80}, uint64(2), uint(40_010))                                              // to be skipped
	f.Add([]byte{0x80, 0x80, 0x02, byte(frameData)}, uint64(3), uint(bufSize))                                  // as long as one
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, zeros uint) {
		// Long frames come of zeros behind the input: a long input takes the
		// fuzzer too long to vary.
		data = append(data[:len(data):len(data)], make([]byte, zeros%(8*bufSize))...)
		for _, limit := range []int{maxSmallFrame, (1 << 20) + maxDataOverhead, (64 << 20) + maxDataOverhead} {
			before := allocated()
			readAsALink(t, data, limit, seed)
			if got, most := allocated()-before, uint64(2<<20+64*len(data)); got > most {
				t.Fatalf("%d bytes of input made %d bytes of garbage, over %d", len(data), got, most)
			}
		}
	})
}

// What the fuzz target says about allocation, measured: a length of 64 MiB and
// a few bytes get a small buffer.
func TestClaimedLengthsAllocateNothing(t *testing.T) {
	b := transport.AppendFrameHeader(nil, frameData, 64<<20)
	b = append(b, 0x96, 1, 0, 0xa0, 0, 0xc0, 0xa0)
	before := allocated()
	for seed := range uint64(100) {
		err := readAsALink(t, b, 64<<20+maxDataOverhead, seed)
		if err != io.ErrUnexpectedEOF {
			t.Fatalf("half a frame: %v", err)
		}
	}
	if got := (allocated() - before) / 100; got > 2*bufSize {
		t.Errorf("a claim of 64 MiB allocates %d bytes", got)
	}
}

func FuzzFragment(f *testing.F) {
	f.Add(int64(0), "", int64(0), "", "", []byte(nil), uint(1), uint64(1))
	f.Add(int64(-1), "subject", int64(1)<<60, "k=v\nk2=v2", "error", []byte("payload"), uint(1), uint64(2))
	f.Add(int64(1)<<62, strings.Repeat("s", maxSubject), int64(-1)<<63, strings.Repeat("k=v\n", 70), "e", []byte("p"), uint(3*bufSize), uint64(3))
	f.Add(int64(7), "\xff\xfe", int64(0), "=\x00\xff\n"+strings.Repeat("k", maxArgKey)+"=v", "\x80", []byte{0}, uint(bufSize-10), uint64(4))
	f.Fuzz(func(t *testing.T, op int64, subject string, part int64, pairs, errText string, payload []byte, times uint, seed uint64) {
		if len(payload) > 0 {
			payload = bytes.Repeat(payload, 1+int(times%uint(1+4*bufSize/len(payload))))
		}
		args := map[string]string{}
		for line := range strings.Lines(pairs) {
			k, v, _ := strings.Cut(line, "=")
			args[k] = v
		}
		if len(args) == 0 {
			args = nil
		}
		if (sizes{1 << 30, maxArgs, maxArgsTotal, maxErr}).check(&wireFragment{Subject: subject, Err: errText, Args: args}, 0) != nil {
			return
		}
		const copies = 3
		data := outboxBytes(t, copies, &wireFragment{Op: op, Subject: subject, Part: part, Args: args, Err: errText}, payload)
		fr := frameReader{r: newChunkReader(data, seed), pool: &buffers{}, limit: int32(len(payload) + maxDataOverhead)}
		for serial := uint64(1); serial <= copies; serial++ {
			typ, body, err := fr.next()
			if err != nil || typ != frameData {
				t.Fatalf("frame %d: type %#x, %v", serial, byte(typ), err)
			}
			var w wireFragment
			got, err := w.parse(body)
			if err != nil || w.Serial != serial || w.Op != op || w.Subject != subject || w.Part != part ||
				w.Err != errText || !maps.Equal(w.Args, args) || !bytes.Equal(got, payload) {
				t.Fatalf("fragment %d came as %+v with %d bytes, %v", serial, w, len(got), err)
			}
		}
		if _, _, err := fr.next(); err != io.EOF {
			t.Fatalf("after the last fragment: %v", err)
		}
	})
}

// outboxBytes sends a fragment several times through an outbox whose credit
// comes in small pieces, and returns what would be written.
func outboxBytes(t *testing.T, copies int, w *wireFragment, payload []byte) []byte {
	o := outbox{pool: &buffers{}}
	for range copies {
		again := *w
		if err := o.add(&again, payload); err != nil {
			t.Fatal(err)
		}
	}
	var data []byte
	for o.unsent() {
		o.credit = o.next() // one more fragment
		c, b := o.take(bufSize)
		data = append(data, b...)
		o.written(c)
	}
	if sum := copies*(fragmentOverhead+len(w.Args)*argOverhead) + len(data); o.cost != sum || o.sentCost != uint64(sum) || o.unacked() != copies {
		t.Fatalf("%d fragments in %d bytes cost %d, sent %d, %d unacknowledged", copies, len(data), o.cost, o.sentCost, o.unacked())
	}
	if o.ack(o.last+1) || !o.ack(1) || !o.ack(o.last) || o.cost != 0 || len(o.chunks) != 0 {
		t.Fatalf("acknowledged, it still costs %d in %d chunks", o.cost, len(o.chunks))
	}
	return data
}
