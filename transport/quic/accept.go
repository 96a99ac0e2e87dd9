package quic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/limit"
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
		e.arrivals.end(arrivalOf(qc))
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
	e.note(qc.RemoteAddr(), err)
	code, reason := transport.CodeProtocol, ""
	if r, ok := errors.AsType[*refusalError](err); ok {
		code, reason = r.code, r.reason
	} else if e.ctx.Err() != nil {
		code = transport.CodeClosed
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
	if !e.enterKey(c.who.account()) {
		return &refusalError{code: transport.CodeLimit, reason: "too many connections of this key at once", key: c.node.key}
	}
	defer e.leaveKey(c.who.account())
	err = e.receive(ctx, c)
	if _, said := errors.AsType[*refusalError](err); err != nil && !said && ctx.Err() != nil && e.ctx.Err() == nil {
		return &refusalError{code: transport.CodeLimit, reason: "hello took too long", key: c.node.key, why: err}
	}
	return err
}

// admit judges the key, before any byte of a stream is read.
func (e *Endpoint) admit(ctx context.Context, qc *quicgo.Conn) (*conn, error) {
	who, err := identify(qc.ConnectionState().TLS)
	if err != nil {
		return nil, &refusalError{code: transport.CodeProtocol, why: err}
	}
	err = e.allow(&who, qc.RemoteAddr())
	if err == nil {
		return e.newConn(qc, who), nil
	}
	no := &refusalError{code: transport.CodeRefused, reason: "this key is not authorised", key: who.id(), why: err}
	e.report(qc.RemoteAddr(), no)
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
	e.report(qc.RemoteAddr(), no)
	r := refusal{Code: uint64(no.code), Reason: no.reason}
	if no.code == transport.CodeDuplicate {
		r.BootNonce, r.Holds, r.Yours = e.self.nonce, no.holds, no.yours
	}
	if no.limit != nil {
		r.Limit, r.Value = no.limit.What, uint64(no.limit.Limit)
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
	if !e.spawn(c.collect) {
		return transport.ErrClosed
	}
	stop := interruptible(ctx, qs)
	defer stop()
	h, err := readHello(qs)
	if err != nil {
		no := &refusalError{code: transport.CodeProtocol, reason: "this is no hello", key: c.node.key, why: err}
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
	w, err := e.answer(c, h)
	if err != nil {
		if no, ok := errors.AsType[*refusalError](err); ok {
			no.key = c.node.key
			e.refuse(ctx, c.qc, qs, no)
		}
		return err
	}
	c.expected.Store(true)
	if err := e.welcome(qs, w); err != nil {
		e.withdraw(c)
		return err
	}
	e.open(c)
	return nil
}

// answer says whether a good hello is welcome; if so, c has its place.
func (e *Endpoint) answer(c *conn, h hello) (welcome, error) {
	if err := e.cfg.Ledger.Allow(limit.Hellos, c.who.account()); err != nil {
		return welcome{}, limited(err)
	}
	p, err := newProver(c.qc.ConnectionState().TLS, e.cfg.PreSharedKeys)
	if err != nil {
		return welcome{}, err
	}
	proof, err := p.accept(h.Proofs)
	if err != nil {
		return welcome{}, err
	}
	if err := e.offer(c, h); err != nil {
		return welcome{}, err
	}
	const features = 0 // of this minor
	return welcome{Features: h.Features & features, Floor: c.floor, Proof: proof}, nil
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
	if err := e.welcome(qs, welcome{}); err != nil {
		return err
	}
	return &refusalError{code: transport.CodeClosed, reason: "dialled itself"}
}

// offer asks the table for c's place.
func (e *Endpoint) offer(c *conn, h hello) error {
	e.mu.Lock()
	if len(e.queue)+e.reserved >= maxBacklog {
		e.mu.Unlock()
		return overLimit(&transport.LimitError{What: "connections to accept", Limit: maxBacklog})
	}
	c.serial, c.theirs = e.table.next(), h.Serial
	v := e.table.offer(c, h.Replace)
	if v.holds != nil {
		e.mu.Unlock()
		c.lose(v.stale)
		return &refusalError{
			code: transport.CodeDuplicate, reason: "there is a connection already",
			holds: v.holds.serial, yours: v.holds.theirs,
		}
	}
	// What c takes the place of gives up its own first, and c has it for certain.
	right := ifThereIsRoom
	for _, s := range v.stale {
		s.booking.leave()
		right = always
	}
	if err := c.booking.enter(c.who.account(), right); err != nil {
		e.table.forget(c)
		e.mu.Unlock()
		return limited(err)
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
	c.booking.end()
}

// welcome says yes, and returns nil once the dialler has taken it.
func (e *Endpoint) welcome(qs *quicgo.Stream, w welcome) error {
	w.Minor, w.BootNonce = minor, e.self.nonce
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
		if sameAddr(a.addr, c.qc.RemoteAddr()) && a.wants(c) {
			e.finish(a, c, nil)
		}
	}
	e.mu.Unlock()
	c.lose(v.stale)
}
