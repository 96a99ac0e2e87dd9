package circuit_test

import (
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/limit"
)

// credits returns the credit that the honest side has given each stream, when
// it has taken all control frames so far.
func (r *rawPeer) credits(nonce uint64, said transport.Stream) map[uint64]uint64 {
	r.t.Helper()
	write(r.t, r.control, pingFrame(nonce))
	given := map[uint64]uint64{}
	said.SetReadDeadline(time.Time{}) // there may be a lot to do before
	for {
		typ, body, err := transport.ReadFrame(said, 1<<20)
		if err != nil {
			r.t.Fatal(err)
		}
		switch typ {
		case framePong:
			if got, _, err := msgp.ReadUint64Bytes(body[1:]); err != nil || got == nonce {
				return given
			}
		case frameAck:
			n, body, err := msgp.ReadArrayHeaderBytes(body[1:])
			for range n {
				var ack [3]uint64
				_, body, _ = msgp.ReadArrayHeaderBytes(body)
				for i := range ack {
					ack[i], body, err = msgp.ReadUint64Bytes(body)
				}
				given[ack[0]] = ack[2]
			}
			if err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// hoard opens circuits that nobody reads, goes on with each as told, and with
// those that get the credit for it once more. It returns by how much the heap
// has grown at the most since they were open.
func hoard(t *testing.T, circuits int, cfg circuit.Config, then func(r *rawPeer, s transport.Stream), rest []byte) (grown int64) {
	t.Helper()
	r := newRaw(t, cfg).settle()
	said := r.next(frameSettings)
	go takeAll(r.honest, func(*circuit.Circuit) {})
	streams := map[uint64]transport.Stream{}
	for range circuits {
		s := r.stream(newOpening().frame())
		wantFrame(t, s, frameAccept)
		streams[s.ID()] = s
	}
	before := int64(heap())
	look := func() { grown = max(grown, int64(heap())-before) }
	n := 0
	for _, s := range streams {
		if then(r, s); n%(circuits/16) == 0 {
			look()
		}
		n++
	}
	rich := 0
	for id, credit := range r.credits(1<<50, said) {
		if s := streams[id]; s != nil && credit > 1<<20 {
			write(t, s, rest)
			rich++
		}
	}
	r.credits(1<<51, said)
	for range 4 {
		look()
	}
	t.Logf("%d circuits, %d with a long fragment each: %d MiB", circuits, rich, grown>>20)
	return grown
}

// What a node may have waiting here is bounded, however many circuits it has
// and however long the fragments are that it begins.
func TestUnreadCircuitsTakeNoMoreThanTheirNodeMay(t *testing.T) {
	const beside = 64 << 20
	perNode, many := int64(256<<20), 10_000
	if raceDetector { // which makes each circuit ten times as slow
		perNode, many = 64<<20, 2000
	}
	cfg := circuit.Config{Silence: 5 * time.Minute, Ledger: circuit.Bounded(limit.Circuit{InboxPerNode: perNode})}
	whole := dataFrame(1, make([]byte, 1<<20))
	const first = 15 << 10 // what the first credit is enough for
	for _, tc := range []struct {
		name     string
		circuits int
		most     int64
		then     func(r *rawPeer, s transport.Stream)
	}{
		{"wanted", many, perNode + beside, func(r *rawPeer, s transport.Stream) {
			write(r.t, r.control, wantCredit(s.ID(), 0, 1_100_000, 1<<63))
		}},
		{"begun without credit", 200, beside, func(_ *rawPeer, s transport.Stream) {
			s.Write(whole[:len(whole)-1]) // the circuit may be at fault by then
		}},
		{"to be skipped", 200, beside, func(_ *rawPeer, s transport.Stream) {
			s.Write(frameOf(0x80, make([]byte, 1<<20))[:1<<20])
		}},
		{"short of one byte", many, perNode + beside, func(r *rawPeer, s transport.Stream) {
			write(r.t, s, dataFrame(1, make([]byte, first))[:first])
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if grown := hoard(t, tc.circuits, cfg, tc.then, whole); grown > tc.most {
				t.Errorf("%d MiB, want at most %d; the node may have %d waiting", grown>>20, tc.most>>20, perNode>>20)
			}
		})
	}
}
