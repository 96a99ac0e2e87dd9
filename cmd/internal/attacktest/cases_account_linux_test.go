package attacktest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
)

// unserved opens streams and begins no frame on them: as many as there may be,
// on several connections of one key.
func unserved() attack {
	return attack{"streams that are opened and left", [2]int{1, 40_000}, func(t *testing.T, a *arena) int {
		n := 0
		for range 4 {
			l := a.connect(t, a.mallory)
			defer l.close()
			for l.qc.Context().Err() == nil {
				a.pace(paceReset)
				s, err := l.qc.OpenStream()
				if err != nil {
					break // that is all there may be
				}
				n++
				s.SetWriteDeadline(time.Now().Add(time.Second))
				if _, err := s.Write([]byte{9}); err != nil {
					break
				}
			}
			if l.qc.Context().Err() == nil {
				continue
			}
			if code, err := ended(l.qc); err != nil || code != transport.CodeLimit {
				t.Errorf("a connection has ended with %v, %v, want that of a limit", code, err)
			}
			a.reacted++
		}
		return n
	}}
}

// begun opens streams and begins a long first frame on each: as many as the
// windows of several connections take.
func begun() attack {
	return attack{"first frames that are begun and left", [2]int{1, 20_000}, func(t *testing.T, a *arena) int {
		half, n := frameOf(frameOpen, make([]byte, 8000))[:4000], 0
		for range 4 {
			l := a.connect(t, a.mallory)
			defer l.close()
			for range 500 {
				a.pace(paceReset)
				s, err := l.qc.OpenStream()
				if err != nil {
					break
				}
				n++
				s.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
				if _, err := s.Write(half); err != nil {
					break // the window is full
				}
			}
		}
		return n
	}}
}

// questions asks the node itself for all there is to ask for, and more, and
// does not read every answer.
func questions() attack {
	return attack{"requests to the node itself in a flood", [2]int{200, 20_000}, func(t *testing.T, a *arena) int {
		l := a.connect(t, a.mallory)
		defer l.close()
		ops := []struct {
			op    int64
			pairs []string
		}{{2, nil}, {3, []string{"service", "secret"}}, {4, nil}, {6, nil}, {7, []string{"peer", "nobody"}}, {8, nil}, {99, nil}, {-1 << 63, nil}}
		n := 0
		for i := range 24 {
			o := ops[i%len(ops)]
			a.pace(paceOpens)
			if _, _, err := l.ask(o.op, o.pairs...); err != nil {
				t.Fatalf("operation %d: %v", o.op, err)
			}
			n++
		}
		var left []*quicgo.Stream
		for range 8 {
			s, _, err := l.open(openTo("ckt.node"))
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint64(20) { // what a new circuit may send
				o := ops[int(i)%len(ops)]
				if _, err := s.Write(request(i+1, o.op, o.pairs...)); err != nil {
					t.Fatal(err)
				}
				n++
			}
			left = append(left, s)
		}
		for _, s := range left {
			drop(s)
		}
		return n
	}}
}

// heirs are many keys that all take the place of one, and have the bounds of
// one.
func heirs() attack {
	return attack{"many keys in the place of one", [2]int{20, 1000}, func(t *testing.T, a *arena) int {
		const round = 20
		var open []*line
		for range round {
			a.pace(paceConns)
			next := anyKey(t)
			good := []pkix.Extension{statement(t, a.mallory.key, next, -1, 2)}
			l, err := a.mallory.as(selfSigned(t, next, func(c *x509.Certificate) { c.ExtraExtensions = good })).connect()
			if err != nil {
				if code, ok := codeOf(err); !ok || code != transport.CodeLimit {
					t.Errorf("an heir is refused: %v", err)
				}
				a.reacted++
				continue
			}
			open = append(open, l)
		}
		if most := a.limits.Transport.ConnsPerNode; len(open) > most || len(open) == 0 {
			t.Errorf("%d connections of heirs of one key, want 1 to %d", len(open), most)
		}
		for _, l := range open {
			l.close()
		}
		return round
	}}
}
