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
			a.pace(paceConns)
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
		a.pace(paceConns / 2)
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
			a.pace(paceConns)
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
func flood(name string, quick, full, round int, who func(t *testing.T, a *arena, i int) *mallory, wanted transport.Code, most func(a *arena) int) attack {
	i := 0
	return attack{name, [2]int{quick, full}, func(t *testing.T, a *arena) int {
		var held []*quicgo.Conn
		let := 0
		for range round {
			m := who(t, a, i)
			i++
			a.pace(paceConns)
			qc, err := m.dial(m.tls())
			if err != nil {
				continue // turned away by QUIC itself
			}
			held = append(held, qc)
			err = greet(qc, greeting{nonce: rand.Uint64() | 1, serial: 1}.frame())
			if err == nil {
				let++
			} else if code, ok := codeOf(err); ok && code != wanted {
				t.Errorf("refused with %v, want %v: %v", code, wanted, err)
			} else if ok {
				a.reacted++
			}
		}
		if bound := most(a); let > bound {
			t.Errorf("%d connections were let in, want at most %d", let, bound)
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
	nobody := func(*arena) int { return 0 }
	return []attack{
		flood("connections in a flood, one authorised key", 48, 10_000, 24,
			func(_ *testing.T, a *arena, _ int) *mallory { return a.mallory }, transport.CodeLimit,
			func(a *arena) int { return a.limits.Transport.ConnsPerNode }),
		flood("connections in a flood, many authorised keys", 128, 5000, 64,
			func(_ *testing.T, a *arena, i int) *mallory { return a.crowd[i%len(a.crowd)] }, transport.CodeLimit,
			func(a *arena) int { return a.limits.Transport.Conns }),
		flood("connections in a flood, one unknown key", 48, 5000, 24,
			func(_ *testing.T, a *arena, _ int) *mallory { return a.unknown }, transport.CodeRefused, nobody),
		flood("connections in a flood, many unknown keys", 48, 5000, 24,
			func(t *testing.T, a *arena, i int) *mallory {
				i %= volume(24, 1000)
				if strangers[i] == nil {
					strangers[i] = a.unknown.as(certificateOf(t, anyKey(t)))
				}
				return strangers[i]
			}, transport.CodeRefused, nobody),
	}
}
