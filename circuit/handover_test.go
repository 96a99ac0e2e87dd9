package circuit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"ckt.local/transport"
)

type slowAcceptor struct {
	seed ID
	in   chan struct{}
	out  chan struct{}
}

func (r *slowAcceptor) AcceptCircuit(_ context.Context, req OpenRequest) (Acceptance, error) {
	return Acceptance{PeerID: r.seed.Peer(req.Link.node), Seed: r.seed, Owner: &fakeOwner{}, Deliver: func(context.Context, *Circuit) error {
		r.in <- struct{}{}
		<-r.out
		return nil
	}}, nil
}

func (*slowAcceptor) CircuitRefused(OpenRequest, error) {}

// fedStream gives a fragment to whoever reads, as the opener has sent it behind its open.
type fedStream struct {
	*fakeStream
	data chan []byte
}

func (s *fedStream) Read(p []byte) (int, error) {
	select {
	case b := <-s.data:
		n := copy(p, b)
		if n < len(b) {
			s.data <- b[n:]
		}
		return n, nil
	case <-s.gone:
		return 0, transport.ErrClosed
	}
}

// A link ends (the other process has restarted, say) while the peer is taking
// over a new circuit. Its channels are closed then, so it must not be attached:
// a fragment that is sent on one of them ends the process.
func TestLinkEndsWhileACircuitIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		acc := &slowAcceptor{seed: NewID(), in: make(chan struct{}), out: make(chan struct{})}
		conn := newFakeConn()
		l := NewLink(conn, acc, Config{})
		if err := l.carrier().takeSettings(body(&wireSettings{Window: 1 << 20, MaxPayload: 1 << 20})); err != nil {
			t.Fatal(err)
		}
		car := l.carrier()
		s := &fedStream{conn.stream(), make(chan []byte, 1)}
		head := body(&wireFragment{Serial: 1}, []byte("hello")...)
		s.data <- frameBytes(frameData, head)
		open := &wireOpen{CircuitID: NewID(), Generation: 1, FromSeed: fakeSeed, FromService: "any", ToService: "any", HasFirst: true}
		served := make(chan error, 1)
		go func() {
			_, err := car.serveOpen(s, body(open), &serving{car: car})
			served <- err
		}()
		<-acc.in // the circuit is registered, and the peer has it in hand
		for _, c := range l.snapshot() {
			c.lose(errors.New("what Link.end does to each circuit, before it fails the carrier"))
		}
		close(acc.out)
		<-served
		synctest.Wait()
		car.fail(transport.CodeClosed, transport.ErrLost)
		l.Shutdown(t.Context(), nil)
	})
}
