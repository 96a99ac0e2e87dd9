package circuit_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/limit"
)

func TestFirstFragmentArrivesFirst(t *testing.T) {
	p := newPair(t, circuit.Config{})
	for i := range 100 {
		a, b := p.openCircuit(t, frag(7, "first"))
		if err := a.SendOneWay(frag(8, "second")); err != nil {
			t.Fatal(err)
		}
		for want := int64(7); want < 9; want++ {
			if f := <-b.Reads; f == nil || f.FragPart != want {
				t.Fatalf("round %d: got %+v, want part %d", i, f, want)
			}
		}
		a.Close()
		<-b.Context.Done()
		if got := context.Cause(b.Context); got != circuit.ErrRemoteClosed {
			t.Fatalf("the other end's cause is %v, want ErrRemoteClosed", got)
		}
		if got := context.Cause(a.Context); got != circuit.ErrClosed {
			t.Fatalf("the closer's cause is %v, want ErrClosed", got)
		}
	}
}

func TestFragmentArrivesAsSentAndStamped(t *testing.T) {
	p := newPair(t, circuit.Config{})
	a, b := p.openCircuit(t, nil)
	sent := &circuit.Fragment{
		FromPeerID: "forged", ToPeerID: "forged", CircuitID: "forged", Serial: 99, Typ: 77, ServiceName: "forged",
		FragOp: -5, FragSubject: "subject", FragPart: 1 << 40,
		Args: map[string]string{"k": "v", "": "empty key"}, Payload: []byte{0, 1, 2},
	}
	if err := a.Send(t.Context(), sent); err != nil {
		t.Fatal(err)
	}
	f := <-b.Reads
	if f.FromPeerID != p.a.id.String() || f.ToPeerID != p.b.id.String() || f.CircuitID != a.CircuitID() ||
		f.Serial != 1 || f.Typ != circuit.CallData || f.ServiceName != "any" {
		t.Errorf("the stamp is not the receiver's: %+v", f)
	}
	if f.FragOp != -5 || f.FragSubject != "subject" || f.FragPart != 1<<40 ||
		!maps.Equal(f.Args, sent.Args) || string(f.Payload) != "\x00\x01\x02" {
		t.Errorf("the user's part differs: %+v", f)
	}
	if b.CircuitID() != a.CircuitID() || b.RemotePeerID() != a.LocalPeerID() || a.RemotePeerID() != b.LocalPeerID() {
		t.Error("the ends disagree about who they are")
	}
	if b.RemoteNodeID().String() == "" || b.RemoteNodeID() == a.RemoteNodeID() {
		t.Error("RemoteNodeID is not the other side's key")
	}
}

// A user who selects on Reads and Context, as everybody does, gets all.
func TestCloseDeliversWhatWasSentBefore(t *testing.T) {
	p := newPair(t, circuit.Config{})
	for round := range 1000 {
		a, b := p.openCircuit(t, nil)
		for i := range int64(50) {
			if err := a.SendOneWay(frag(i, "x")); err != nil {
				t.Fatal(err)
			}
		}
		a.Close()
		got := int64(0)
		for done := false; !done; {
			select {
			case f, ok := <-b.Reads:
				if !ok {
					done = true
				} else if f.FragPart != got {
					t.Fatalf("round %d: part %d after %d", round, f.FragPart, got-1)
				} else {
					got++
				}
			case <-b.Context.Done():
				done = true
			}
		}
		if got != 50 {
			t.Fatalf("round %d: got %d of 50", round, got)
		}
	}
}

func TestReasonsTravel(t *testing.T) {
	p := newPair(t, circuit.Config{})
	a, b := p.openCircuit(t, nil)
	reason := errors.New("out of cheese")
	b.CloseWith(reason)
	<-a.Context.Done()
	re, ok := errors.AsType[*circuit.RemoteError](context.Cause(a.Context))
	if !ok || re.Reason != "out of cheese" {
		t.Errorf("the other end's cause is %v, want a RemoteError with the reason", context.Cause(a.Context))
	}
	if errors.Is(context.Cause(a.Context), reason) || errors.Is(context.Cause(a.Context), circuit.ErrClosed) {
		t.Error("a remote word matches a local error")
	}
	if c := context.Cause(b.Context); !errors.Is(c, circuit.ErrClosed) || !errors.Is(c, reason) {
		t.Errorf("the closer's cause is %v, want ErrClosed and the reason", c)
	}
	if err := a.SendOneWay(frag(1, "")); !errors.As(err, &re) {
		t.Errorf("sending after the end: %v, want the cause", err)
	}
}

// Closing after the other side has closed is what everybody's defer does.
func TestCloseAfterTheOtherSidesClose(t *testing.T) {
	p := newPair(t, circuit.Config{})
	for range 100 {
		a, b := p.openCircuit(t, nil)
		a.Close()
		<-b.Context.Done()
		b.Close()
	}
	// The pair's cleanup joins every goroutine, so one that does not end
	// fails the test.
}

func TestErrorFragmentsComeOnErrors(t *testing.T) {
	p := newPair(t, circuit.Config{})
	a, b := p.openCircuit(t, nil)
	a.SendOneWay(frag(1, "one"))
	a.SendOneWay(&circuit.Fragment{Err: "two", FragPart: 2})
	a.SendOneWay(frag(3, "three"))
	if f := <-b.Errors; f.Err != "two" || f.Typ != circuit.CallError {
		t.Errorf("on Errors: %+v", f)
	}
	if f := <-b.Reads; f.FragPart != 1 {
		t.Errorf("on Reads: %+v", f)
	}
	if f := <-b.Reads; f.FragPart != 3 {
		t.Errorf("on Reads: %+v", f)
	}
}

func TestFragmentsRangesInOrderAndYieldsTheCause(t *testing.T) {
	p := newPair(t, circuit.Config{})
	a, b := p.openCircuit(t, nil)
	go func() {
		for i := range int64(500) {
			f := frag(i, "x")
			if i%10 == 3 {
				f.Err = "odd"
			}
			if err := a.Send(t.Context(), f); err != nil {
				t.Error(err)
			}
		}
		a.CloseWith(errors.New("enough"))
	}()
	next, ended := int64(0), false
	for f, err := range b.Fragments(t.Context()) {
		re, isRemote := errors.AsType[*circuit.RemoteError](err)
		switch {
		case f == nil:
			if !isRemote || re.Reason != "enough" {
				t.Errorf("the range ends with %v", err)
			}
			ended = true
			continue
		case f.FragPart != next:
			t.Fatalf("part %d, want %d", f.FragPart, next)
		case (next%10 == 3) != isRemote:
			t.Fatalf("part %d with error %v", next, err)
		}
		next++
	}
	if next != 500 || !ended {
		t.Errorf("got %d of 500, ended %v", next, ended)
	}
}

// Readers may change from Reads to Fragments and back without loss.
func TestFragmentsAndReadsTakeTurns(t *testing.T) {
	p := newPair(t, circuit.Config{})
	a, b := p.openCircuit(t, nil)
	const total = 3000
	go func() {
		for i := range int64(total) {
			if err := a.Send(t.Context(), frag(i, "x")); err != nil {
				t.Error(err)
				return
			}
		}
		a.Close()
	}()
	next := int64(0)
	check := func(f *circuit.Fragment) {
		if f.FragPart != next {
			t.Fatalf("part %d, want %d", f.FragPart, next)
		}
		next++
	}
	for next < total {
		for range 7 {
			if f, ok := <-b.Reads; ok {
				check(f)
			}
		}
		n := 0
		for f, err := range b.Fragments(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			check(f)
			if n++; n == 5 {
				break
			}
		}
	}
	<-b.Context.Done()
}

func TestRefusalsAreTypedAndHarmless(t *testing.T) {
	p := newPair(t, circuit.Config{})
	a, b := p.openCircuit(t, nil)
	params := p.a.params(frag(1, "never seen"))
	params.ToService = "no such"
	for range 50 {
		_, err := p.a.link.Open(t.Context(), params)
		re, ok := errors.AsType[*circuit.RefusedError](err)
		if !ok || re.Code != circuit.RefusedUnknownService || re.Reason != "only any" || re.Service != "no such" {
			t.Fatalf("got %v, want a refusal", err)
		}
	}
	p.b.mu.Lock()
	p.b.refuse = errors.New("secret detail")
	p.b.mu.Unlock()
	_, err := p.a.link.Open(t.Context(), p.a.params(nil))
	re, ok := errors.AsType[*circuit.RefusedError](err)
	if !ok || re.Code != circuit.RefusedInternal || re.Reason != "" {
		t.Errorf("got %v, want an internal error without its text", err)
	}
	a.SendOneWay(frag(2, "alive"))
	if f := <-b.Reads; f.FragPart != 2 {
		t.Errorf("the circuit that was open got %+v", f)
	}
	if n := p.a.count(); n != 1 {
		t.Errorf("the opener owns %d circuits, want 1", n)
	}
}

func TestClosingOneOfThreeLeavesTwo(t *testing.T) {
	p := newPair(t, circuit.Config{})
	a1, b1 := p.openCircuit(t, nil)
	a2, ctx2, err := a1.NewCircuit()
	if err != nil {
		t.Fatal(err)
	}
	b2 := <-p.b.news
	b3, _, err := b1.NewCircuit() // from the accepting end
	if err != nil {
		t.Fatal(err)
	}
	a3 := <-p.a.news
	a2.Close()
	<-ctx2.Done()
	<-b2.Context.Done()
	for _, e := range []struct{ from, to *circuit.Circuit }{{a1, b1}, {b1, a1}, {a3, b3}, {b3, a3}} {
		if err := e.from.SendOneWay(frag(1, "still here")); err != nil {
			t.Fatal(err)
		}
		if f := <-e.to.Reads; string(f.Payload) != "still here" {
			t.Fatalf("got %+v", f)
		}
	}
	// The owners are told right after the Context has ended.
	soon(t, "2 and 2 circuits are open", func() bool { return p.a.count() == 2 && p.b.count() == 2 })
}

func TestSendNeverBlocksAndNothingIsLost(t *testing.T) {
	p := newPair(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Window: 64 << 10})})
	a, b := p.openCircuit(t, nil)
	payload := make([]byte, 1000)
	sent := int64(0)
	for {
		start := time.Now()
		err := a.SendOneWay(&circuit.Fragment{FragPart: sent, Payload: payload})
		// Nobody reads, so one that waits waits for ever; a busy machine only
		// takes its time.
		if d := time.Since(start); d > 15*time.Second {
			t.Fatalf("SendOneWay took %v", d)
		}
		if err == circuit.ErrBacklog {
			st := b.Stats()
			if st.Unread > 0 && a.Stats().Unacked > 0 && sent > 60 {
				break // the inbox is full, and so is the outbox
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.Send(ctx, frag(-1, "no room")); err != context.DeadlineExceeded {
		// There may have been room for it after all; then it counts.
		if err != nil {
			t.Fatalf("Send without room: %v", err)
		}
	}
	for next := int64(0); next < sent; next++ {
		if f := <-b.Reads; f.FragPart != next {
			t.Fatalf("part %d, want %d", f.FragPart, next)
		}
	}
}

func TestBothDirectionsAtOnceWithLargeFragments(t *testing.T) {
	p := newPair(t, circuit.Config{})
	a, b := p.openCircuit(t, nil)
	const rounds, size = 40, 1 << 20
	var wg sync.WaitGroup
	for _, c := range []*circuit.Circuit{a, b} {
		wg.Go(func() {
			for i := range int64(rounds) {
				buf := make([]byte, size)
				buf[0], buf[size-1] = byte(i), byte(i)
				if err := c.Send(t.Context(), &circuit.Fragment{FragPart: i, Payload: buf}); err != nil {
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			for i := range int64(rounds) {
				f, ok := <-c.Reads
				if !ok || f.FragPart != i || len(f.Payload) != size || f.Payload[0] != byte(i) || f.Payload[size-1] != byte(i) {
					t.Errorf("fragment %d is not as it was sent", i)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestShutdownDeliversWhatIsQueued(t *testing.T) {
	p := newPair(t, circuit.Config{})
	a, b := p.openCircuit(t, nil)
	const total = 1000
	for i := range int64(total) {
		if err := a.SendOneWay(frag(i, "x")); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		if err := p.a.link.Shutdown(t.Context(), errors.New("going home")); err != nil {
			t.Error(err)
		}
	}()
	next := int64(0)
	for f := range b.Reads {
		if f.FragPart != next {
			t.Fatalf("part %d, want %d", f.FragPart, next)
		}
		next++
	}
	if next != total {
		t.Errorf("got %d of %d", next, total)
	}
	<-b.Context.Done()
	if re, ok := errors.AsType[*circuit.RemoteError](context.Cause(b.Context)); !ok || re.Reason != "going home" {
		t.Errorf("cause: %v", context.Cause(b.Context))
	}
	<-p.b.link.Context().Done()
}
