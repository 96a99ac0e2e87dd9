package circuit

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// A move is one arrow of a picture in docs/states.md: the same words, in the
// same order. The state [*] is before the beginning and after the end.
type move struct{ from, to, why string }

const nothing = "[*]"

func circuitMoves() []move {
	return []move{
		{nothing, "opening", "Open (opener)"},
		{nothing, "attached", "accepted (acceptor)"},
		{"opening", "attached", "accept"},
		{"opening", "lost", "refused, no answer in time, link ended"},
		{"attached", "detached", "its stream or its connection ends"},
		{"detached", "attached", "another stream, generation + 1"},
		{"attached", "delivering", "Close here"},
		{"detached", "delivering", "Close here"},
		{"attached", "draining", "fin came"},
		{"draining", "complete", "last fragment is here"},
		{"draining", "delivering", "Close here"},
		{"delivering", "released", "EOF both ways, or nothing taken for 2 min"},
		{"complete", "released", "EOF both ways"},
		{"detached", "lost", "linger over, given up there, peer restarted"},
		{"lost", "released", ""},
		{"released", nothing, "nothing unread, no goroutine left"},
	}
}

// leftOut is what the picture leaves out, as the text below it says: the end of
// a circuit outlives connections too, or is lost with the last of them.
func leftOut() []move {
	return []move{
		{"delivering", "delivering, detached", ""},
		{"delivering, detached", "delivering", ""},
		{"draining", "draining, detached", ""},
		{"draining, detached", "draining", ""},
		{"complete", "complete, detached", ""},
		{"complete, detached", "complete", ""},
		{"draining, detached", "lost", ""},
		{"delivering, detached", "released", ""},
		{"complete, detached", "released", ""},
		{"detached", "delivering, detached", ""},
		{"draining, detached", "delivering, detached", ""},
	}
}

func attachmentMoves() []move {
	return []move{
		{nothing, "handshake", "opener: stream opened, open queued"},
		{nothing, "ready", "acceptor: open read, accept queued"},
		{"handshake", "ready", "accept read"},
		{"ready", "finSent", "fin written"},
		{"ready", "eofAsked", "fin came and everything is here"},
		{"finSent", "eofAsked", "EOF read"},
		{"eofAsked", "eofSent", "direction ended"},
		{"eofSent", "clean", "EOF read as well"},
		{"handshake", "over", ""},
		{"ready", "over", ""},
		{"finSent", "over", ""},
		{"eofAsked", "over", ""},
		{"eofSent", "over", "stream reset, connection lost, superseded"},
		{"clean", nothing, ""},
		{"over", nothing, "stream reset"},
	}
}

// stateIs is where a circuit stands, in the words of the picture.
func stateIs(s *state) string {
	variant := func(name string) string {
		if s.at == nil {
			return name + ", detached"
		}
		return name
	}
	switch {
	case s.finished:
		return nothing
	case s.released:
		return "released"
	case s.closed && errors.Is(s.cause, ErrClosed):
		return variant("delivering")
	case s.hasAll():
		return variant("complete")
	case s.fin != nil:
		return variant("draining")
	case !s.confirmed:
		return "opening"
	case s.at == nil:
		return "detached"
	}
	return "attached"
}

// attachmentWas is where an attachment has been, as far as it remembers, with
// what it is now last.
func attachmentWas(a *attachment) (trail []string) {
	for _, at := range []struct {
		name string
		is   bool
	}{
		{"handshake", !a.ready && !a.eofAsked && !a.over},
		{"ready", a.ready},
		{"finSent", a.finSent && a.ready},
		{"eofAsked", a.eofAsked},
		{"eofSent", a.eofSent},
		{"clean", a.clean},
		{"over", a.over && !a.clean},
		{nothing, a.over && a.car.on(a.stream.ID()) != a},
	} {
		if at.is {
			trail = append(trail, at.name)
		}
	}
	return trail
}

// A graph is what may be seen, and notes what is.
type graph struct {
	next  map[string][]string
	seen  map[move]bool // of from and to
	where map[string]bool
}

func newGraph(tables ...[]move) *graph {
	g := &graph{next: map[string][]string{}, seen: map[move]bool{}, where: map[string]bool{}}
	for _, moves := range tables {
		for _, m := range moves {
			g.next[m.from] = append(g.next[m.from], m.to)
		}
	}
	return g
}

// ways returns whether to can be reached from from, by one move at least and
// without the move that is not to be used.
func (g *graph) ways(from, to string, without move) bool {
	done := map[string]bool{}
	todo := []string{from}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		for _, n := range g.next[at] {
			switch {
			case without == move{from: at, to: n}:
			case n == to:
				return true
			case !done[n] && n != nothing: // nobody comes back
				done[n] = true
				todo = append(todo, n)
			}
		}
	}
	return false
}

// see notes that something went from one state to another between two looks,
// and reports whether there is a way. On it, it has made every move that all
// ways have in common.
func (g *graph) see(from, to string) bool {
	g.where[from], g.where[to] = true, true
	if from == to {
		return true
	}
	if !g.ways(from, to, move{}) {
		return false
	}
	for at, next := range g.next {
		for _, n := range next {
			if m := (move{from: at, to: n}); at == from && n == to || !g.ways(from, to, m) {
				g.seen[m] = true
				g.where[at], g.where[n] = true, true
				g.seen[move{from: drawn(at), to: drawn(n)}] = true
			}
		}
	}
	return true
}

// drawn is the state that the picture has for one of leftOut.
func drawn(name string) string {
	name, _, _ = strings.Cut(name, ",")
	return name
}

// unseen returns the moves of a table that were not seen.
func (g *graph) unseen(moves []move) (left []string) {
	for _, m := range moves {
		if !g.seen[move{from: m.from, to: m.to}] {
			left = append(left, m.from+" --> "+m.to)
		}
	}
	return left
}

// An observer looks at a machine's circuit after each step.
type observer struct {
	circuits, attachments *graph
	at                    string
	ats                   map[*attachment]string
}

func newObserver() *observer {
	return &observer{
		circuits: newGraph(circuitMoves(), leftOut()), attachments: newGraph(attachmentMoves()),
		at: nothing, ats: map[*attachment]string{},
	}
}

// look notes where everything stands. The state is locked.
func (o *observer) look(s *state, known ...*attachment) error {
	var found error
	see := func(g *graph, what, from, to string) {
		if !g.see(from, to) && found == nil {
			found = fmt.Errorf("%s went from %s to %s, which docs/states.md does not have", what, from, to)
		}
	}
	now := stateIs(s)
	if s.lost && s.released && o.at != "released" && !errors.Is(s.cause, ErrClosed) && !s.hasAll() {
		see(o.circuits, "the circuit", o.at, "lost") // nobody can see it there: it is released in the same update
		see(o.circuits, "the circuit", "lost", now)
	} else {
		see(o.circuits, "the circuit", o.at, now)
	}
	o.at = now
	for _, a := range append(known, s.at) {
		if a == nil || a.gen == 0 {
			continue // never taken
		}
		from, ok := o.ats[a]
		switch {
		case !ok:
			from = nothing
		case from == nothing:
			continue
		}
		trail := attachmentWas(a)
		if ok {
			trail = trail[1+slices.Index(trail, from):]
		}
		for _, to := range trail {
			see(o.attachments, "the attachment", from, to)
			from = to
		}
		o.ats[a] = from
	}
	return found
}

// pictures returns the lines of the state diagrams of docs/states.md.
func pictures(t *testing.T) (drawn [][]string) {
	t.Helper()
	page, err := os.ReadFile("../docs/states.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(page), "```mermaid\nstateDiagram-v2\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		var lines []string
		for line := range strings.Lines(block) {
			lines = append(lines, strings.TrimSpace(line))
		}
		drawn = append(drawn, lines)
	}
	return drawn
}

// What the page draws and what the tests look for is the same.
func TestStatesAreAsDrawn(t *testing.T) {
	drawn := pictures(t)
	for i, moves := range [][]move{circuitMoves(), attachmentMoves()} {
		if len(drawn) <= i {
			t.Fatalf("docs/states.md has %d pictures", len(drawn))
		}
		for n, m := range moves {
			line := m.from + " --> " + m.to
			if m.why != "" {
				line += ": " + m.why
			}
			if n >= len(drawn[i]) || drawn[i][n] != line {
				t.Errorf("picture %d of docs/states.md does not have as line %d: %s", i+1, n+1, line)
			}
		}
		if len(drawn[i]) > len(moves) {
			t.Errorf("picture %d of docs/states.md has %d lines that the test does not: %q", i+1, len(drawn[i])-len(moves), drawn[i][len(moves):])
		}
	}
}
