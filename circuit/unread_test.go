package circuit_test

import (
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/limit"
)

// hoard opens circuits that nobody reads, and goes on with each as told. It
// returns by how much the heap has grown at the most since they were open.
func hoard(t *testing.T, circuits int, cfg circuit.Config, then func(r *rawPeer, s transport.Stream)) (grown int64) {
	t.Helper()
	r := newRaw(t, cfg).settle()
	answered := r.awaitPong(1 << 50)
	go takeAll(r.honest, func(*circuit.Circuit) {})
	var streams []transport.Stream
	for range circuits {
		s := r.stream(newOpening().frame())
		wantFrame(t, s, frameAccept)
		streams = append(streams, s)
	}
	before := int64(heap())
	for i, s := range streams {
		if then(r, s); i%(circuits/16) == 0 {
			grown = max(grown, int64(heap())-before)
		}
	}
	write(t, r.control, pingFrame(1<<50))
	<-answered
	for range 4 {
		grown = max(grown, int64(heap())-before)
	}
	t.Logf("%d circuits: %d MiB", circuits, grown>>20)
	return grown
}

// What a node may have waiting here is bounded, however many circuits it has
// and however long the fragments are that it begins.
func TestUnreadCircuitsTakeNoMoreThanTheirNodeMay(t *testing.T) {
	const perNode, beside = 192 << 20, 64 << 20
	cfg := circuit.Config{Silence: 5 * time.Minute, Ledger: circuit.Bounded(limit.Circuit{InboxPerNode: perNode})}
	whole := dataFrame(1, make([]byte, 1<<20))
	for _, tc := range []struct {
		name     string
		circuits int
		most     int64
		then     func(r *rawPeer, s transport.Stream)
	}{
		{"wanted and sent as far as the first credit goes", 10_000, perNode + beside, func(r *rawPeer, s transport.Stream) {
			write(r.t, r.control, wantCredit(s.ID(), 0, 1_100_000, 1<<63))
			write(r.t, s, whole[:15<<10])
		}},
		{"begun without credit", 200, beside, func(_ *rawPeer, s transport.Stream) {
			s.Write(whole[:len(whole)-1]) // the circuit may be at fault by then
		}},
		{"to be skipped", 200, beside, func(_ *rawPeer, s transport.Stream) {
			s.Write(frameOf(0x80, make([]byte, 1<<20))[:1<<20])
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if grown := hoard(t, tc.circuits, cfg, tc.then); grown > tc.most {
				t.Errorf("%d MiB, want at most %d; the node may have %d waiting", grown>>20, tc.most>>20, perNode>>20)
			}
		})
	}
}
