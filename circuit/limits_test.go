package circuit_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"testing"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/limit"
)

func TestLimitsAreInTheError(t *testing.T) {
	p := newPair(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Payload: 1000})})
	a, b := p.openCircuit(t, nil)
	for _, tc := range []struct {
		name string
		f    *circuit.Fragment
		want transport.LimitError
	}{
		{"payload", &circuit.Fragment{Payload: make([]byte, 1001)}, transport.LimitError{What: "payload", Size: 1001, Limit: 1000}},
		{"subject", &circuit.Fragment{FragSubject: string(make([]byte, 1025))}, transport.LimitError{What: "subject", Size: 1025, Limit: 1024}},
		{"err", &circuit.Fragment{Err: string(make([]byte, 4097))}, transport.LimitError{What: "err", Size: 4097, Limit: 4096}},
		{"args", &circuit.Fragment{Args: manyArgs(65, 1)}, transport.LimitError{What: "args", Size: 65, Limit: 64}},
		{"arg key", &circuit.Fragment{Args: map[string]string{string(make([]byte, 129)): ""}}, transport.LimitError{What: "arg key", Size: 129, Limit: 128}},
		{"args total", &circuit.Fragment{Args: manyArgs(64, 1025)}, transport.LimitError{What: "args in bytes", Size: 64 * 1027, Limit: 65536}},
	} {
		err := a.SendOneWay(tc.f)
		le, ok := errors.AsType[*transport.LimitError](err)
		if !ok || *le != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, err, &tc.want)
		}
	}
	// The largest of everything still passes.
	args := manyArgs(64, 1022)
	if err := a.SendOneWay(&circuit.Fragment{Payload: make([]byte, 1000), Args: args, Err: string(make([]byte, 4096)), FragSubject: string(make([]byte, 1024))}); err != nil {
		t.Fatal(err)
	}
	if f := <-b.Errors; len(f.Payload) != 1000 || !maps.Equal(f.Args, args) {
		t.Error("the largest fragment did not arrive whole")
	}
}

// Both ends count the same, whatever a fragment carries: otherwise the sender
// would stop for ever, or go on without credit.
func TestBothEndsCountTheSame(t *testing.T) {
	p := newPair(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: 8 << 10})})
	a, b := p.openCircuit(t, nil)
	const total = 2000
	go func() {
		for i := range int64(total) {
			f := frag(i, "payload"[:i%8%7])
			if i%3 > 0 {
				f.Args = manyArgs(int(i%65), 1)
			}
			if err := a.Send(t.Context(), f); err != nil {
				t.Error(err)
				return
			}
		}
		a.Close()
	}()
	next := int64(0)
	for f := range b.Reads {
		if f.FragPart != next {
			t.Fatalf("part %d, want %d", f.FragPart, next)
		}
		next++
	}
	if next != total {
		t.Errorf("got %d of %d: %v", next, total, context.Cause(b.Context))
	}
}

// What a window holds takes about as much memory as it says, whatever the
// fragments are made of.
func TestWindowBoundsMemory(t *testing.T) {
	for _, tc := range []struct {
		name string
		f    *circuit.Fragment
	}{
		{"empty", &circuit.Fragment{}},
		{"payload", &circuit.Fragment{Payload: make([]byte, 8000)}},
		{"few args", &circuit.Fragment{Args: manyArgs(3, 1)}},
		{"many args", &circuit.Fragment{Args: manyArgs(33, 1)}},
		{"all args", &circuit.Fragment{Args: manyArgs(64, 0)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t, circuit.Config{})
			before := measure()
			var kept []*circuit.Circuit
			const circuits = 8
			for range circuits {
				a, b := p.openCircuit(t, nil)
				kept = append(kept, a, b)
				for last, same := -1, 0; same < 50; same++ { // until the inbox stays as it is
					for a.SendOneWay(tc.f) == nil {
					}
					if n := b.Stats().Unread; n != last {
						last, same = n, 0
					}
					runtime.Gosched()
				}
			}
			after := measure()
			per := float64(after.heap-before.heap) / circuits / (1 << 20)
			t.Logf("%.2f MiB for both ends of a full window of 1 MiB", per)
			if per > 3 { // the inbox, the outbox, and what is on the way
				t.Errorf("a full window of 1 MiB takes %.2f MiB at both ends", per)
			}
			for _, c := range kept {
				c.Close()
			}
		})
	}
}

func manyArgs(n, size int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprintf("%02d", i)] = string(make([]byte, size))
	}
	return m
}

// The smaller limit of both sides holds, and the sender learns it.
func TestRemoteLimitIsKnownToTheSender(t *testing.T) {
	p := join(t, endpointAt(t, loopback(t)), endpointAt(t, loopback(t)), circuit.Config{}, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Payload: 10})})
	t.Cleanup(p.close)
	_, err := p.a.link.Open(t.Context(), p.a.params(frag(1, "eleven byte")))
	if le, ok := errors.AsType[*transport.LimitError](err); !ok || le.Limit != 10 {
		t.Errorf("got %v, want the other side's limit", err)
	}
	a, b := p.openCircuit(t, frag(1, "ten bytes."))
	if f := <-b.Reads; string(f.Payload) != "ten bytes." {
		t.Errorf("got %+v", f)
	}
	b.SendOneWay(frag(2, "ok"))
	<-a.Reads
}
