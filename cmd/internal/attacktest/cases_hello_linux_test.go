package attacktest

import (
	"errors"
	"math/rand/v2"
	"testing"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
)

// beforeHello says frames of every type before hello, on the first stream and
// on others, and data ahead of the welcome.
func beforeHello() attack {
	all := examples()
	return attack{"frames and data before hello", [2]int{len(all), 20 * len(all)}, func(t *testing.T, a *arena) int {
		for _, e := range all {
			qc, err := a.mallory.dial(a.mallory.tls())
			if err != nil {
				t.Fatal(err)
			}
			first, err := openStream(qc)
			if err != nil {
				t.Fatal(err)
			}
			for range 5 { // before anything is said on the first one
				if s, err := openStream(qc); err == nil {
					say(s, e.frame, false)
					say(s, data(1, make([]byte, 64<<10)), false)
				}
			}
			say(first, e.frame, false)
			a.waitEnd(first)
			qc.CloseWithError(0, "")
		}
		return len(all)
	}}
}

func helloTwice() attack {
	return attack{"hello twice", [2]int{10, 1000}, func(t *testing.T, a *arena) int {
		g := greeting{nonce: rand.Uint64() | 1, serial: 1}
		qc, err := a.mallory.dial(a.mallory.tls())
		if err != nil {
			t.Fatal(err)
		}
		s, err := openStream(qc)
		if err != nil {
			t.Fatal(err)
		}
		say(s, append(g.frame(), g.frame()...), true)
		a.waitEnd(s)
		qc.CloseWithError(0, "")

		l := a.connect(t, a.mallory)
		for range 4 { // on streams of an open connection
			if s, err := l.stream(g.frame()); err == nil {
				a.waitEnd(s)
			}
		}
		if l.qc.Context().Err() != nil {
			t.Errorf("a hello on a stream of its own has cost the connection: %v", l.qc.Context().Err())
		}
		l.close()
		return 5
	}}
}

// replayedHello says the very bytes that the honest pair has said when it
// connected, which the attacker knows because the pair has visited it, and its
// own again and again.
func replayedHello() attack {
	return attack{"replayed hello", [2]int{20, 1000}, func(t *testing.T, a *arena) int {
		bytes := a.learn(t).hello
		for _, m := range []*mallory{a.mallory, a.second, a.mallory} {
			qc, err := m.dial(m.tls())
			if err != nil {
				t.Fatal(err)
			}
			// It is let in, or refused as somebody who is there already; but as
			// itself, by its key. The pair is not disturbed, which the census
			// and the pair tell.
			err = greet(qc, bytes)
			a.reacted++
			if _, ok := errors.AsType[*refusedError](err); err != nil && !ok {
				if app, ok := errors.AsType[*quicgo.ApplicationError](err); !ok || !app.Remote {
					t.Errorf("a replayed hello: %v", err)
				}
			}
			qc.CloseWithError(0, "")
		}
		return 3
	}}
}

// flood opens as many connections as the node lets it, from one key or from
// many, and holds them until there are no more to be had.
func flood(name string, quick, full int, who func(t *testing.T, a *arena, i int) *mallory, wanted ...transport.Code) attack {
	i := 0
	return attack{name, [2]int{quick, full}, func(t *testing.T, a *arena) int {
		const round = 24
		var held []*quicgo.Conn
		for range round {
			m := who(t, a, i)
			i++
			qc, err := m.dial(m.tls())
			if err != nil {
				continue // turned away by QUIC itself
			}
			held = append(held, qc)
			err = greet(qc, greeting{nonce: rand.Uint64() | 1, serial: 1}.frame())
			if err == nil || len(wanted) == 0 {
				continue
			}
			if code, ok := codeOf(err); ok && code != wanted[0] {
				t.Errorf("refused with %v, want %v: %v", code, wanted[0], err)
			} else if ok {
				a.reacted++
			}
		}
		for _, qc := range held {
			qc.CloseWithError(0, "")
		}
		return round
	}}
}

// codeOf is what the node has said, in words or by closing the connection.
func codeOf(err error) (transport.Code, bool) {
	if r, ok := errors.AsType[*refusedError](err); ok {
		return transport.Code(r.code), true
	}
	app, ok := errors.AsType[*quicgo.ApplicationError](err)
	if !ok || !app.Remote {
		return 0, false
	}
	return transport.Code(app.ErrorCode), true
}

func floods() []attack {
	strangers := map[int]*mallory{}
	return []attack{
		flood("connections in a flood, one authorised key", 48, 10_000,
			func(_ *testing.T, a *arena, _ int) *mallory { return a.mallory }, transport.CodeLimit),
		flood("connections in a flood, many authorised keys", 48, 5000,
			func(_ *testing.T, a *arena, i int) *mallory { return a.crowd[i%len(a.crowd)] }, transport.CodeLimit),
		flood("connections in a flood, one unknown key", 48, 5000,
			func(_ *testing.T, a *arena, _ int) *mallory { return a.unknown }, transport.CodeRefused),
		flood("connections in a flood, many unknown keys", 48, 5000,
			func(t *testing.T, a *arena, i int) *mallory {
				i %= volume(24, 1000)
				if strangers[i] == nil {
					strangers[i] = a.unknown.as(certificateOf(t, anyKey(t)))
				}
				return strangers[i]
			}, transport.CodeRefused),
	}
}
