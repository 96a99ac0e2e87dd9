package quic_test

import (
	"io"
	"net"
	"testing"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/quic"
	"ckt.local/transport/simnet"
)

// A batchSocket hands packets over in batches, as kernels and schedulers do.
//
// That matters here: quic-go's pacer counts acknowledgements, and a receiver
// that acknowledges every other packet of a long path by itself has no budget
// left to open its windows until the sender stands still.
type batchSocket struct {
	net.PacketConn
	last time.Time
}

const batchTime = 200 * time.Microsecond

func (s *batchSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.PacketConn.ReadFrom(b)
	if now := time.Now(); now != s.last { // not from the batch before
		time.Sleep(batchTime)
		s.last = time.Now()
	}
	return n, from, err
}

func TestOneStreamFillsALongPath(t *testing.T) {
	// 1 Gbit/s and 100 ms: 12.5 MB are on the way when the path is full.
	const (
		bandwidth = 125e6 // bytes in a second
		rampUp    = 1500 * time.Millisecond
		measured  = 500 * time.Millisecond
	)
	link := simnet.Link{Latency: 50 * time.Millisecond, Bandwidth: bandwidth, Queue: -1}
	inSim(t, link, func(t *testing.T, n *simnet.Network) {
		pc, err := n.Host(bob).Listen(simPort)
		if err != nil {
			t.Fatal(err)
		}
		b, err := quic.Listen(quic.Config{Conn: &batchSocket{PacketConn: pc}, Key: generate(t), Authorize: everybody})
		if err != nil {
			t.Fatal(err)
		}
		a := simListen(t, n, alice, generate(t))
		ca, cb := join(t, a, b)
		out, err := ca.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() { // until the Conn is closed
			for b := make([]byte, 256<<10); ; {
				if _, err := out.Write(b); err != nil {
					return
				}
			}
		}()
		in, err := cb.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		readFor(t, in, rampUp)
		got := readFor(t, in, measured)
		share := float64(got) / (bandwidth * measured.Seconds())
		t.Logf("%.0f %% of the path", 100*share)
		if share < 0.8 {
			t.Errorf("one stream takes %.0f %% of the path, want 80 %%", 100*share)
		}
		a.Close()
		b.Close()
	})
}

// readFor reads for a while, and returns how much there was.
func readFor(t *testing.T, s transport.Stream, d time.Duration) (total int64) {
	t.Helper()
	s.SetReadDeadline(time.Now().Add(d))
	total, _ = io.Copy(io.Discard, s) // ends with the deadline
	return total
}
