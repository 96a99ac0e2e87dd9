package circuit_test

import (
	"runtime"
	"testing"

	"ckt.local/circuit"
	"ckt.local/transport"
)

// A fault costs the attachment and not the circuit.
func TestFaultsOfAnAttachment(t *testing.T) {
	k := newRaw(t, patient).lasting().openLasting()
	serial := uint64(0)
	for _, tc := range []struct {
		name  string
		fault func()
	}{
		{"a gap", func() { write(t, k.s, dataFrame(serial+2, nil)) }},
		{"serial 0", func() { write(t, k.s, dataFrame(0, nil)) }},
		{"no frame", func() { write(t, k.s, []byte{0}) }},
		{"a fin of less than there is", func() { write(t, k.s, finFrame(serial-1)) }},
		{"accept", func() { write(t, k.s, acceptFrame(k.o.from)) }},
		{"the end without a fin", func() { k.s.Close() }},
		{"acknowledged, and never sent", func() { write(t, k.control, ackFrame(k.s.ID(), 99, 1<<20)) }},
		{"credit that was not given", func() {
			granted := k.granted()
			write(t, k.control, yieldFrame(k.s.ID(), granted, granted+1))
		}},
		{"credit that was used", func() {
			granted := k.granted()
			write(t, k.control, yieldFrame(k.s.ID(), granted, 0))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			serial++
			wantAlive(t, k.s, k.c, serial)
			tc.fault()
			wantReset(t, k.s, transport.CodeProtocol)
			if st := k.c.State(); st.Attached || st.Ended {
				t.Errorf("the circuit is %v, want it detached", st)
			}
			if received, _ := k.resumed(nil); received != serial {
				t.Errorf("resumed with %d received, want %d", received, serial)
			}
		})
	}
	serial++
	wantAlive(t, k.s, k.c, serial)
	if st := k.c.State(); !st.Attached || st.Attachments != 12 {
		t.Errorf("it is %v, with %d attachments", st, st.Attachments)
	}
}

// granted is the credit that the raw peer has now: it takes another attachment
// to be told.
func (k *rawCircuit) granted() uint64 {
	_, credit := k.resumed(nil)
	return credit
}

// To resume after what was never sent is a fault too.
func TestResumeAfterWhatWasNotSent(t *testing.T) {
	k := newRaw(t, patient).lasting().openLasting()
	wantReset(t, k.resume(func(o *opening) { o.received = 1 }), transport.CodeProtocol)
	k.resumed(nil)
	wantAlive(t, k.s, k.c, 1)
}

// Three faults in a row, with nothing new between them, are enough.
func TestThreeFaultsInARowEndACircuit(t *testing.T) {
	k := newRaw(t, patient).lasting().openLasting()
	for range 2 {
		write(t, k.s, dataFrame(7, nil))
		wantReset(t, k.s, transport.CodeProtocol)
		k.resumed(nil)
	}
	write(t, k.s, dataFrame(7, nil))
	wantReset(t, k.s, transport.CodeProtocol)
	wantLostBy(t, k.c)
	k.c.Close()
	for k.honest.link.Leftover() > 0 {
		runtime.Gosched()
	}
	wantRefusal(t, k.resume(nil), refusedGone)
}

// The same at the side that has opened the circuit, which resumes it by itself.
func TestFaultsAtTheOpener(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(seed circuit.ID, gen uint64, s transport.Stream)
		faulty bool
	}{
		{"accept of another generation", func(seed circuit.ID, gen uint64, s transport.Stream) {
			write(t, s, newTuple(4).bin(seed).uint(gen+1).uint(0).uint(1<<20).in(frameAccept))
		}, true},
		{"accept with what was not sent", func(seed circuit.ID, gen uint64, s transport.Stream) {
			write(t, s, newTuple(4).bin(seed).uint(gen).uint(5).uint(1<<20).in(frameAccept))
		}, true},
		{"accept by somebody else", func(_ circuit.ID, gen uint64, s transport.Stream) {
			write(t, s, newTuple(4).bin(circuit.NewID()).uint(gen).uint(0).uint(1<<20).in(frameAccept))
		}, true},
		{"stale", func(_ circuit.ID, _ uint64, s transport.Stream) { write(t, s, refuseFrame(9)) }, true},
		{"protocol", func(_ circuit.ID, _ uint64, s transport.Stream) { s.Reset(transport.CodeProtocol) }, true},
		{"superseded", func(_ circuit.ID, _ uint64, s transport.Stream) { s.Reset(transport.CodeSuperseded) }, true},
		{"gone", func(_ circuit.ID, _ uint64, s transport.Stream) { s.Reset(codeGone) }, false},
		{"no such circuit", func(_ circuit.ID, _ uint64, s transport.Stream) { write(t, s, refuseFrame(8)) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRaw(t, patient).lasting()
			control, err := r.conn.AcceptStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantFrame(t, control, frameSettings)
			seed := circuit.NewID()
			got, s := r.answer(seed, acceptFrame(seed))
			c := <-got
			if c == nil {
				t.Fatal("not open")
			}
			s.Reset(transport.CodeClosed) // counts too, for the connection is well
			for gen := uint64(2); ; gen++ {
				s, err := r.conn.AcceptStream(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				wantFrame(t, s, frameOpen)
				tc.answer(seed, gen, s)
				if gen == 2 && !tc.faulty || gen == 3 {
					break
				}
			}
			wantLostBy(t, c)
		})
	}
}
