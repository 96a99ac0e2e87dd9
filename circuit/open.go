package circuit

import (
	"context"
	"errors"
	"io"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

const (
	// maxOpenings is how many streams of one link may be without their first
	// frame or their answer at once; the next ones wait.
	maxOpenings = 1024

	// longestOpening is how long an acceptor lets an opener wait at most.
	longestOpening = 10 * time.Minute

	// refuseGrace is how long the opener may take to read a refusal.
	refuseGrace = 5 * time.Second
)

// An Acceptor decides about the circuits that the other side wants to open.
// Package peer implements it.
type Acceptor interface {
	// AcceptCircuit is asked before anything but req is allocated. The error
	// is a [Refusal], or any other error, which the other side learns of as
	// RefusedInternal without its text. ctx ends when the opener's time is
	// over, or 10 minutes, or this side's [Config.OpenTimeout] if the opener
	// does not say how long it waits.
	AcceptCircuit(ctx context.Context, req OpenRequest) (Acceptance, error)
}

// An OpenRequest is one circuit that the other side wants to open.
type OpenRequest struct {
	Link        *Link // who asks: Link.RemoteNodeID
	CircuitID   ID
	FromPeerID  ID
	FromService string
	ToPeerID    ID // zero: any running instance of ToService
	ToService   string
}

// An Acceptance is the yes to an [OpenRequest].
type Acceptance struct {
	PeerID ID // who takes the circuit: Seed.Peer(this node)
	Seed   ID
	Owner  Owner // gets the circuit

	// Deliver hands the new circuit over, waiting for room until ctx ends.
	// If it fails, the opener is refused with its error as AcceptCircuit's,
	// and nobody may use the circuit.
	Deliver func(ctx context.Context, c *Circuit) error
}

// An Owner is who a circuit belongs to at this end: a local peer.
type Owner interface {
	// AddCircuit may refuse, because the peer has ended.
	AddCircuit(c *Circuit) error
	// RemoveCircuit is called once for each added circuit, when its Context
	// has ended.
	RemoveCircuit(c *Circuit)
}

// OpenParams says which circuit to open.
type OpenParams struct {
	FromPeerID  ID // FromSeed.Peer(this node)
	FromSeed    ID
	FromService string
	ToPeerID    ID // zero: any running instance
	ToService   string
	First       *Fragment // nil: none
	Owner       Owner
}

// Open opens a circuit and returns when the other side has said yes. Its
// errors: a no is a [RefusedError]; no answer before ctx's deadline, or within
// [Config.OpenTimeout] if it has none, is [ErrOpenTimeout]; a first fragment over a limit is a
// [LimitError], and the other side never hears of it.
func (l *Link) Open(ctx context.Context, p OpenParams) (*Circuit, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, l.cfg.OpenTimeout, ErrOpenTimeout)
		defer cancel()
	}
	if err := l.awaitSettings(ctx); err != nil {
		return nil, err
	}
	if p.First != nil {
		if err := l.checkFragment(p.First); err != nil {
			return nil, err
		}
	}
	s, err := l.conn.OpenStream(ctx)
	if err != nil {
		return nil, l.openError(ctx, err)
	}
	c := newCircuit(l, s, NewID(), end{p.FromPeerID, p.FromService}, end{p.ToPeerID, p.ToService})
	c.seed = p.FromSeed
	if err := l.register(c); err != nil {
		s.Reset(transport.CodeClosed)
		return nil, err
	}
	answer := make(chan error, 1)
	if err := c.startOpening(ctx, p.First, answer); err != nil {
		c.abandon(err)
		return nil, err
	}
	go c.readLoop() // joined as part of the circuit
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = openCtxError(ctx)
		c.stream.Reset(transport.CodeClosed)
		c.lose(ErrOpenTimeout)
	}
	if err == nil {
		err = c.own(p.Owner)
	}
	if err != nil {
		c.CloseWith(err)
		return nil, l.openError(ctx, err)
	}
	return c, nil
}

// awaitSettings waits for the other side's first control frame.
func (l *Link) awaitSettings(ctx context.Context) error {
	select {
	case <-l.settings:
		return nil
	case <-l.ctx.Done():
		return &LostError{Cause: context.Cause(l.ctx)}
	case <-ctx.Done():
		return openCtxError(ctx)
	}
}

// openCtxError is the caller's reason to stop, or ErrOpenTimeout if time was.
func openCtxError(ctx context.Context) error {
	if err := context.Cause(ctx); err != context.DeadlineExceeded {
		return err
	}
	return ErrOpenTimeout
}

// openError says what became of an opening.
func (l *Link) openError(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*RefusedError](err); ok || err == ErrOpenTimeout {
		return err
	}
	if ctx.Err() != nil {
		return openCtxError(ctx)
	}
	if _, ok := errors.AsType[*LostError](err); ok {
		return err
	}
	if cause := context.Cause(l.conn.Context()); cause != nil {
		return &LostError{Cause: cause}
	}
	return err
}

// startOpening queues the open frame and the first fragment behind it, so
// that both travel in one flight.
func (c *Circuit) startOpening(ctx context.Context, first *Fragment, answer chan<- error) (err error) {
	open := wireOpen{
		CircuitID:   c.id,
		Generation:  1,
		FromSeed:    c.seed,
		FromService: c.local.service,
		ToPeer:      c.remote.peer,
		ToService:   c.remote.service,
		HasFirst:    first != nil,
	}
	if d, ok := ctx.Deadline(); ok {
		open.WaitMillis = uint64(max(0, time.Until(d).Milliseconds()))
	}
	frame := appendSmall(nil, frameOpen, &open)
	if len(frame) > maxSmallFrame {
		return &LimitError{What: "opening", Size: len(frame), Limit: maxSmallFrame}
	}
	c.update(func(s *state) {
		if s.lost {
			err = &LostError{Cause: s.lostBy} // the link has ended, and nobody would answer
			return
		}
		s.opening = answer
		s.handshake = frame
		if first != nil {
			err = s.queue(first)
		}
		s.attached = err == nil
	})
	return err
}

// abandon ends a circuit that nobody has got and whose reader never ran.
func (c *Circuit) abandon(err error) {
	c.stream.Reset(transport.CodeClosed)
	c.lose(err)
	c.update(func(s *state) {
		s.closed = true
		s.readDone = true
	})
}

// serveStream finds out what a stream of the other side is for.
func (l *Link) serveStream(s transport.Stream, done func()) {
	s.SetReadDeadline(time.Now().Add(l.cfg.OpenTimeout))
	typ, body, err := transport.ReadFrame(s, maxSmallFrame)
	s.SetReadDeadline(time.Time{})
	switch {
	case err == nil && typ == frameSettings:
		done()
		err := l.readControl(s, body)
		if l.ctx.Err() == nil {
			l.fail(transport.CodeProtocol, connCause(l.conn, err))
		}
		return
	case err == nil && typ == frameOpen:
		err = l.serveOpen(s, body)
	case err == nil:
		err = faultf("a stream begins with frame type %#x", byte(typ))
	}
	if err != nil {
		if l.ctx.Err() == nil {
			l.cfg.Logger.Warn("circuit: bad stream", "node", l.node, "error", err)
		}
		s.Reset(transport.CodeProtocol)
	}
	done()
}

// serveOpen answers an open frame. The error is about the frame; a refusal is
// an answer, not an error.
func (l *Link) serveOpen(s transport.Stream, body []byte) error {
	var open wireOpen
	if err := parse(body, &open); err != nil {
		return err
	}
	wait := l.cfg.OpenTimeout
	if open.WaitMillis > 0 {
		wait = time.Duration(min(open.WaitMillis, uint64(longestOpening.Milliseconds()))) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(l.ctx, wait)
	defer cancel()
	if err := l.accept(ctx, s, &open); err != nil {
		l.refuse(s, err)
	}
	return nil
}

// accept asks the acceptor and, on its yes, hands over a new circuit.
func (l *Link) accept(ctx context.Context, s transport.Stream, open *wireOpen) (err error) {
	if open.Generation != 1 || open.Received != 0 || ID(open.CircuitID).IsZero() || ID(open.FromSeed).IsZero() {
		return &Refusal{Code: RefusedBadRequest, Reason: "this is no opening of a new circuit"}
	}
	if identity.ValidServiceName(open.FromService) != nil {
		return &Refusal{Code: RefusedBadRequest, Reason: "no service can have the opener's name"}
	}
	if err := l.awaitSettings(ctx); err != nil {
		return err
	}
	if err := l.reserve(); err != nil {
		return err
	}
	from := ID(open.FromSeed).Peer(l.node)
	acc, err := l.acceptor.AcceptCircuit(ctx, OpenRequest{
		Link:        l,
		CircuitID:   open.CircuitID,
		FromPeerID:  from,
		FromService: open.FromService,
		ToPeerID:    open.ToPeer,
		ToService:   open.ToService,
	})
	if err != nil {
		l.unreserve()
		return err
	}
	c := newCircuit(l, s, open.CircuitID, end{acc.PeerID, open.ToService}, end{from, open.FromService})
	c.seed = acc.Seed
	c.first, c.accepted = open.HasFirst, true
	if err := l.register(c); err != nil {
		l.unreserve()
		return &Refusal{Code: RefusedShutdown}
	}
	if err = c.own(acc.Owner); err == nil {
		err = acc.Deliver(ctx, c)
	}
	if err != nil {
		c.unserved(err)
		return err
	}
	c.update(func(s *state) {
		s.handshake = appendSmall(nil, frameAccept, &wireAccept{Generation: 1, Seed: acc.Seed})
		s.attached = true
	})
	go c.readLoop() // joined as part of the circuit
	return nil
}

// unserved ends a circuit that its owner did not take. Its stream still
// carries the refusal.
func (c *Circuit) unserved(err error) {
	c.lose(err)
	c.update(func(s *state) {
		s.closed = true
		s.readDone = true
	})
}

// reserve counts one more circuit of the other side.
func (l *Link) reserve() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.draining || l.ended:
		return &Refusal{Code: RefusedShutdown}
	case l.incoming >= l.cfg.MaxCircuits:
		return &Refusal{Code: RefusedLimit, Reason: limitReason("circuits on one connection", l.cfg.MaxCircuits)}
	}
	l.incoming++
	return nil
}

func (l *Link) unreserve() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.incoming--
}

// refuse tells the other side no and gives it time to read that.
func (l *Link) refuse(s transport.Stream, err error) {
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		r = &Refusal{Code: RefusedInternal}
		if l.ctx.Err() == nil {
			l.cfg.Logger.Error("circuit: opening failed", "node", l.node, "error", err)
		}
	}
	frame := appendSmall(nil, frameRefuse, &wireRefuse{Code: uint64(r.Code), Reason: cut(r.Reason, MaxReason)})
	s.SetWriteDeadline(time.Now().Add(refuseGrace))
	if _, err := s.Write(frame); err == nil && s.Close() == nil {
		s.SetReadDeadline(time.Now().Add(refuseGrace))
		// Until the opener gives the stream up, as it does at once.
		if _, err := io.Copy(io.Discard, s); err == nil {
			return // both directions have ended, and a reset could overtake the refusal
		}
	}
	s.Reset(transport.CodeRefused)
}
