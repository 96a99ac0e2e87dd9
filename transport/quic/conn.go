package quic

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
)

var _ transport.Conn = (*conn)(nil)

// Why this side ends a Conn that it did not mean to close.
var (
	errSuperseded = fmt.Errorf("%w: the other side has lost it and opened another", transport.ErrLost)
	errRestarted  = fmt.Errorf("%w: the other process has restarted", transport.ErrLost)
)

// A conn is a QUIC connection, from the moment when both keys are proved. It
// becomes a transport.Conn when it is open.
type conn struct {
	ep      *Endpoint
	qc      *quicgo.Conn
	dialed  bool // by this side
	node    node // the nonce is known after hello
	who     peerKeys
	booking *booking

	// Written before the conn is open, by the goroutine that says hello, and
	// under Endpoint.mu as far as the table reads them.
	serial  uint64 // given before hello; names the Conn to the other side
	theirs  uint64 // the other side's serial, if it has dialled
	floor   uint64 // of the welcome
	openSeq uint64 // given at the opening
	opened  time.Time

	arrived  arrived
	expected atomic.Bool // the other side may open streams now

	ctx    context.Context // ends with the mapped cause
	cancel context.CancelCauseFunc
	local  atomic.Pointer[error] // the cause, if this side ends it; the first one counts
}

func (e *Endpoint) newConn(qc *quicgo.Conn, who peerKeys) *conn {
	c := &conn{ep: e, qc: qc, node: node{key: who.id()}, who: who, booking: bookingOf(qc)}
	c.arrived.ready = make(chan struct{}, 1)
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// watch sees to it that the Conn ends here when QUIC says so. The endpoint owns
// the goroutine that this starts.
// Called with mu held, before the endpoint closes.
func (c *conn) watch() {
	c.opened = time.Now()
	c.ep.wg.Add(1)
	context.AfterFunc(c.qc.Context(), func() {
		defer c.ep.wg.Done()
		c.fail(context.Cause(c.qc.Context()))
	})
}

// fail ends the Conn because QUIC has returned err, unless it has ended
// already, and returns the cause of its end.
func (c *conn) fail(err error) error {
	var local error
	if p := c.local.Load(); p != nil {
		local = *p
	}
	c.ep.forget(c) // first: whoever sees the end may dial at once, and must not get c again
	c.booking.end()
	c.cancel(connError(err, local))
	return context.Cause(c.ctx)
}

// end closes the connection at both sides; cause is why, for this side.
func (c *conn) end(cause error, code transport.Code, reason string) {
	c.local.CompareAndSwap(nil, &cause)
	c.qc.CloseWithError(quicgo.ApplicationErrorCode(code), cut(reason))
	c.fail(context.Cause(c.qc.Context()))
}

// flooded ends a connection that has made this side keep more than it may.
func (c *conn) flooded(err error) {
	const reason = "too much is unread on streams that were reset or not accepted"
	// What this side has dialled was let in by nobody, and is no decision.
	c.ep.note(c.qc.RemoteAddr(), &refusalError{code: transport.CodeLimit, reason: reason, key: c.node.key, why: err, told: c.dialed})
	c.end(fmt.Errorf("%w: %w", transport.ErrLost, err), transport.CodeLimit, reason)
}

func (c *conn) Context() context.Context { return c.ctx }

func (c *conn) Close(code transport.Code, reason string) error {
	c.end(transport.ErrClosed, code, reason)
	return nil
}

func (c *conn) Info() transport.ConnInfo {
	info := transport.ConnInfo{
		RemoteKey:  c.node.publicKey(),
		RemoteAddr: c.qc.RemoteAddr(),
		LocalAddr:  c.qc.LocalAddr(),
		BootNonce:  c.node.nonce,
		Dialed:     c.dialed,
		Opened:     c.opened,
	}
	if r := c.who.instead; r != nil {
		info.OldKey, info.OldUntil, info.Heir = r.Old.Key(), r.Until, c.who.heir
	}
	return info
}

func (c *conn) OpenStream(ctx context.Context) (transport.Stream, error) {
	qs, err := c.qc.OpenStreamSync(ctx)
	switch {
	case err == nil:
		return c.newStream(qs), nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return nil, ctx.Err()
	}
	return nil, c.fail(err)
}
