package circuit_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
)

// next takes the next stream of the honest side, which must begin with a frame
// of that type.
func (r *rawPeer) next(want transport.FrameType) transport.Stream {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	s, err := r.conn.AcceptStream(ctx)
	if err != nil {
		r.t.Fatalf("waiting for a stream that begins with frame type %#x: %v", byte(want), err)
	}
	wantFrame(r.t, s, want)
	return s
}

// nextOpen takes the first two streams of a connection, the control stream and
// one that resumes a circuit, in whichever order they come.
func (r *rawPeer) nextOpen() (open transport.Stream) {
	r.t.Helper()
	for range 2 {
		s, err := r.conn.AcceptStream(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		s.SetReadDeadline(time.Now().Add(20 * time.Second))
		switch typ, _, err := transport.ReadFrame(s, 1<<20); {
		case err != nil:
			r.t.Fatalf("a stream ends with %v", err)
		case typ == frameOpen:
			open = s
		}
	}
	if open == nil {
		r.t.Fatal("nothing is resumed")
	}
	return open
}

// opened has the honest side open a circuit.
func (r *rawPeer) opened() (seed circuit.ID, s transport.Stream, c *circuit.Circuit) {
	r.t.Helper()
	r.next(frameSettings)
	seed = circuit.NewID()
	got, s := r.answer(seed, acceptFrame(seed))
	if c = <-got; c == nil {
		r.t.Fatal("not open")
	}
	return seed, s, c
}

// yes accepts what resumes a circuit in a generation.
func (r *rawPeer) yes(s transport.Stream, seed circuit.ID, gen uint64) {
	r.t.Helper()
	write(r.t, s, newTuple(4).bin(seed).uint(gen).uint(0).uint(1<<20).in(frameAccept))
}

// Where an address flaps, the resets of a connection that is given up may be
// read while it is well. That is nobody's fault, and an idle circuit, on which
// nothing new makes up for one, must bear any number of it, hours apart or not.
func TestReplacedConnectionsEndNoIdleCircuit(t *testing.T) {
	r := newRaw(t, patient).lasting()
	seed, s, c := r.opened()
	gen := uint64(1)
	for range 5 {
		s.Reset(transport.CodeClosed)
		r.next(frameOpen) // so the reset was read, and the connection well
		s = r.reconnect().nextOpen()
		gen += 2
		r.yes(s, seed, gen)
	}
	wantAlive(t, s, c, 1)
}

// A refusal is an answer to an opening. A circuit that both sides have is not
// ended by one that its resumption gets, unless it says that the circuit is
// gone: it is asked for again.
func TestRefusedResumptionsAreAskedAgain(t *testing.T) {
	for _, code := range []circuit.RefuseCode{circuit.RefusedInternal, circuit.RefusedBusy, circuit.RefusedUnauthorized, 200} {
		t.Run(code.String(), func(t *testing.T) {
			r := newRaw(t, patient).lasting()
			seed, s, c := r.opened()
			s.Reset(transport.CodeClosed)
			write(t, r.next(frameOpen), refuseFrame(uint64(code)))
			s = r.next(frameOpen)
			r.yes(s, seed, 3)
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
	// The circuits end with the connection: a reset would count as a fault.
	_, err := io.ReadAll(k.s)
	if re, ok := errors.AsType[*transport.RemoteError](err); !ok || re.Code != transport.CodeProtocol {
		t.Errorf("the circuit's stream ends with %v, want code %v of the connection", err, transport.CodeProtocol)
	}
	k.reconnect()
	k.resumed(nil)
	wantAlive(t, k.s, k.c, 1)
}

// So it is with an opening that waits for the peer, which has no more time
// then.
func TestDyingConnectionRefusesNoOpening(t *testing.T) {
	h := &holdUp{held: make(chan struct{}), free: make(chan struct{})}
	cfg := patient
	cfg.Logger = slog.New(h)
	r := newRaw(t, cfg).lasting()
	for range cap(r.honest.news) {
		wantFrame(t, r.stream(newOpening().frame()), frameAccept)
	}
	o := newOpening()
	s := r.stream(o.frame())
	for r.honest.count() <= cap(r.honest.news) {
		runtime.Gosched() // it is not being delivered yet
	}
	h.armed.Store(true)
	write(t, r.control, frameOf(0x7f, nil))
	<-h.held
	said, err := io.ReadAll(s)
	close(h.free)
	if re, ok := errors.AsType[*transport.RemoteError](err); !ok || re.Code != transport.CodeClosed || len(said) > 0 {
		t.Errorf("an opening on a dying connection gets %x, %v; want a reset with code %v", said, err, transport.CodeClosed)
	}
	<-r.honest.news
	r.reconnect()
	o.generation++
	wantFrame(t, r.stream(o.frame()), frameAccept)
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
