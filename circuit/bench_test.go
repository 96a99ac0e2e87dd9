package circuit_test

import (
	"testing"

	"ckt.local/circuit"
)

// BenchmarkOneWay shows what resumption costs: with it, what is sent is kept
// until it is acknowledged.
func BenchmarkOneWay(b *testing.B) {
	for _, size := range []struct {
		name string
		size int
	}{{"64B", 64}, {"1KiB", 1 << 10}, {"64KiB", 64 << 10}} {
		for _, how := range []struct {
			name string
			cfg  circuit.Config
		}{{"resume", circuit.Config{}}, {"noresume", circuit.Config{NoResume: true}}} {
			b.Run(size.name+"/"+how.name, func(b *testing.B) { benchmarkOneWay(b, size.size, how.cfg) })
		}
	}
}

func benchmarkOneWay(b *testing.B, size int, cfg circuit.Config) {
	p := newPair(b, cfg)
	out, in := p.openCircuit(b, nil)
	f := &circuit.Fragment{Payload: make([]byte, size)}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	go func() {
		for range b.N {
			if err := out.Send(b.Context(), f); err != nil {
				return
			}
		}
		out.Close()
	}()
	b.ResetTimer()
	n := 0
	for range in.Reads {
		n++
	}
	if n != b.N {
		b.Errorf("%d of %d fragments came", n, b.N)
	}
}

func BenchmarkPing(b *testing.B) {
	p := newPair(b, circuit.Config{})
	out, in := p.openCircuit(b, nil)
	go func() {
		for f := range in.Reads {
			in.SendOneWay(f)
		}
	}()
	f := &circuit.Fragment{Payload: make([]byte, 64)}
	b.ReportAllocs()
	for b.Loop() {
		if err := out.SendOneWay(f); err != nil {
			b.Fatal(err)
		}
		<-out.Reads
	}
}

func BenchmarkOpenMessageClose(b *testing.B) {
	p := newPair(b, circuit.Config{})
	go func() {
		for c := range p.b.news {
			<-c.Reads
			c.Close()
		}
	}()
	f := &circuit.Fragment{Payload: make([]byte, 64)}
	b.ReportAllocs()
	for b.Loop() {
		c, err := p.a.link.Open(b.Context(), p.a.params(f))
		if err != nil {
			b.Fatal(err)
		}
		<-c.Context.Done()
	}
}
