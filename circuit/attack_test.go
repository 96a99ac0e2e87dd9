package circuit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
)

// Where an address flaps, the acceptor of the circuits hears of each new
// connection first and gives the old one up while it is well. That is nobody's
// fault, and an idle circuit, on which nothing new makes up for a fault, must
// bear any number of it.
func TestReplacedConnectionsEndNoIdleCircuit(t *testing.T) {
	inWires(t, circuit.Config{}, func(t *testing.T, p *simPair, w *wires) {
		var as []*circuit.Circuit
		for range 30 {
			a, _ := p.openCircuit(t, nil)
			as = append(as, a)
		}
		const replacements = 9
		for range replacements {
			time.Sleep(10 * time.Minute)
			a, b := w.next()
			p.b.link.Attach(b)
			time.Sleep(20 * time.Millisecond)
			p.a.link.Attach(a)
		}
		time.Sleep(time.Second)
		for i, a := range as {
			if st := a.State(); !st.Attached || st.Attachments < replacements {
				t.Errorf("circuit %d is %v, with %d attachments", i, st, st.Attachments)
			}
		}
	})
}

// The same with two connections right behind one another each time: the second
// comes while the circuits are being moved to the first.
func TestConnectionsInPairsEndNoIdleCircuit(t *testing.T) {
	inWires(t, circuit.Config{}, func(t *testing.T, p *simPair, w *wires) {
		var as []*circuit.Circuit
		for range 100 {
			a, _ := p.openCircuit(t, nil)
			as = append(as, a)
		}
		for round := range 8 {
			a1, b1 := w.next()
			a2, b2 := w.next()
			p.b.link.Attach(b1)
			p.a.link.Attach(a1)
			time.Sleep(200*time.Millisecond + time.Duration(round)*3*time.Millisecond)
			p.b.link.Attach(b2)
			time.Sleep(2 * time.Millisecond)
			p.a.link.Attach(a2)
			time.Sleep(time.Second)
		}
		for i, a := range as {
			if st := a.State(); !st.Attached {
				t.Errorf("circuit %d is %v", i, st)
			}
		}
	})
}

// A refusal is an answer to an opening. A circuit that both sides have is not
// ended by one that its resumption gets, unless it says that the circuit is
// gone: it is asked for again.
func TestRefusedResumptionsAreAskedAgain(t *testing.T) {
	for _, code := range []circuit.RefuseCode{
		circuit.RefusedInternal, circuit.RefusedBusy, circuit.RefusedLimit, circuit.RefusedUnauthorized,
		circuit.RefusedUnknownPeer, circuit.RefusedUnknownService, circuit.RefusedBadRequest, 200,
	} {
		t.Run(code.String(), func(t *testing.T) {
			r := newRaw(t, patient).lasting()
			control, err := r.conn.AcceptStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantFrame(t, control, frameSettings)
			seed := circuit.NewID()
			got, s := r.answer(seed, acceptFrame(seed))
			c := <-got
			s.Reset(transport.CodeClosed)
			next := func() transport.Stream {
				s, err := r.conn.AcceptStream(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				wantFrame(t, s, frameOpen)
				return s
			}
			write(t, next(), refuseFrame(uint64(code)))
			s = next()
			write(t, s, newTuple(4).bin(seed).uint(3).uint(0).uint(1<<20).in(frameAccept))
			wantAlive(t, s, c, 1)
		})
	}
}

// A holdUp is a log that keeps the goroutine that writes the first message
// after it was armed: the end of a connection is logged in the midst of it.
type holdUp struct {
	armed      atomic.Bool
	held, free chan struct{}
}

func (h *holdUp) Enabled(context.Context, slog.Level) bool { return true }
func (h *holdUp) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *holdUp) WithGroup(string) slog.Handler            { return h }

func (h *holdUp) Handle(context.Context, slog.Record) error {
	if h.armed.CompareAndSwap(true, false) {
		close(h.held)
		<-h.free
	}
	return nil
}

// While a connection is being given up, which takes a while with thousands of
// circuits, resumptions and openings may still come on it. What fails there only
// because of that must not be answered with a no.
func TestDyingConnectionRefusesNothing(t *testing.T) {
	h := &holdUp{held: make(chan struct{}), free: make(chan struct{})}
	cfg := patient
	cfg.Logger = slog.New(h)
	k := newRaw(t, cfg).lasting().openLasting()
	h.armed.Store(true)
	write(t, k.control, frameOf(0x7f, nil)) // a fault: the connection is to be closed
	<-h.held

	const tries = 64 // streams that come so late are left alone, or answered: about every other one
	type answer struct {
		said []byte
		err  error
	}
	answers := make(chan answer, tries)
	var reads sync.WaitGroup
	for range tries {
		s := k.resume(nil)
		reads.Go(func() {
			said, err := io.ReadAll(s)
			answers <- answer{said, err}
		})
	}
	first := <-answers
	close(h.free)
	reads.Wait()
	close(answers)
	if re, ok := errors.AsType[*transport.RemoteError](first.err); !ok || re.Code != transport.CodeClosed || len(first.said) > 0 {
		t.Errorf("a resumption on a dying connection gets %x, %v; want a reset with code %v", first.said, first.err, transport.CodeClosed)
	}
	for a := range answers {
		if len(a.said) > 0 {
			t.Errorf("a resumption on a dying connection gets %x, %v", a.said, a.err)
		}
	}
	k.reconnect()
	k.resumed(nil)
	wantAlive(t, k.s, k.c, 1)
}

// An opening that waits for the other side's peer when the connection is
// replaced is asked again, whichever side comes to know of that first.
func TestOpeningsAreAskedAgain(t *testing.T) {
	for name, gap := range map[string]time.Duration{"acceptor first": 20 * time.Millisecond, "opener first": -20 * time.Millisecond, "at once": 0} {
		t.Run(name, func(t *testing.T) {
			inWires(t, circuit.Config{}, func(t *testing.T, p *simPair, w *wires) {
				full := cap(p.b.news)
				for range full {
					if _, err := p.a.link.Open(t.Context(), p.a.params(nil)); err != nil {
						t.Fatal(err)
					}
				}
				opened := make(chan error, 1)
				go func() {
					_, err := p.a.link.Open(t.Context(), p.a.params(frag(7, "waits")))
					opened <- err
				}()
				time.Sleep(time.Second)
				a, b := w.next()
				time.AfterFunc(max(0, -gap), func() { p.b.link.Attach(b) })
				time.AfterFunc(max(0, gap), func() { p.a.link.Attach(a) })
				time.Sleep(time.Second)
				for range full {
					<-p.b.news
				}
				if err := <-opened; err != nil {
					t.Fatalf("the opening ends with %v", err)
				}
				if f := <-(<-p.b.news).Reads; f == nil || f.FragPart != 7 || !bytes.Equal(f.Payload, []byte("waits")) {
					t.Errorf("the first fragment is %+v", f)
				}
			})
		})
	}
}

// Each resumed frame costs work, the last one for each circuit there is: those
// that say nothing, and all after the last, are faults.
func TestNeedlessResumedFramesAreFaults(t *testing.T) {
	for name, frames := range map[string][][]byte{
		"the last one twice":   {resumedFrame(false), resumedFrame(false)},
		"more after the last":  {resumedFrame(false), resumedFrame(true, circuit.NewID())},
		"more, but there is 0": {resumedFrame(true)},
	} {
		t.Run(name, func(t *testing.T) {
			k := newRaw(t, patient).lasting().openLasting()
			for _, f := range frames[:len(frames)-1] {
				write(t, k.control, f)
				wantAlive(t, k.s, k.c, 1)
			}
			write(t, k.control, frames[len(frames)-1])
			<-k.conn.Context().Done()
			cause := context.Cause(k.conn.Context())
			if re, ok := errors.AsType[*transport.RemoteError](cause); !ok || re.Code != transport.CodeProtocol {
				t.Errorf("the connection ends with %v, want code %v", cause, transport.CodeProtocol)
			}
			if st := k.c.State(); st.Ended {
				t.Errorf("the circuit is %v: it may be resumed on another connection", st)
			}
		})
	}
}
