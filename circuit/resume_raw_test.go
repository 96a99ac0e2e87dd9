package circuit_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/limit"
)

// patient is the configuration of an honest side that does not mind that its
// pings are not answered.
var patient = circuit.Config{Silence: time.Minute}

// lasting says settings of circuits that outlive their connections.
func (r *rawPeer) lasting() *rawPeer {
	r.t.Helper()
	r.control = r.stream(lastingFrame())
	return r
}

// reconnect replaces the connection, as after a loss.
func (r *rawPeer) reconnect() *rawPeer {
	r.t.Helper()
	old := r.conn
	old.Close(transport.CodeLost, "")
	for r.honest.link.Attached() {
		runtime.Gosched()
	}
	got := make(chan transport.Conn, 1)
	go func() {
		c, err := r.at.Accept(r.t.Context())
		if err != nil {
			r.t.Error(err)
		}
		got <- c
	}()
	var err error
	for r.conn == old {
		if r.conn, err = r.from.Redial(r.t.Context(), r.at.Addr().String(), r.at.Key()); err != nil {
			r.t.Fatal(err)
		}
	}
	r.honest.link.Attach(<-got)
	return r.lasting()
}

// A rawCircuit is one that a raw peer has opened.
type rawCircuit struct {
	*rawPeer
	o opening
	s transport.Stream // the latest
	c *circuit.Circuit // the honest end
}

func (r *rawPeer) openLasting() *rawCircuit {
	r.t.Helper()
	k := &rawCircuit{rawPeer: r, o: newOpening()}
	k.s = r.stream(k.o.frame())
	wantFrame(r.t, k.s, frameAccept)
	k.c = <-r.honest.news
	k.o.resume, k.o.credit = true, 1<<20
	return k
}

// resume sends an open frame of the next generation, or what change makes of
// it.
func (k *rawCircuit) resume(change func(o *opening)) transport.Stream {
	k.t.Helper()
	o := k.o
	o.generation++
	if change != nil {
		change(&o)
	}
	return k.stream(o.frame())
}

// resumed is resume, and the yes to it.
func (k *rawCircuit) resumed(change func(o *opening)) (received, credit uint64) {
	k.t.Helper()
	k.s = k.resume(change)
	k.o.generation++
	gen, received, credit := readAccept(k.t, k.s)
	if gen != k.o.generation {
		k.t.Errorf("accept of generation %d, want %d", gen, k.o.generation)
	}
	return received, credit
}

func readAccept(t *testing.T, s transport.Stream) (gen, received, credit uint64) {
	t.Helper()
	_, b, err := msgp.ReadBytesZC(wantFrame(t, s, frameAccept)[1:])
	for _, v := range []*uint64{&gen, &received, &credit} {
		if err == nil {
			*v, b, err = msgp.ReadUint64Bytes(b)
		}
	}
	if err != nil || len(b) > 0 {
		t.Fatalf("accept frame: %v, %d bytes left", err, len(b))
	}
	return gen, received, credit
}

// wantSerials reads data frames with serials from first to last.
func wantSerials(t *testing.T, s transport.Stream, first, last uint64) {
	t.Helper()
	for want := first; want <= last; want++ {
		body := wantFrame(t, s, frameData)
		if got, _, err := msgp.ReadUint64Bytes(body[1:]); err != nil || got != want {
			t.Fatalf("fragment %d came, %v, want %d", got, err, want)
		}
	}
}

// A circuit is resumed by what the two sides say they have.
func TestResumeReplaysWhatIsMissing(t *testing.T) {
	k := newRaw(t, patient).lasting().openLasting()
	for range 10 {
		if err := k.c.SendOneWay(frag(0, "x")); err != nil {
			t.Fatal(err)
		}
	}
	wantSerials(t, k.s, 1, 10)
	write(t, k.s, dataFrame(1, nil))
	write(t, k.s, dataFrame(2, nil))
	<-k.c.Reads
	<-k.c.Reads
	k.o.received = 4
	if received, credit := k.resumed(nil); received != 2 || credit < 8<<10 {
		t.Errorf("resumed with %d received and a credit of %d", received, credit)
	}
	wantSerials(t, k.s, 5, 10)
	write(t, k.s, dataFrame(2, nil)) // early data that was there already
	wantAlive(t, k.s, k.c, 3)
	if st := k.c.Stats(); st.Unacked != 6 || st.Duplicates != 1 || st.Replayed != 6 || st.Attachments != 2 {
		t.Errorf("%+v", st)
	}
	// Also on another connection, and what the old one had is void there.
	k.reconnect()
	k.o.received = 10
	k.resumed(nil)
	write(t, k.control, resumedFrame(false, k.o.id))
	k.c.SendOneWay(frag(0, "x"))
	wantSerials(t, k.s, 11, 11)
	wantAlive(t, k.s, k.c, 4)
}

// Frames that resume what is not there, not theirs, or not so, are refused;
// the circuit they speak of does not notice.
func TestResumeThatIsRefused(t *testing.T) {
	at := endpointAt(t, loopback(t))
	t.Cleanup(func() { at.Close() })
	k := connectRaw(t, at, patient).lasting().openLasting()
	stranger := connectRaw(t, at, patient).lasting()
	k.s.Write(dataFrame(1, nil))
	<-k.c.Reads

	wantRefusal(t, (&rawCircuit{rawPeer: stranger, o: k.o}).resume(nil), refusedGone)
	for _, tc := range []struct {
		name   string
		change func(o *opening)
		code   circuit.RefuseCode
	}{
		{"another circuit", func(o *opening) { o.id = circuit.NewID() }, refusedGone},
		{"another seed", func(o *opening) { o.from = circuit.NewID() }, circuit.RefusedBadRequest},
		{"no seed", func(o *opening) { o.from = circuit.ID{} }, circuit.RefusedBadRequest},
		{"the generation that is there", func(o *opening) { o.generation = 1 }, 9},
		{"generation 0", func(o *opening) { o.generation = 0 }, 9},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantRefusal(t, (&rawCircuit{rawPeer: k.in(t), o: k.o}).resume(tc.change), tc.code)
		})
	}
	wantAlive(t, k.s, k.c, 2)
	if st := k.c.Stats(); st.Attachments != 1 {
		t.Errorf("%d attachments", st.Attachments)
	}
	// A frame that opens it once more, with a generation that is new, is its
	// opener who has not heard the answer.
	s := k.resume(func(o *opening) { o.resume = false })
	if gen, received, _ := readAccept(t, s); gen != 2 || received != 2 {
		t.Errorf("accept of generation %d with %d received", gen, received)
	}
	wantAlive(t, s, k.c, 3)
	// A finished circuit is no more.
	k.c.Close()
	wantFrame(t, s, frameFin)
	s.Close()
	for k.honest.link.Leftover() > 0 {
		runtime.Gosched()
	}
	wantRefusal(t, k.resume(func(o *opening) { o.generation = 3 }), refusedGone)
}

// Credit is what the latest attachment says, and acknowledgements after it.
func TestCreditOfAResumedCircuit(t *testing.T) {
	k := newRaw(t, circuit.Config{Ledger: circuit.Bounded(limit.Circuit{Inbox: -1}), Silence: time.Minute}).lasting().openLasting()
	big := &circuit.Fragment{Payload: make([]byte, 1000)}
	cost := uint64(512 + len(frameOf(frameData, append(newTuple(6).uint(1).int(0).str("").int(0).null().str(""), big.Payload...))))
	for range 5 {
		k.c.SendOneWay(big)
	}
	wantSerials(t, k.s, 1, 5)
	k.resumed(func(o *opening) { o.received, o.credit = 2, 4*cost }) // for four in all
	wantSerials(t, k.s, 3, 4)
	k.s.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := k.s.Read(make([]byte, 1)); n != 0 || err == io.EOF {
		t.Errorf("%d bytes come without credit, %v", n, err)
	}
	write(t, k.control, ackFrame(k.s.ID(), 4, 1<<20))
	wantSerials(t, k.s, 5, 5)
	k.resumed(func(o *opening) { o.received, o.credit = 4, 0 })
	write(t, k.control, ackFrame(k.s.ID(), 5, 1<<62))
	k.c.SendOneWay(big)
	wantSerials(t, k.s, 6, 6)
	wantAlive(t, k.s, k.c, 1)
}

// What a resumed frame does not name is gone at the other side, if the circuit
// is of an earlier connection and the other side's own.
func TestResumedFrames(t *testing.T) {
	r := newRaw(t, patient).lasting()
	named, unnamed := r.openLasting(), r.openLasting()
	write(t, r.control, resumedFrame(false)) // on this connection there was nothing to resume
	wantAlive(t, unnamed.s, unnamed.c, 1)
	r.reconnect()
	fresh := r.openLasting()
	write(t, r.control, resumedFrame(true, named.o.id, circuit.NewID()))
	write(t, r.control, resumedFrame(true, circuit.NewID()))
	wantAlive(t, fresh.s, fresh.c, 1)
	if st := unnamed.c.State(); st.Ended {
		t.Errorf("before the last frame: %v", st)
	}
	write(t, r.control, resumedFrame(false, circuit.ID{}))
	wantLostBy(t, unnamed.c)
	named.resumed(nil)
	wantAlive(t, named.s, named.c, 1)
	wantAlive(t, fresh.s, fresh.c, 2)
	wantRefusal(t, unnamed.resume(nil), refusedGone)
	write(t, r.control, newTuple(1).array(0).in(frameResumed))
	<-r.conn.Context().Done()
	if re, ok := errors.AsType[*transport.RemoteError](context.Cause(r.conn.Context())); !ok || re.Code != transport.CodeProtocol {
		t.Errorf("half a resumed frame: %v", context.Cause(r.conn.Context()))
	}
}

// Yields that do not fit are void, whether they are late or nonsense.
func TestYieldsThatAreVoid(t *testing.T) {
	k := newRaw(t, patient).lasting().openLasting()
	for _, y := range [][]byte{
		yieldFrame(k.s.ID(), 12345, 0), yieldFrame(k.s.ID(), 0, 1<<60), yieldFrame(1<<40, 1<<20, 0), yieldFrame(k.s.ID()+1, 1<<20, 0),
	} {
		write(t, k.control, y)
	}
	wantAlive(t, k.s, k.c, 1)
	granted := k.granted()
	write(t, k.control, yieldFrame(k.s.ID(), granted, granted))
	write(t, k.control, yieldFrame(k.s.ID(), granted, granted-100)) // this one holds
	wantAlive(t, k.s, k.c, 2)
}

// However often a circuit moves, nothing is left behind.
func TestResumeAThousandTimes(t *testing.T) {
	k := newRaw(t, patient).lasting().openLasting()
	before := runtime.NumGoroutine()
	const times = 1000
	for serial := uint64(1); serial <= times; serial++ {
		if serial%2 == 0 {
			k.s.Reset(transport.CodeClosed)
		}
		k.c.SendOneWay(frag(0, "x"))
		k.o.received = serial - 1
		if received, _ := k.resumed(nil); received != serial-1 {
			t.Fatalf("resumed with %d received, want %d", received, serial-1)
		}
		wantSerials(t, k.s, serial, serial)
		write(t, k.s, dataFrame(serial, nil))
		<-k.c.Reads
	}
	if st := k.c.Stats(); st.Attachments != times+1 || st.FragmentsRcv != times {
		t.Errorf("%+v", st)
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+10; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, and there were %d", runtime.NumGoroutine(), before)
		}
	}
}
