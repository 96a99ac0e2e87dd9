package attacktest

import (
	"bytes"
	"errors"
	"math"
	"os"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"
	"github.com/tinylib/msgp/msgp"

	"ckt.local/transport"
)

// connect is an open connection of the attacker's, closed after the round.
func (a *arena) connect(t *testing.T, m *mallory) *line {
	t.Helper()
	a.pace(paceConns)
	l, err := m.connect()
	if err != nil {
		t.Fatalf("the attacker does not get in: %v", err)
	}
	return l
}

// put says b at a place of its own: on a new connection or stream if it may
// cost that. What the node does about it is not looked at here: a case is about
// the node, and the honest beside it.
func (a *arena) put(t *testing.T, l *line, at place, b []byte, end bool) *line {
	t.Helper()
	switch at {
	case atHello:
		a.pace(paceConns)
		qc, err := a.mallory.dial(a.mallory.tls())
		if err != nil {
			t.Fatalf("the attacker does not get in: %v", err)
		}
		if s, err := openStream(qc); err == nil {
			say(s, b, end)
			a.waitEnd(s)
		}
		qc.CloseWithError(0, "")
		return l
	case atControl:
		say(l.control, b, end)
		select {
		case <-l.qc.Context().Done():
			a.reacted++
		case <-time.After(moment):
		}
		// What comes next must not be taken for the rest of this.
		l.close()
		return a.connect(t, a.mallory)
	case atFirst:
		a.pace(paceOpens)
		if s, err := l.stream(nil); err == nil {
			say(s, b, end)
			a.waitEnd(s)
			drop(s)
		}
	case atCircuit:
		a.pace(paceOpens)
		if s, _, err := l.open(openTo("echo")); err == nil {
			say(s, b, end)
			a.waitEnd(s)
			drop(s)
		}
	}
	if l.qc.Context().Err() != nil {
		l.close()
		return a.connect(t, a.mallory)
	}
	return l
}

// say writes b and ends the stream, or leaves it as it is.
func say(s *quicgo.Stream, b []byte, end bool) {
	s.SetWriteDeadline(time.Now().Add(5 * time.Second))
	s.Write(b)
	if end {
		s.Close()
	}
}

// moment is how long something is left with the node that may be waiting for
// more of it.
const moment = 20 * time.Millisecond

// waitEnd waits until the node has said something on a stream or ended it, or
// for a moment.
func (a *arena) waitEnd(s *quicgo.Stream) {
	s.SetReadDeadline(time.Now().Add(moment))
	if _, err := s.Read(make([]byte, 1<<10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		a.reacted++
	}
}

// The ways to cut a frame.
const (
	cutEnds   = iota // the stream ends where the frame is cut
	cutWaits         // nothing follows, and the stream stays
	cutShrunk        // the length is that of what is left
	cuts
)

// truncated cuts every frame at every byte, a few of them in each round.
func truncated() attack {
	type one struct {
		example
		n, how int
	}
	var all []one
	for _, e := range examples() {
		for n := 1; n < len(e.frame); n++ {
			for how := range cuts {
				all = append(all, one{e, n, how})
			}
		}
	}
	next := 0
	step := volume(7, 1) // coprime to the number of ways
	return attack{"every frame type, truncated at every byte", [2]int{len(all) / 7, len(all)}, func(t *testing.T, a *arena) int {
		l := a.connect(t, a.mallory)
		const batch = 20
		for range batch {
			o := all[next%len(all)]
			next += step
			b := bytes.Clone(o.frame[:o.n])
			if o.how == cutShrunk {
				head := bytes.IndexByte(o.frame, o.frame[0]) + 1
				if o.n <= head {
					continue
				}
				b = frameOf(transport.FrameType(o.frame[head]), o.frame[head+1:o.n])
			}
			l = a.put(t, l, o.at, b, o.how != cutWaits)
		}
		l.close()
		return batch
	}}
}

// saying is an attack that says one thing after the other, each at its place.
func saying(name string, full int, all []example) attack {
	next := 0
	return attack{name, [2]int{len(all), full * len(all)}, func(t *testing.T, a *arena) int {
		l := a.connect(t, a.mallory)
		n := min(len(all), 25)
		for range n {
			e := all[next%len(all)]
			next++
			l = a.put(t, l, e.at, e.frame, false)
		}
		l.close()
		return n
	}}
}

// at makes one example of b for each kind of stream.
func atAll(b []byte) (all []example) {
	for p := range places {
		all = append(all, example{"", p, b})
	}
	return all
}

func lengths() attack {
	var all []example
	for _, n := range []uint64{0, 1 << 28, 1<<28 - 1, 1 << 31, 1<<31 - 1, 1<<32 - 1, 1 << 63, math.MaxUint64} {
		for _, typ := range []transport.FrameType{frameHello, frameSettings, framePing, frameOpen, frameData, frameOptional} {
			all = append(all, atAll(claim(typ, n, 0x93, 1, 2, 3))...)
		}
	}
	all = append(all, atAll(bytes.Repeat([]byte{0xff}, 100))...)
	all = append(all, atAll(bytes.Repeat([]byte{0}, 100))...)
	return saying("frame lengths of 0, 2³¹, 2⁶⁴−1", 5, all)
}

// The heads of the largest array, map, text and byte string that MessagePack
// can claim.
func largest() [][]byte {
	var all [][]byte
	for _, b := range []byte{0xdd, 0xdf, 0xdb, 0xc6, 0xc9} {
		all = append(all, []byte{b, 0xff, 0xff, 0xff, 0xff})
	}
	return all
}

// claims puts something in the place of each element of each frame.
func inEveryElement(things [][]byte) (all []example) {
	for _, e := range examples() {
		typ, body, _, err := transport.ParseFrame(e.frame, 1<<20)
		if err != nil {
			panic(err) // our own frame
		}
		for _, thing := range things {
			all = append(all, example{e.name, e.at, frameOf(typ, thing)})
			n, rest, err := msgp.ReadArrayHeaderBytes(body)
			for range n {
				if err != nil {
					panic(err)
				}
				front := bytes.Clone(body[:len(body)-len(rest)])
				all = append(all, example{e.name, e.at, frameOf(typ, append(front, thing...))})
				rest, err = msgp.Skip(rest)
			}
		}
	}
	return all
}

func largestClaims() attack {
	things := largest()
	things = append(things, []byte{0x91, 0xdd, 0xff, 0xff, 0xff, 0xff}, []byte{0x81, 0xa1, 'k', 0xdb, 0xff, 0xff, 0xff, 0xff})
	return saying("arrays, maps and texts of 2³²−1, in every element", 1, inEveryElement(things))
}

func nested() attack {
	const depth = 100_000
	arrays, maps := bytes.Repeat([]byte{0x91}, depth), bytes.Repeat([]byte{0x81, 0xa0}, depth/2)
	short := bytes.Repeat([]byte{0x91}, 900)
	all := inEveryElement([][]byte{short, arrays[:7<<10], arrays, maps})
	all = append(all, atAll(frameOf(frameOptional, arrays))...)
	all = append(all, atAll(frameOf(frameOptional, arrays[:8000]))...)
	all = append(all,
		example{"", atHello, greeting{nonce: 1, serial: 1, more: short, moreLen: 1}.frame()},
		example{"", atHello, greeting{nonce: 1, serial: 1, more: arrays, moreLen: 1}.frame()})
	return saying("nesting of 100,000, in known and in skipped fields", 2, all)
}

func oddLengths() attack {
	big := make([]byte, 1<<20)
	return saying("control frames of 1 MiB", 20, []example{
		{"", atControl, frameOf(framePing, big)},
		{"", atControl, newTuple(2).uint(1).bin(big).in(framePing)},
		{"", atControl, frameOf(frameOptional, big)},
		{"", atControl, frameOf(frameAck, big)},
		{"", atControl, frameOf(frameResumed, big)},
		{"", atFirst, append(claim(frameSettings, 1<<20), big...)},
		{"", atHello, append(claim(frameHello, 1<<20), big...)},
		{"", atCircuit, frameOf(frameFin, big)},
	})
}

func misplaced() attack {
	var all []example
	for _, e := range examples() {
		for p := range places {
			if p != e.at {
				all = append(all, example{e.name, p, e.frame})
			}
		}
	}
	all = append(all,
		example{"", atControl, settings(1<<20, 1<<20, 0)},
		example{"", atControl, settings(1, 1, 1)},
		example{"", atControl, settings(0, 0, 0)},
		example{"", atFirst, settings(0, 0, 0)},
		example{"", atFirst, settings(math.MaxUint64, math.MaxUint64, math.MaxUint64)})
	return saying("frames in the wrong place, settings twice and changed", 5, all)
}

func oddOpens() attack {
	var all []example
	for _, n := range []uint64{0, 1, 1 << 30, 1 << 62, math.MaxInt64, 1 << 63, math.MaxUint64} {
		for _, change := range []func(o *opening){
			func(o *opening) { o.credit, o.first = n, true },
			func(o *opening) { o.credit = n },
			func(o *opening) { o.received = n },
			func(o *opening) { o.generation = n },
			func(o *opening) { o.wait = n },
			func(o *opening) { o.resume, o.received, o.credit, o.generation, o.wait = true, n, n, n, 0 },
			func(o *opening) { o.circuit, o.from, o.credit = id{}, id{}, n },
		} {
			o := openTo("echo")
			change(&o)
			all = append(all, example{"", atFirst, o.frame()}, example{"", atFirst, append(o.frame(), data(1, []byte("x"))...)})
		}
	}
	return saying("openings with numbers of 0 to 2⁶⁴−1", 10, all)
}

func badNames() attack {
	var all []example
	for _, name := range []string{
		"", "..", "../../etc/passwd", "/", "a/b", "\x00", "\x1b[2J\x1b[31mroot\r\n", "echo\n", "\xff\xfe", "ckt.node", "ckt.", "%s%n",
		string(bytes.Repeat([]byte("x"), 65)), string(bytes.Repeat([]byte("\x07"), 7000)), string(make([]byte, 1<<20)),
		"\u202eohce", "echo\u200b", string(bytes.Repeat([]byte("../"), 2000)),
	} {
		o := openTo(name)
		all = append(all, example{"", atFirst, o.frame()})
		o = openTo("echo")
		o.fromService = name
		all = append(all, example{"", atFirst, o.frame()})
		node := openTo("ckt.node")
		for _, op := range []int64{opStart, opStop} {
			for _, key := range []string{"service", "peer"} {
				all = append(all, example{"", atFirst, append(node.frame(), request(1, op, key, name)...)})
				node.circuit = newID()
			}
		}
		d := newTuple(6).uint(1).int(0).str(name).int(0).args(name, name).str(name)
		all = append(all, example{"", atCircuit, d.in(frameData)},
			example{"", atCircuit, newTuple(3).uint(0).bool(true).str(name).in(frameFin)})
	}
	return saying("names with control characters, .. and 1 MB", 3, all)
}
