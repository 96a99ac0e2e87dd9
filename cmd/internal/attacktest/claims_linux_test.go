package attacktest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/circuit"
	"ckt.local/transport"
)

// A claiming is one try to get what one may not have. got says what was got, ""
// for nothing; err says that it could not be tried, or was answered as no try
// may be.
type claiming struct {
	kind string
	try  func(l *line) (got string, err error)
}

// A claimer draws claims.
type claimer struct {
	*rand.Rand
	known   *secrets
	ids     map[string]string // of the victim's own peers
	victims []id              // circuits that others than the claimer have
}

func (c *claimer) pick(all ...string) string { return all[c.IntN(len(all))] }

func (c *claimer) id() (v id) {
	for i := range v {
		v[i] = byte(c.Uint32())
	}
	return v
}

// mangle changes a name into one that somebody might take for it.
func (c *claimer) mangle(name string) string {
	switch c.IntN(10) {
	case 0:
		return strings.ToUpper(name)
	case 1:
		return name + "\x00"
	case 2:
		return name + " "
	case 3:
		return "./" + name
	case 4:
		return "echo," + name
	case 5:
		return name + "/echo"
	}
	return name
}

// forbidden is a service that the claimer may not use, or that is not there.
func (c *claimer) forbidden() string {
	return c.mangle(c.pick("secret", "secret", "secret", "files", "ckt.node.", "ckt.other", "Echo", "echo2", ""))
}

func (c *claimer) draw() claiming {
	switch c.IntN(6) {
	case 0:
		return c.start()
	case 1:
		return c.open()
	case 2:
		return c.forge()
	case 3, 4:
		return c.resume()
	default:
		return c.ask()
	}
}

// start asks the node's own service for a peer of a forbidden service.
func (c *claimer) start() claiming {
	name := c.forbidden()
	return claiming{"start", func(l *line) (string, error) {
		op, args, err := l.ask(opStart, "service", name)
		if err != nil || op == opRefused {
			return "", err
		}
		return fmt.Sprintf("start of %q: %d %q", name, op, args), nil
	}}
}

// open opens a circuit to a forbidden service, by name, by the ID of its peer,
// or by that ID under the name of a service that is allowed.
func (c *claimer) open() claiming {
	o := openTo(c.forbidden())
	o.circuit, o.from = c.id(), c.id()
	switch c.IntN(4) {
	case 0:
		o.to = mustID(c.ids["secret"])
	case 1:
		o.to, o.toService = mustID(c.ids["secret"]), c.pick("echo", "sink", "ckt.node", "panic")
	case 2:
		o.fromService = c.pick("secret", "ckt.node", "pair")
	}
	return claiming{"open", func(l *line) (string, error) {
		s, _, err := l.open(o)
		if err != nil {
			return "", onlyRefused(err)
		}
		drop(s)
		return fmt.Sprintf("open to %q, peer %s", o.toService, o.to), nil
	}}
}

// forge opens a circuit that is allowed, as somebody else's peer, and sends on
// it. What it got is for the census to say.
func (c *claimer) forge() claiming {
	o := openTo("echo")
	o.circuit, o.from = c.id(), c.known.seed
	o.fromService = c.pick("pair", "ckt.node", "echo", "secret")
	switch c.IntN(4) {
	case 0:
		o.from = mustID(c.ids["echo"]) // a peer's ID in place of its seed
	case 1:
		o.circuit = c.known.circuit
	case 2:
		o.circuit, o.from = c.known.circuit, c.known.seed.Peer([32]byte{}) // an ID made without a key
	}
	return claiming{"forged source", func(l *line) (string, error) {
		s, _, err := l.open(o)
		if err != nil {
			return "", onlyRefused(err)
		}
		defer drop(s)
		s.Write(data(1, []byte("I am somebody else")))
		s.SetReadDeadline(time.Now().Add(10 * time.Second))
		typ, _, err := transport.ReadFrame(s, 1<<20)
		if err == nil && typ != frameData {
			err = fmt.Errorf("the echo is a frame of type %#x", byte(typ))
		}
		return "", onlyRefused(err)
	}}
}

// resume takes up a circuit that somebody else has.
func (c *claimer) resume() claiming {
	o := openTo(c.pick("echo", "sink", "pair", ""))
	o.circuit = c.known.circuit
	if c.IntN(3) == 0 {
		o.circuit = c.victims[c.IntN(len(c.victims))]
	}
	o.from = c.known.seed
	if c.IntN(2) == 0 {
		o.from = c.id()
	}
	o.generation, o.resume, o.wait = 1+c.Uint64()>>c.IntN(64), true, 0
	o.received, o.credit = c.Uint64()>>c.IntN(64), c.Uint64()>>c.IntN(64)
	if c.IntN(2) == 0 {
		o.to = mustID(c.ids["echo"])
	}
	return claiming{"resumption", func(l *line) (string, error) {
		s, _, err := l.open(o)
		if err != nil {
			return "", onlyRefused(err)
		}
		drop(s)
		return fmt.Sprintf("resumption of circuit %s, generation %d", o.circuit, o.generation), nil
	}}
}

// ask asks the node's own service for what only others may have.
func (c *claimer) ask() claiming {
	op, key, value := int64(opStop), "peer", c.ids[c.pick("echo", "secret", "sink", "source")]
	switch c.IntN(4) {
	case 0:
		op = opList
	case 1:
		op = 8 // the limits
	case 2:
		value = c.id().String()
	}
	return claiming{"stop, list", func(l *line) (string, error) {
		got, args, err := l.ask(op, key, value)
		if err != nil || got == opRefused {
			return "", err
		}
		return fmt.Sprintf("operation %d, %s: %d %q", op, value, got, args), nil
	}}
}

func mustID(s string) id {
	v, err := circuit.ParseID(s)
	if err != nil {
		panic(err) // the node's own listing has it
	}
	return v
}

// onlyRefused passes a no: in words, or as a reset, as when two tries have the
// same ID.
func onlyRefused(err error) error {
	_, refused := errors.AsType[*refusedError](err)
	_, reset := errors.AsType[*quicgo.StreamError](err)
	if refused || reset {
		return nil
	}
	return err
}

// TestNothingIsGotByClaimingIt tries, with an authorised key, to start, open,
// speak as and take up what belongs to others.
func TestNothingIsGotByClaimingIt(t *testing.T) {
	a := newArena(t)
	c := &claimer{Rand: rand.New(rand.NewPCG(*seed, 5)), known: a.learn(t), ids: a.checkCensus(t).IDs}
	other, err := a.second.hello(greeting{nonce: 9, serial: 9}) // its circuits outlive its connection
	if err != nil {
		t.Fatal(err)
	}
	if err := other.settle(append(settings(1<<20, 1<<20, uint64(volume(500, 120_000))), resumed(false)...)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		o := openTo("sink")
		if _, _, err := other.open(o); err != nil {
			t.Fatal(err)
		}
		c.victims = append(c.victims, o.circuit)
	}
	want, batch := volume(1000, 12_000), 200
	tries := make(map[string]int)
	total := 0
	for ; total < want && !t.Failed(); total += batch {
		a.claims(t, c, batch, tries)
		if total == want/2/batch*batch {
			other.qc.CloseWithError(5, "") // from here on its circuits are detached
		}
		a.checkClaims(t)
	}
	other.close()
	var b strings.Builder
	for kind, n := range tries {
		fmt.Fprintf(&b, ", %s %d", kind, n)
	}
	if w := a.pair.must(t, order{Do: "window"}).Window; w.Attachments > 0 {
		t.Errorf("the honest pair's circuit was attached anew %d times", w.Attachments)
	}
	t.Logf("seed %d: %d tries, none has got anything%s", *seed, total, b.String())
}

// claims makes n tries on a connection of its own, several at a time.
func (a *arena) claims(t *testing.T, c *claimer, n int, tries map[string]int) {
	t.Helper()
	l := a.connect(t, a.mallory)
	defer l.close()
	todo := make(chan claiming, n)
	for range n {
		cl := c.draw()
		tries[cl.kind]++
		todo <- cl
	}
	close(todo)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for cl := range todo {
				got, err := cl.try(l)
				if err != nil {
					t.Errorf("%s: %v", cl.kind, err)
				}
				if got != "" {
					t.Errorf("%s has got something: %s", cl.kind, got)
				}
			}
		})
	}
	wg.Wait()
}

// checkClaims asks the node whether anything was got.
func (a *arena) checkClaims(t *testing.T) {
	t.Helper()
	c := a.checkCensus(t)
	for key, n := range c.Peers {
		service, by, _ := strings.Cut(key, " ")
		if by != "self" {
			t.Errorf("%d peers of %s were started by %s", n, service, by)
		}
	}
	for _, service := range []string{"echo", "source", "sink", "secret"} {
		if c.Peers[service+" self"] != 1 {
			t.Errorf("there are %d peers of %s, want 1", c.Peers[service+" self"], strconv.Quote(service))
		}
	}
}
