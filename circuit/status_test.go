package circuit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/limit"
)

// watchStates collects what States yields until the circuit ends.
func watchStates(c *circuit.Circuit) (states func() []circuit.State) {
	var got []circuit.State
	over := make(chan struct{})
	go func() {
		defer close(over)
		for st := range c.States(context.Background()) {
			got = append(got, st)
		}
	}()
	return func() []circuit.State { <-over; return got }
}

func TestStates(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		atA, atB := watchStates(a), watchStates(b)
		var cuts, heals []time.Time
		for range 3 {
			time.Sleep(10 * time.Second)
			cuts = append(cuts, time.Now())
			p.outage(20 * time.Second)
			heals = append(heals, time.Now())
			time.Sleep(10 * time.Second)
		}
		if st := a.State(); !st.Attached || st.Cause != nil || st.Ended || st.String() != "attached" {
			t.Errorf("it is %+v", st)
		}
		reason := errors.New("enough")
		a.CloseWith(reason)
		<-b.Context.Done()
		for _, got := range [][]circuit.State{atA(), atB()} {
			if len(got) != 8 {
				t.Fatalf("%d states, want attached, three times detached and attached, and ended: %v", len(got), got)
			}
			for i, st := range got[1:7] {
				checkState(t, i, st, cuts[i/2], heals[i/2])
			}
			if end := got[7]; !end.Ended || end.Attached || end.Cause == nil {
				t.Errorf("in the end it is %+v", end)
			}
		}
		if st := a.State(); !errors.Is(st.Cause, reason) || !errors.Is(st.Cause, circuit.ErrClosed) {
			t.Errorf("the closer's circuit is %v", st)
		}
		if st := b.State(); st.Cause != context.Cause(b.Context) {
			t.Errorf("the other end is %v", st)
		}
		for range a.States(t.Context()) {
			return // the end is yielded also to who comes late
		}
		t.Error("States yields nothing after the end")
	})
}

// checkState looks at the i-th change: detached and attached in turn.
func checkState(t *testing.T, i int, st circuit.State, cut, heal time.Time) {
	t.Helper()
	if st.Attached != (i%2 == 1) || st.Ended {
		t.Errorf("change %d: it is %v", i, st)
		return
	}
	from, what := cut, fmt.Sprint("change ", i)
	if st.Attached {
		from = heal
	}
	if st.Since.Before(from) || st.Since.After(from.Add(6*time.Second)) {
		t.Errorf("%s: it is so since %v after the fault", what, st.Since.Sub(from))
	}
	if st.Attachments != 1+(i+1)/2 {
		t.Errorf("%s: %d attachments", what, st.Attachments)
	}
	if st.Attached != (st.Cause == nil) || !st.Attached && !errors.Is(st.Cause, transport.ErrLost) {
		t.Errorf("%s: the cause is %v", what, st.Cause)
	}
}

func TestStatesEndsWithItsContext(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		a, _ := p.openCircuit(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n := 0
		for range a.States(ctx) {
			n++
		}
		if n != 1 {
			t.Errorf("%d states, want one", n)
		}
	})
}

// What is sent twice is counted, at both ends.
func TestReplayIsCounted(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		p.net.Cut(p.hb.Addr(), p.ha.Addr()) // acknowledgements do not come
		const n = 10
		for i := range int64(n) {
			a.SendOneWay(frag(i, "x"))
		}
		for i := range int64(n) {
			if f := <-b.Reads; f.FragPart != i {
				t.Fatalf("part %d came, want %d", f.FragPart, i)
			}
		}
		time.Sleep(20 * time.Second)
		p.partition()
		const more = 5
		for i := range int64(more) {
			a.SendOneWay(frag(n+i, "y"))
		}
		p.rejoin()
		if unacked, err := a.Flush(t.Context()); unacked != 0 || err != nil {
			t.Fatalf("%d unacknowledged, %v", unacked, err)
		}
		sa, sb := a.Stats(), b.Stats()
		if sa.Replayed == 0 || sa.Replayed > n || sb.Duplicates != sa.Replayed || sb.Replayed != 0 || sa.Duplicates != 0 {
			t.Errorf("replayed %d and %d, duplicates %d and %d", sa.Replayed, sb.Replayed, sa.Duplicates, sb.Duplicates)
		}
		if sa.FragmentsSent != n+more || sb.FragmentsRcv != n+more || sa.Attachments < 2 || sb.Attachments < 2 {
			t.Errorf("%+v and %+v", sa, sb)
		}
		for i := range int64(more) {
			if f := <-b.Reads; f.FragPart != n+i {
				t.Fatalf("part %d came, want %d", f.FragPart, n+i)
			}
		}
	})
}

// flushed is what a call of Flush has returned, and how long it took.
type flushed struct {
	unacked int
	err     error
	took    time.Duration
}

func flush(ctx context.Context, c *circuit.Circuit) flushed {
	start := time.Now()
	n, err := c.Flush(ctx)
	return flushed{n, err, time.Since(start)}
}

func TestFlush(t *testing.T) {
	inLasting(t, circuit.Config{}, circuit.Config{}, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		if f := flush(t.Context(), a); f != (flushed{}) {
			t.Errorf("with nothing sent: %+v", f)
		}
		for i := range int64(10) {
			a.SendOneWay(frag(i, "x"))
		}
		if f := flush(t.Context(), a); f.unacked != 0 || f.err != nil || f.took < 20*time.Millisecond || f.took > 50*time.Millisecond {
			t.Errorf("10 fragments on a path of 20 ms: %+v", f)
		}
		if n := b.Stats().FragmentsRcv; n != 10 {
			t.Errorf("acknowledged, and %d are there", n)
		}

		p.partition()
		for i := range int64(7) {
			a.SendOneWay(frag(10+i, "x"))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if f := flush(ctx, a); f != (flushed{7, context.DeadlineExceeded, 2 * time.Second}) {
			t.Errorf("into the void: %+v", f)
		}
		// Across the outage. What is sent after the call is not waited for.
		results := make(chan flushed)
		for range 20 {
			go func() { results <- flush(context.Background(), a) }()
		}
		time.Sleep(20 * time.Second)
		p.rejoin()
		for range 20 {
			if f := <-results; f.unacked != 0 || f.err != nil || f.took > 26*time.Second {
				t.Errorf("across the outage: %+v", f)
			}
		}
		p.partition()
		a.SendOneWay(frag(17, "x"))
		a.Close() // Flush waits for what was sent before
		time.AfterFunc(10*time.Second, p.rejoin)
		if f := flush(t.Context(), a); f.unacked != 0 || f.err != nil || f.took < 10*time.Second || f.took > 16*time.Second {
			t.Errorf("after Close: %+v", f)
		}
		for i := range int64(18) {
			if f := <-b.Reads; f.FragPart != i {
				t.Fatalf("part %d came, want %d", f.FragPart, i)
			}
		}
		if f := flush(t.Context(), a); f != (flushed{}) {
			t.Errorf("after the end: %+v", f)
		}
	})
}

// Flush gives up with the circuit and says how many it was about.
func TestFlushOfWhatIsNotDelivered(t *testing.T) {
	cfg := circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: 8 << 10, Inbox: -1}), Linger: 10 * time.Second}
	inLasting(t, cfg, cfg, func(t *testing.T, p *lasting) {
		fill := func(c *circuit.Circuit) (n int) {
			for c.SendOneWay(&circuit.Fragment{Payload: make([]byte, 1000)}) == nil {
				n++
			}
			return n
		}
		// The other side closes, and does not take what is under way.
		a, b := p.openCircuit(t, nil)
		fill(a)
		time.Sleep(time.Second)
		fill(a)
		more := a.Stats().Unacked
		if more == 0 {
			t.Fatal("nothing waits at the sender")
		}
		time.AfterFunc(time.Second, func() { b.CloseWith(errors.New("no more")) })
		f := flush(t.Context(), a)
		if re, ok := errors.AsType[*circuit.RemoteError](f.err); !ok || re.Reason != "no more" || f.unacked != more || f.took > 2*time.Second {
			t.Errorf("the other side has closed: %+v, want %d unacknowledged", f, more)
		}
		a.Close()

		// The circuit is lost; some calls began with less to wait for.
		a, _ = p.openCircuit(t, nil)
		p.partition()
		var calls sync.WaitGroup
		for i := range 5 {
			a.SendOneWay(frag(int64(i), "x"))
			calls.Go(func() {
				f := flush(context.Background(), a)
				if _, lost := errors.AsType[*circuit.LostError](f.err); !lost || f.unacked != i+1 {
					t.Errorf("call %d: %+v", i, f)
				}
			})
			time.Sleep(time.Millisecond)
		}
		calls.Wait()

		p.rejoin()
	})
}

// A circuit that was closed in an outage and that nobody takes up again.
func TestFlushAfterCloseThatNobodyHears(t *testing.T) {
	cfg := circuit.Config{Linger: 10 * time.Second}
	inLasting(t, cfg, cfg, func(t *testing.T, p *lasting) {
		a, b := p.openCircuit(t, nil)
		p.partition()
		for i := range int64(3) {
			a.SendOneWay(frag(i, "x"))
		}
		a.Close()
		if f := flush(t.Context(), a); f.unacked != 3 || f.err == nil || f.took < 10*time.Second || f.took > 20*time.Second {
			t.Errorf("nobody hears: %+v", f)
		}
		synctest.Wait() // Flush returns when the state says so; the link is told after that
		if n := p.a.link.Leftover(); n != 0 {
			t.Errorf("%d circuits are left", n)
		}
		if le := lostOf(t, b); le.Unacked != 0 {
			t.Errorf("the other end: %v", le)
		}
		p.rejoin()
	})
}

// Who ranges over Reads may ask for the cause at once.
func TestCauseIsThereWhenReadsIsClosed(t *testing.T) {
	p := newPair(t, circuit.Config{})
	for i := range int64(300) {
		a, b := p.openCircuit(t, nil)
		if err := a.SendOneWay(frag(i, "x")); err != nil {
			t.Fatal(err)
		}
		go a.Close()
		n := 0
		for range b.Reads {
			n++
		}
		if cause := context.Cause(b.Context); n != 1 || cause != circuit.ErrRemoteClosed {
			t.Fatalf("circuit %d: after %d fragments the cause is %v", i, n, cause)
		}
		b.Close()
	}
}
