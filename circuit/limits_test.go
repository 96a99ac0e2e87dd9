package circuit_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"ckt.local/circuit"
)

func TestLimitsAreInTheError(t *testing.T) {
	p := newPair(t, circuit.Config{MaxPayload: 1000})
	a, b := p.openCircuit(t, nil)
	for _, tc := range []struct {
		name string
		f    *circuit.Fragment
		want circuit.LimitError
	}{
		{"payload", &circuit.Fragment{Payload: make([]byte, 1001)}, circuit.LimitError{What: "payload", Size: 1001, Limit: 1000}},
		{"subject", &circuit.Fragment{FragSubject: string(make([]byte, 1025))}, circuit.LimitError{What: "subject", Size: 1025, Limit: 1024}},
		{"err", &circuit.Fragment{Err: string(make([]byte, 4097))}, circuit.LimitError{What: "err", Size: 4097, Limit: 4096}},
		{"args", &circuit.Fragment{Args: manyArgs(65, 1)}, circuit.LimitError{What: "args", Size: 65, Limit: 64}},
		{"arg key", &circuit.Fragment{Args: map[string]string{string(make([]byte, 129)): ""}}, circuit.LimitError{What: "arg key", Size: 129, Limit: 128}},
		{"args total", &circuit.Fragment{Args: manyArgs(64, 1025)}, circuit.LimitError{What: "args in bytes", Size: 64 * 1027, Limit: 65536}},
	} {
		err := a.SendOneWay(tc.f)
		le, ok := errors.AsType[*circuit.LimitError](err)
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

func manyArgs(n, size int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprintf("%02d", i)] = string(make([]byte, size))
	}
	return m
}

// The smaller limit of both sides holds, and the sender learns it.
func TestRemoteLimitIsKnownToTheSender(t *testing.T) {
	p := join(t, endpointAt(t, loopback(t)), endpointAt(t, loopback(t)), circuit.Config{}, circuit.Config{MaxPayload: 10})
	t.Cleanup(p.close)
	_, err := p.a.link.Open(t.Context(), p.a.params(frag(1, "eleven byte")))
	if le, ok := errors.AsType[*circuit.LimitError](err); !ok || le.Limit != 10 {
		t.Errorf("got %v, want the other side's limit", err)
	}
	a, b := p.openCircuit(t, frag(1, "ten bytes."))
	if f := <-b.Reads; string(f.Payload) != "ten bytes." {
		t.Errorf("got %+v", f)
	}
	b.SendOneWay(frag(2, "ok"))
	<-a.Reads
}
