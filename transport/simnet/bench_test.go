package simnet_test

import (
	"net"
	"testing"

	"ckt.local/transport/simnet"
)

// On real time, as a benchmark has no bubble, with a latency that is no wait.

// One operation is one packet of 1200 bytes, sent, carried and read, of two
// hosts that play ping-pong: the dispatcher wakes for each packet.
func BenchmarkPingPong(b *testing.B) {
	x, y := benchPair(b)
	go func() { // ends with the network
		buf := make([]byte, 1500)
		for {
			k, from, err := y.ReadFrom(buf)
			if err != nil {
				return
			}
			y.WriteTo(buf[:k], from)
		}
	}()
	p, to := make([]byte, 1200), udp(bob)
	b.ReportAllocs()
	for b.Loop() {
		for range 50 {
			x.WriteTo(p, to)
			x.ReadFrom(p)
		}
	}
	perPacket(b, 100)
}

// One operation is a hundred packets of 1200 bytes, sent in a row and read.
func BenchmarkTrain(b *testing.B) {
	x, y := benchPair(b)
	p, to := make([]byte, 1200), udp(bob)
	b.ReportAllocs()
	for b.Loop() {
		for range 100 {
			x.WriteTo(p, to)
		}
		for range 100 {
			y.ReadFrom(p)
		}
	}
	perPacket(b, 100)
}

func perPacket(b *testing.B, packets int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*packets), "ns/packet")
}

func benchPair(b *testing.B) (x, y net.PacketConn) {
	n := simnet.New(1)
	b.Cleanup(func() { n.Close() })
	n.SetDefault(simnet.Link{Latency: 1, Jitter: 1})
	var err error
	if x, err = n.Host(alice).Listen(port); err != nil {
		b.Fatal(err)
	}
	if y, err = n.Host(bob).Listen(port); err != nil {
		b.Fatal(err)
	}
	return x, y
}
