package quic

import (
	"context"
	"errors"
	"os"
	"sync"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
)

// Arrived are the streams that the other side has opened and that AcceptStream
// has not returned yet. They are taken from QUIC at once, so that what is on
// them is counted, and they are; QUIC bounds their number.
type arrived struct {
	mu      sync.Mutex // never held while anything waits
	waiting []*stream
	ready   chan struct{}
}

func (a *arrived) wake() {
	select {
	case a.ready <- struct{}{}:
	default:
	}
}

func (a *arrived) put(s *stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, s)
	a.wake()
}

func (a *arrived) take() *stream {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		return nil
	}
	s := a.waiting[0]
	a.waiting[0] = nil // or the slice would keep it
	a.waiting = a.waiting[1:]
	if len(a.waiting) > 0 {
		a.wake() // another AcceptStream may be waiting
	}
	return s
}

// drop lets go of what is on them.
func (a *arrived) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = nil
}

// streamCost is what a stream that nobody has accepted takes besides what is on
// it, in bytes: 2.4 KiB were measured.
const streamCost = 2560

// errEarlyStream: nobody opens streams besides that of hello before the welcome
// was said, and taken.
var errEarlyStream = errors.New("a stream before hello is over")

// collect is a goroutine of the endpoint's for each connection, from hello on.
// QUIC lets the other side reset streams and send as much again, so as long as
// it is not counted it may have no more of them.
func (c *conn) collect() {
	for {
		qs, err := c.qc.AcceptStream(context.Background()) // until the connection ends
		if err != nil {
			c.arrived.drop()
			return
		}
		if !c.expected.Load() {
			c.ep.note(c.qc.RemoteAddr(), &refusalError{code: transport.CodeProtocol, reason: errEarlyStream.Error(), key: c.node.key})
			c.qc.CloseWithError(quicgo.ApplicationErrorCode(transport.CodeProtocol), errEarlyStream.Error())
			return
		}
		if err := c.booking.hold(streamCost); err != nil {
			c.flooded(err)
			continue // until the connection has ended
		}
		c.arrived.put(c.newStream(qs))
	}
}

func (c *conn) AcceptStream(ctx context.Context) (transport.Stream, error) {
	for c.qc.Context().Err() == nil {
		if s := c.arrived.take(); s != nil {
			c.booking.letGo(streamCost)
			return s, nil
		}
		select {
		case <-c.arrived.ready:
		case <-c.qc.Context().Done():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, c.fail(context.Cause(c.qc.Context()))
}

func (c *conn) newStream(qs *quicgo.Stream) *stream {
	s := &stream{qs: qs, c: c}
	// From QUIC's own goroutine, or before this returns.
	qs.SetReceiveFinalSizeCallback(s.complete)
	return s
}

// A tally is how much of a stream is still to be read, once its length is
// known. A stream that the other side has reset counts as read to QUIC, which
// lets the other side send as much again; but what has come is kept until
// somebody reads the error.
type tally struct {
	mu   sync.Mutex
	read int64
	held int64 // counted in booking.held
	gone bool  // nobody will read any more
}

// complete notes that the stream ends after size bytes.
func (s *stream) complete(size int64) {
	s.tally.mu.Lock()
	if !s.tally.gone {
		s.tally.held = size - s.tally.read
	}
	held := s.tally.held
	s.tally.mu.Unlock()
	if err := s.c.booking.hold(held); err != nil {
		s.c.ep.spawn(func() { s.c.flooded(err) }) // QUIC is not to be called from here
	}
}

// taken notes what a Read has returned.
func (s *stream) taken(n int, err error) {
	s.tally.mu.Lock()
	s.tally.read += int64(n)
	less := min(s.tally.held, int64(n))
	if err != nil && err != os.ErrDeadlineExceeded {
		less, s.tally.gone = s.tally.held, true
	}
	s.tally.held -= less
	s.tally.mu.Unlock()
	s.c.booking.letGo(less)
}
