package circuit_test

import (
	"testing"

	"ckt.local/circuit"
)

func BenchmarkOneWay(b *testing.B) {
	for _, bc := range []struct {
		name string
		size int
	}{{"64B", 64}, {"1KiB", 1 << 10}, {"64KiB", 64 << 10}} {
		b.Run(bc.name, func(b *testing.B) {
			p := newPair(b, circuit.Config{})
			out, in := p.openCircuit(b, nil)
			f := &circuit.Fragment{Payload: make([]byte, bc.size)}
			b.SetBytes(int64(bc.size))
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
			for range in.Reads {
			}
		})
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
