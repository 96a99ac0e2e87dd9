package quic

import (
	"context"
	"errors"
	"fmt"
	"io"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
)

// errAbandoned: nobody waits for the attempt any more.
var errAbandoned = errors.New("transport/quic: the dial was given up")

// errBadAnswer: what came back is neither a welcome nor a refusal.
var errBadAnswer = errors.New("transport/quic: the answer to hello is broken")

// greet says hello on c and takes the welcome. If it fails, code is what to
// close c with.
func (e *Endpoint) greet(ctx context.Context, a *attempt, c *conn, replace uint64) (code transport.Code, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.HandshakeTimeout)
	defer cancel()
	qs, err := c.qc.OpenStreamSync(ctx)
	if err != nil {
		return transport.CodeClosed, c.ended(err)
	}
	if !e.spawn(c.collect) {
		return transport.CodeClosed, transport.ErrClosed
	}
	stop := interruptible(ctx, qs)
	defer stop()
	e.mu.Lock()
	e.table.greet(c)
	e.mu.Unlock()
	defer e.decided(c)
	p, err := newProver(c.qc.ConnectionState().TLS, e.cfg.PreSharedKeys)
	if err != nil {
		return transport.CodeClosed, err
	}
	h := hello{BootNonce: e.self.nonce, Serial: c.serial, Replace: replace, Proofs: p.dialled()}
	if err := sayHello(qs, h); err != nil {
		return transport.CodeClosed, c.ended(err)
	}
	typ, body, err := transport.ReadFrame(qs, helloLimit)
	if err != nil {
		return c.noAnswer(err)
	}
	switch typ {
	case typeRefusal:
		return transport.CodeClosed, c.refused(body)
	case typeWelcome:
		if code, err := c.welcomed(body, p); err != nil {
			return code, err
		}
	default:
		return transport.CodeProtocol, fmt.Errorf("%w: frame type %d", errBadAnswer, typ)
	}
	if err := e.take(ctx, a, c); err != nil {
		return transport.CodeDuplicate, err
	}
	c.expected.Store(true)
	qs.Close()       // the welcome is taken
	qs.CancelRead(0) // nothing comes after it
	return 0, nil
}

// welcomed reads a welcome. If it is not to be taken, code is what to close
// with.
func (c *conn) welcomed(body []byte, p prover) (code transport.Code, err error) {
	w, err := parseWelcome(body)
	if err != nil {
		return transport.CodeProtocol, fmt.Errorf("%w: welcome: %w", errBadAnswer, err)
	}
	c.node.nonce, c.floor = w.BootNonce, w.Floor
	if c.node == c.ep.self {
		return transport.CodeClosed, transport.ErrSelf
	}
	if !p.proves(w.Proof) {
		if len(p.keys) == 0 {
			return transport.CodeProtocol, fmt.Errorf("%w: a proof that was not asked for", errBadAnswer)
		}
		return transport.CodePSK, &transport.UnauthorizedError{
			Addr: c.qc.RemoteAddr().String(), Key: c.node.publicKey(), Err: errNoProof,
		}
	}
	return 0, nil
}

// noAnswer says what to close with, and what to tell the caller, when the
// answer to hello could not be read.
func (c *conn) noAnswer(err error) (transport.Code, error) {
	_, broken := errors.AsType[*transport.FrameError](err)
	if broken || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return transport.CodeProtocol, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	return transport.CodeClosed, c.ended(err)
}

// ended prefers what the other side said when it closed the connection to
// what the stream says about it.
func (c *conn) ended(err error) error {
	if c.qc.Context().Err() != nil {
		return context.Cause(c.qc.Context())
	}
	return err
}

func (e *Endpoint) decided(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.table.decided(c)
}

func sayHello(qs *quicgo.Stream, h hello) error {
	h.Minor = minor
	b, err := transport.AppendFrame(nil, typeHello, &h)
	if err != nil {
		return err
	}
	_, err = qs.Write(b)
	return err
}

// refused reads a refusal.
func (c *conn) refused(body []byte) error {
	r, err := parseRefusal(body)
	if err != nil {
		return fmt.Errorf("%w: refusal: %w", errBadAnswer, err)
	}
	remote := &transport.RemoteError{Code: transport.Code(r.Code), Reason: r.Reason}
	if remote.Code == transport.CodeLimit && r.Limit != "" {
		remote.Limit = transport.RemoteLimit(r.Limit, r.Value)
	}
	if remote.Code != transport.CodeDuplicate {
		return remote
	}
	return &duplicateError{
		node:   node{key: c.node.key, nonce: r.BootNonce},
		holds:  r.Holds,
		yours:  r.Yours,
		remote: remote,
	}
}

// take asks the table for c's place, as often as the table says to wait, and
// ends the attempt with c, or with the Conn that there is instead. An error
// says that c is not to be used.
func (e *Endpoint) take(ctx context.Context, a *attempt, c *conn) error {
	for {
		e.mu.Lock()
		if a.over() || e.closing {
			e.mu.Unlock()
			return errAbandoned
		}
		v := e.table.take(c)
		switch {
		case v.holds != nil:
			e.finish(a, v.holds, nil)
		case v.wait == nil:
			c.booking.enter(c.who.account(), always) // never fails
			c.watch()
			e.finish(a, c, nil)
		}
		e.mu.Unlock()
		switch {
		case v.holds != nil:
			return errAbandoned
		case v.wait == nil:
			c.lose(v.stale)
			return nil
		}
		select {
		case <-v.wait:
		case <-c.qc.Context().Done():
			return context.Cause(c.qc.Context())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
