package attacktest

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/rand/v2"
	"testing"
	"time"

	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

const day = 24 * time.Hour

// statement is the extension of a certificate by which one key takes the place
// of another, good for some days from a day on.
func statement(t *testing.T, old, next *identity.Key, from, days int) pkix.Extension {
	t.Helper()
	begin := time.Now().Add(time.Duration(from) * day)
	r, err := trust.NewRotation(old, next, begin, begin.Add(time.Duration(days)*day))
	if err != nil {
		t.Fatal(err)
	}
	return r.Extension()
}

// swapped has one node's key in the place of another's.
func swapped(e pkix.Extension, out, in identity.NodeID) pkix.Extension {
	e.Value = bytes.ReplaceAll(e.Value, out[:], in[:])
	return e
}

// forgedStatements are extensions that must give a stranger nothing.
func forgedStatements(t *testing.T, a *arena) map[string][]pkix.Extension {
	t.Helper()
	us, old := a.unknown.key, a.mallory.key
	good := statement(t, old, us, -1, 2)
	cut := good
	cut.Value = cut.Value[:len(cut.Value)-1]
	flipped := good
	flipped.Value = bytes.Clone(good.Value)
	flipped.Value[rand.IntN(len(good.Value))] ^= 1 << rand.IntN(8)
	other := anyKey(t)
	return map[string][]pkix.Extension{
		"of the pair's key, signed by another": {swapped(good, old.ID(), a.honest.ID())},
		"of the pair's key, for another one":   {statement(t, a.honest, other, -1, 2)},
		"of the pair's key, swapped":           {swapped(statement(t, a.honest, other, -1, 2), other.ID(), us.ID())},
		"that is over":                         {statement(t, old, us, -10, 5)},
		"that has not begun":                   {statement(t, old, us, 5, 10)},
		"of a key that is not allowed either":  {statement(t, other, us, -1, 2)},
		"of its own key, the other way round":  {statement(t, us, old, -1, 2)},
		"with a bit that is another one":       {flipped},
		"that is cut":                          {cut},
		"without anything":                     {{Id: good.Id}},
		"of arrays in arrays":                  {{Id: good.Id, Value: bytes.Repeat([]byte{0x91}, 1000)}},
		"of sequences in sequences, endlessly": {{Id: good.Id, Value: bytes.Repeat([]byte{0x30, 0x80}, 500)}},
	}
}

// rotations shows statements that are forged, stolen or over. The last one is
// good, so that something is known about the others.
func rotations() attack {
	var all map[string][]pkix.Extension
	return attack{"statements of rotation that are forged, stolen or over", [2]int{12, 1200}, func(t *testing.T, a *arena) int {
		all = forgedStatements(t, a)
		for name, exts := range all {
			a.pace(paceConns)
			m := a.unknown.as(selfSigned(t, a.unknown.key, func(c *x509.Certificate) { c.ExtraExtensions = exts }))
			l, err := m.connect()
			if err == nil {
				l.close()
				t.Errorf("a stranger was let in by a statement %s", name)
				continue
			}
			if code, ok := codeOf(err); ok && code != 1 {
				t.Errorf("a statement %s: %v", name, err)
			}
			a.reacted++
		}
		good := []pkix.Extension{statement(t, a.mallory.key, a.unknown.key, -1, 2)}
		l, err := a.unknown.as(selfSigned(t, a.unknown.key, func(c *x509.Certificate) { c.ExtraExtensions = good })).connect()
		if err != nil {
			t.Fatalf("a good statement: %v", err)
		}
		l.close()
		return len(all) + 1
	}}
}
