package circuit

import (
	"context"
	"errors"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/limit"
)

const (
	// maxOpenings is how many openings may wait for their answer on a carrier,
	// maxResuming how many resumptions, which are answered at once. The next
	// ones wait at the side that opens them: at the other one they would count
	// as unread.
	maxOpenings = 1024
	maxResuming = 2048

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

	// CircuitRefused is told of a circuit that comes to nothing though
	// AcceptCircuit was not asked, or has accepted it: because a limit is
	// reached, or nobody takes it. It must not block.
	CircuitRefused(req OpenRequest, err error)
}

// An OpenRequest is one circuit that the other side wants to open.
type OpenRequest struct {
	Link        *Link // who asks: Link.RemoteNodeID
	CircuitID   ID
	FromPeerID  ID
	FromService string
	ToPeerID    ID // zero: any running instance of ToService
	ToService   string
	Circuits    int // that the node has open here, this one included
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

// Open opens a circuit and returns when the other side has said yes, on
// whichever connection that comes. Its errors: a no is a [RefusedError]; no
// answer before ctx's deadline, or within [Config.OpenTimeout] if it has none,
// is [ErrOpenTimeout]; a first fragment over a limit is a [transport.LimitError], and the
// other side never hears of it.
func (l *Link) Open(ctx context.Context, p OpenParams) (*Circuit, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, l.cfg.OpenTimeout, ErrOpenTimeout)
		defer cancel()
	}
	l.beginOpening()
	defer l.endOpening()
	if err := l.awaitCarrier(ctx); err != nil {
		return nil, err
	}
	var first wireFragment
	if p.First != nil {
		first = wireOf(p.First)
		if err := l.checkFragment(&first, len(p.First.Payload)); err != nil {
			return nil, err
		}
	}
	if err := l.bookStart(); err != nil {
		return nil, err
	}
	c := newCircuit(l, NewID(), end{p.FromPeerID, p.FromService}, end{p.ToPeerID, p.ToService}, p.FromSeed)
	c.first = p.First != nil
	deadline, _ := ctx.Deadline()
	c.patience = deadline.Sub(c.opened)
	answer := make(chan error, 1)
	c.s.opening = answer
	err := c.checkOpening()
	if err == nil && p.First != nil {
		err = c.queueFirst(&first, p.First.Payload)
	}
	if err == nil {
		err = l.register(c)
	}
	if err != nil {
		c.giveBack(c.s.inBooked, c.s.outBooked)
		return nil, err
	}
	if car := l.carrier(); car != nil {
		car.attachFirst(ctx, c)
	} // else the next carrier does
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = openCtxError(ctx)
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

// queueFirst queues the first fragment of a circuit that nobody knows yet.
func (c *Circuit) queueFirst(w *wireFragment, payload []byte) error {
	if more := costOf(w, len(payload)) - c.s.outBooked; more > 0 {
		if _, err := c.link.cfg.Ledger.Acquire(limit.Replay, c.link.account, int64(more)); err != nil {
			return err
		}
		c.s.outBooked += more
	}
	return c.s.queue(w, payload)
}

// attachFirst gives c a stream on the carrier, waiting for a place for one.
// Without success, the next carrier takes c up, or ctx's end gives it up.
func (car *carrier) attachFirst(ctx context.Context, c *Circuit) {
	turns := car.lanes[laneNew].turns
	if s, err := car.openStream(ctx, turns); err == nil {
		c.attach(car, s, turns)
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
	if cause := context.Cause(l.ctx); cause != nil {
		return &LostError{Cause: cause}
	}
	return err
}

// openFrame is the frame that opens the circuit, or resumes it.
func (c *Circuit) openFrame(s *state) []byte { return appendSmall(nil, frameOpen, c.opening(s)) }

func (c *Circuit) opening(s *state) *wireOpen {
	open := &wireOpen{
		CircuitID:   c.id,
		Generation:  s.gen,
		Resume:      s.confirmed,
		Received:    s.received,
		FromSeed:    c.seed,
		FromService: c.local.service,
		ToPeer:      c.remote.peer,
		ToService:   c.remote.service,
		HasFirst:    c.first,
	}
	if s.confirmed {
		open.Credit = s.grant()
	} else {
		open.Credit = uint64(s.out.cost)
		open.WaitMillis = uint64(max(0, (c.patience - time.Since(c.opened)).Milliseconds()))
	}
	return open
}

// checkOpening sees to it that the open frame is not longer than the other
// side takes.
func (c *Circuit) checkOpening() error {
	const most = maxSmallFrame - 64 // what grows with time
	if transport.MaxFrameHeader+c.opening(&c.s).Msgsize() <= most {
		return nil // nearly always, and no frame has to be made to see it
	}
	if n := len(c.openFrame(&c.s)); n > most {
		return &transport.LimitError{What: "opening", Size: int64(n), Limit: int64(most)}
	}
	return nil
}
