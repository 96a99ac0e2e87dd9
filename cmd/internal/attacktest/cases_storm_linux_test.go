package attacktest

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"

	"ckt.local/transport"
)

// resets opens streams and resets them at once, with an open frame, a part of
// one or nothing on them.
func resets() attack {
	return attack{"stream resets in a flood", [2]int{2000, 200_000}, func(t *testing.T, a *arena) int {
		l := a.connect(t, a.mallory)
		defer l.close()
		const round = 500
		for i := range round {
			a.pace(paceReset)
			s, err := openStream(l.qc)
			if err != nil {
				t.Fatalf("stream %d: %v", i, err)
			}
			b := openTo("echo").frame()
			s.SetWriteDeadline(time.Now().Add(time.Second))
			s.Write(b[:len(b)*(i%3)/2])
			drop(s)
		}
		return round
	}}
}

func storm() attack {
	return attack{"opens and closes in a storm", [2]int{300, 30_000}, func(t *testing.T, a *arena) int {
		l := a.connect(t, a.mallory)
		defer l.close()
		const round = 100
		for range round {
			a.pace(paceOpens)
			s, err := l.stream(append(append(openTo("echo").frame(), data(1, []byte("x"))...), fin(1)...))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := answerOf(s); err != nil {
				if _, ok := errors.AsType[*refusedError](err); !ok {
					t.Fatal(err)
				}
			}
			s.SetReadDeadline(time.Now().Add(5 * time.Second))
			io.Copy(io.Discard, s)
			s.Close()
		}
		return round
	}}
}

func pings() attack {
	return attack{"pings in a flood", [2]int{2000, 500_000}, func(t *testing.T, a *arena) int {
		l := a.connect(t, a.mallory)
		defer l.close()
		const round = 1000
		var b []byte
		for i := range 50 {
			b = append(b, ping(uint64(i))...)
		}
		for range round / 50 {
			a.pace(pacePings)
			l.control.SetWriteDeadline(time.Now().Add(5 * time.Second))
			if _, err := l.control.Write(b); err != nil {
				t.Fatalf("pings have cost the connection: %v", err)
			}
		}
		return round
	}}
}

// panics has a service panic at each opening; the node starts another peer of
// it for the next one.
func panics() attack {
	return attack{"a service that panics 1,000 times", [2]int{30, 1000}, func(t *testing.T, a *arena) int {
		l := a.connect(t, a.mallory)
		defer l.close()
		const round = 10
		panicked := 0
		for range round {
			s, _, err := l.open(openTo("panic"))
			if r, ok := errors.AsType[*refusedError](err); ok && r.code == refusedLimit {
				a.hold(t, 10) // too many starts in a second
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			s.SetReadDeadline(time.Now().Add(5 * time.Second))
			if typ, _, err := transport.ReadFrame(s, 8<<10); err != nil || typ != frameFin {
				t.Errorf("the circuit of a service that panics: frame type %#x, %v", byte(typ), err)
			}
			drop(s)
			panicked++
		}
		a.reacted += panicked
		return panicked
	}}
}

// ask sends one request to the node's own service on a circuit of its own and
// returns the operation and the args of the answer.
func (l *line) ask(op int64, pairs ...string) (int64, map[string]string, error) {
	o := openTo("ckt.node")
	s, err := l.stream(append(o.frame(), request(1, op, pairs...)...))
	if err != nil {
		return 0, nil, err
	}
	defer drop(s)
	if _, err := answerOf(s); err != nil {
		return 0, nil, err
	}
	s.SetReadDeadline(time.Now().Add(10 * time.Second))
	typ, body, err := transport.ReadFrame(s, 1<<20)
	if err != nil || typ != frameData {
		return 0, nil, errors.Join(err, errors.New("no answer"))
	}
	return parseAnswer(body)
}

func parseAnswer(body []byte) (op int64, args map[string]string, err error) {
	_, rest, err := msgp.ReadArrayHeaderBytes(body)
	if err == nil {
		rest, err = msgp.Skip(rest) // the serial
	}
	if err == nil {
		op, rest, err = msgp.ReadInt64Bytes(rest)
	}
	for range 2 { // subject, part
		if err == nil {
			rest, err = msgp.Skip(rest)
		}
	}
	if err != nil || msgp.IsNil(rest) {
		return op, nil, err
	}
	n, rest, err := msgp.ReadMapHeaderBytes(rest)
	args = make(map[string]string)
	for range n {
		var k, v string
		if k, rest, err = msgp.ReadStringBytes(rest); err != nil {
			return op, nil, err
		}
		if v, rest, err = msgp.ReadStringBytes(rest); err != nil {
			return op, nil, err
		}
		args[k] = v
	}
	return op, args, err
}

// starts asks for one peer after the other, and stops what it got.
func starts() attack {
	return attack{"starts of peers in a flood", [2]int{100, 5000}, func(t *testing.T, a *arena) int {
		l := a.connect(t, a.mallory)
		defer l.close()
		const round = 50
		var started []string
		for range round {
			op, args, err := l.ask(opStart, "service", "echo")
			switch {
			case err != nil:
				t.Fatal(err)
			case op == opStart:
				started = append(started, args["peer"])
			case op == opRefused && args["code"] == "4":
				a.reacted++
			default:
				t.Errorf("a start is answered with %d, %q", op, args)
			}
		}
		if n := a.limits.Peer.StartedPerNode; len(started) > n {
			t.Errorf("%d peers were started, want at most %d", len(started), n)
		}
		for _, p := range started {
			if op, args, err := l.ask(opStop, "peer", p); err != nil || op != opStop {
				t.Errorf("stop: %d, %v, %v", op, args, err)
			}
		}
		return round
	}}
}

// foreign uses IDs of the honest pair's: its circuit, its peer's seed, its
// nonce, from two keys that are authorised.
func foreign() attack {
	return attack{"foreign circuits: opened, resumed and named by others", [2]int{40, 4000}, func(t *testing.T, a *arena) int {
		s := a.learn(t)
		n := 0
		for _, m := range []*mallory{a.mallory, a.second} {
			l := a.connect(t, m)
			defer l.close()
			for i, generation := range []uint64{1, 2, 3, 100, 1 << 63, 1<<64 - 1} {
				for _, seed := range []id{s.seed, newID()} {
					o := openTo("echo")
					o.circuit, o.from, o.generation, o.resume, o.wait = s.circuit, seed, generation, true, 0
					o.received, o.credit = uint64(i), 1<<40
					_, _, err := l.open(o)
					if r, ok := errors.AsType[*refusedError](err); !ok || r.code != refusedGone {
						t.Errorf("resumption of somebody else's circuit: %v, want refusal 8", err)
					}
					n++
				}
			}
			o := openTo("echo") // a new one by that name is the attacker's own
			o.circuit, o.from = s.circuit, s.seed
			st, _, err := l.open(o)
			if err != nil {
				t.Fatalf("an opening with an ID that somebody else has, too: %v", err)
			}
			st.Write(data(1, []byte("I am the honest one")))
			l.control.Write(ack(uint64(st.StreamID()), 0, 1<<30))
			if typ, _, err := transport.ReadFrame(st, 1<<20); err != nil || typ != frameData {
				t.Errorf("no echo on the attacker's own circuit: %#x, %v", byte(typ), err)
			}
			n++
		}
		return n
	}}
}
