package quic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// refusalTime is how long a dialler has to read why it was refused.
const refusalTime = time.Second

// acceptLoop only starts goroutines, so that nobody waits for a slow hello.
func (e *Endpoint) acceptLoop() {
	for {
		qc, err := e.ln.Accept(context.Background()) // ends when the listener is closed
		if err != nil {
			e.stop(fmt.Errorf("%w: %w", transport.ErrClosed, err)) // nothing to do after Close
			return
		}
		e.arrivals.shaken(arrivalOf(qc))
		if !e.spawn(func() { e.serve(qc) }) {
			qc.CloseWithError(quicgo.ApplicationErrorCode(transport.CodeClosed), "")
		}
	}
}

// serve brings an inbound connection to the point where Accept can return it.
func (e *Endpoint) serve(qc *quicgo.Conn) {
	ctx, cancel := context.WithTimeout(e.ctx, e.cfg.HandshakeTimeout)
	defer cancel()
	if qc.Context().Err() != nil {
		return // its dialler has another one
	}
	err := e.handshake(ctx, qc)
	if err == nil {
		return
	}
	e.cfg.Logger.Debug("inbound connection refused", "addr", qc.RemoteAddr().String(), "err", err)
	code, reason := transport.CodeProtocol, ""
	if r, ok := errors.AsType[*refusalError](err); ok {
		code, reason = r.code, r.reason
	} else if e.ctx.Err() != nil {
		code = transport.CodeClosed
	} else if ctx.Err() != nil {
		code, reason = transport.CodeLimit, "hello took too long"
	}
	qc.CloseWithError(quicgo.ApplicationErrorCode(code), reason)
}

// handshake makes a Conn of an inbound connection.
func (e *Endpoint) handshake(ctx context.Context, qc *quicgo.Conn) error {
	if !e.enter(&e.hellos, maxHellos) {
		return &refusalError{code: transport.CodeLimit, reason: "too many connections at once"}
	}
	defer e.leave(&e.hellos)
	c, err := e.admit(ctx, qc)
	if err != nil {
		return err
	}
	if !e.enterKey(c.node.key) {
		return &refusalError{code: transport.CodeLimit, reason: "too many connections of this key at once"}
	}
	defer e.leaveKey(c.node.key)
	return e.receive(ctx, c)
}

// A refusalError is what this side says no with.
type refusalError struct {
	code   transport.Code
	reason string
	holds  uint64 // with CodeDuplicate, as is yours
	yours  uint64
}

func (r *refusalError) Error() string { return fmt.Sprintf("%v: %s", r.code, r.reason) }

// admit judges the key, before any byte of a stream is read.
func (e *Endpoint) admit(ctx context.Context, qc *quicgo.Conn) (*conn, error) {
	key, err := identity.VerifyPeer(qc.ConnectionState().TLS)
	if err != nil {
		return nil, err
	}
	err = e.cfg.Authorize(key, qc.RemoteAddr())
	if err == nil {
		return e.newConn(qc, node{key: identity.NodeIDOf(key)}), nil
	}
	// The reason for the no stays here: it may name files and other keys.
	e.cfg.Logger.Debug("key not authorised", "key", identity.NodeIDOf(key), "err", err)
	no := &refusalError{code: transport.CodeRefused, reason: "this key is not authorised"}
	if e.enter(&e.strangers, maxStrangers) {
		defer e.leave(&e.strangers)
		e.refuseStranger(ctx, qc, no)
	}
	return nil, no
}

// refuseStranger answers a hello without reading it.
func (e *Endpoint) refuseStranger(ctx context.Context, qc *quicgo.Conn, no *refusalError) {
	ctx, cancel := context.WithTimeout(ctx, refusalTime)
	defer cancel()
	if qs, err := qc.AcceptStream(ctx); err == nil {
		e.refuse(ctx, qc, qs, no)
	}
}

// refuse says no on the hello stream, and returns once the dialler has hung
// up, or has had its time, or does anything else.
func (e *Endpoint) refuse(ctx context.Context, qc *quicgo.Conn, qs *quicgo.Stream, no *refusalError) {
	r := refusal{Code: uint64(no.code), Reason: no.reason}
	if no.code == transport.CodeDuplicate {
		r.BootNonce, r.Holds, r.Yours = e.self.nonce, no.holds, no.yours
	}
	b, err := transport.AppendFrame(nil, typeRefusal, &r)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refusalTime)
	defer cancel()
	qs.SetWriteDeadline(deadline(ctx))
	if _, err := qs.Write(b); err != nil {
		return
	}
	qs.Close()
	qc.AcceptStream(ctx) // a dialler that has read it closes; it opens no stream
}

func deadline(ctx context.Context) time.Time {
	d, _ := ctx.Deadline()
	return d
}

// receive reads the hello on c, answers it, and waits until the dialler has
// taken the welcome.
func (e *Endpoint) receive(ctx context.Context, c *conn) error {
	qs, err := c.qc.AcceptStream(ctx)
	if err != nil {
		return err
	}
	stop := interruptible(ctx, qs)
	defer stop()
	h, err := readHello(qs)
	if err != nil {
		no := &refusalError{code: transport.CodeProtocol, reason: "this is no hello"}
		if _, broken := errors.AsType[*transport.FrameError](err); broken || errors.Is(err, errNoHello) {
			e.refuse(ctx, c.qc, qs, no)
			return no
		}
		return err
	}
	c.node.nonce = h.BootNonce
	if c.node == e.self {
		return e.answerSelf(qs)
	}
	if err := e.offer(c, h); err != nil {
		if no, ok := errors.AsType[*refusalError](err); ok {
			e.refuse(ctx, c.qc, qs, no)
		}
		return err
	}
	if err := e.welcome(qs, h, c.floor); err != nil {
		e.withdraw(c)
		return err
	}
	e.open(c)
	return nil
}

var errNoHello = errors.New("not a hello")

func readHello(qs *quicgo.Stream) (hello, error) {
	typ, body, err := transport.ReadFrame(qs, helloLimit)
	if err != nil {
		return hello{}, err
	}
	if typ != typeHello {
		return hello{}, fmt.Errorf("%w: frame type %d", errNoHello, typ)
	}
	h, err := parseHello(body)
	if err != nil {
		return hello{}, fmt.Errorf("%w: %w", errNoHello, err)
	}
	if h.Serial == 0 {
		return hello{}, fmt.Errorf("%w: serial 0", errNoHello)
	}
	return h, nil
}

// interruptible makes all calls on qs fail when ctx ends.
func interruptible(ctx context.Context, qs *quicgo.Stream) (stop func() bool) {
	return context.AfterFunc(ctx, func() { qs.SetDeadline(time.Now()) })
}

// answerSelf welcomes this endpoint's own dial, which then sees whom it has
// met and hangs up. It is no Conn.
func (e *Endpoint) answerSelf(qs *quicgo.Stream) error {
	if err := e.welcome(qs, hello{}, 0); err != nil {
		return err
	}
	return &refusalError{code: transport.CodeProtocol, reason: "dialled itself"}
}

// offer asks the table for c's place.
func (e *Endpoint) offer(c *conn, h hello) error {
	e.mu.Lock()
	if len(e.queue)+e.reserved >= maxBacklog {
		e.mu.Unlock()
		return &refusalError{code: transport.CodeLimit, reason: "too many connections wait to be accepted"}
	}
	if limit := e.cfg.limits.ConnsPerNode; e.table.full(c, limit) {
		e.mu.Unlock()
		return &refusalError{code: transport.CodeLimit, reason: "too many connections of this key"}
	}
	c.serial, c.theirs = e.table.next(), h.Serial
	v := e.table.offer(c, h.Replace)
	if v.holds != nil {
		e.mu.Unlock()
		return &refusalError{
			code: transport.CodeDuplicate, reason: "there is a connection already",
			holds: v.holds.serial, yours: v.holds.theirs,
		}
	}
	e.reserved++
	c.floor = v.floor
	e.mu.Unlock()
	c.lose(v.stale)
	return nil
}

// withdraw gives back what offer has taken.
func (e *Endpoint) withdraw(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.table.forget(c)
	e.reserved--
}

// welcome says yes, and returns nil once the dialler has taken it.
func (e *Endpoint) welcome(qs *quicgo.Stream, h hello, floor uint64) error {
	const features = 0 // of this minor
	w := welcome{Minor: minor, Features: h.Features & features, BootNonce: e.self.nonce, Floor: floor}
	b, err := transport.AppendFrame(nil, typeWelcome, &w)
	if err != nil {
		return err
	}
	if _, err := qs.Write(b); err != nil {
		return err
	}
	qs.Close()
	var one [1]byte
	switch n, err := qs.Read(one[:]); {
	case n > 0:
		return &refusalError{code: transport.CodeProtocol, reason: "bytes after hello"}
	case err == io.EOF:
		return nil
	default:
		return err
	}
}

// open makes c a Conn, and hands it to Accept and to whoever dials its address.
func (e *Endpoint) open(c *conn) {
	e.arrivals.end(arrivalOf(c.qc))
	e.mu.Lock()
	e.reserved--
	if e.closing {
		e.table.forget(c)
		e.mu.Unlock()
		c.Close(transport.CodeClosed, "")
		return
	}
	v := e.table.confirm(c)
	c.watch()
	e.queue = append(e.queue, c)
	e.wake()
	for _, a := range e.attempts {
		if sameAddr(a.addr, c.qc.RemoteAddr()) && a.wants(c.node) {
			e.finish(a, c, nil)
		}
	}
	e.mu.Unlock()
	c.lose(v.stale)
}
