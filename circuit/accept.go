package circuit

import (
	"context"
	"errors"
	"io"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// serveOpen answers an open frame, and returns what the caller is to read if
// the stream carries a circuit then. The error is about the frame; a refusal is
// an answer, not an error.
func (car *carrier) serveOpen(s transport.Stream, body []byte, place *serving) (*attachment, error) {
	var open wireOpen
	if err := parse(body, &open); err != nil {
		return nil, err
	}
	l := car.link
	wait := l.cfg.OpenTimeout
	if open.WaitMillis > 0 {
		wait = time.Duration(min(open.WaitMillis, uint64(longestOpening.Milliseconds()))) * time.Millisecond
	}
	// An opener that gives up frees its place here at once.
	ctx := &openingContext{carrier: car.ctx, stream: s.Context(), deadline: time.Now().Add(wait)}
	defer ctx.end()
	var a *attachment
	c, err := l.known(ctx, &open)
	switch {
	case err != nil:
	case c != nil:
		a = newAttachment(c, car, s)
		err = c.resume(a, &open)
	case open.Resume:
		err = &Refusal{Code: refusedGone}
	default:
		a, err = car.accept(ctx, s, &open, place)
	}
	if err == nil {
		return a, nil
	}
	if _, broken := errors.AsType[*protocolError](err); broken {
		return nil, err
	}
	switch {
	case car.ctx.Err() != nil, s.Context().Err() != nil:
		s.Reset(transport.CodeClosed) // no answer: the opener asks again on the next carrier, or has given up
	default:
		car.refuse(s, err)
	}
	return nil, nil
}

// known returns the circuit that an open frame is about, if there is one. One
// that the acceptor is being asked about, because of an earlier frame, is
// waited for. Otherwise the caller decides about it, and calls decided.
func (l *Link) known(ctx context.Context, open *wireOpen) (*Circuit, error) {
	id := ID(open.CircuitID)
	for {
		l.mu.Lock()
		c := l.circuits[id]
		answered, pending := l.pending[id]
		switch {
		case pending && answered == nil:
			answered = make(chan struct{})
			l.pending[id] = answered
		case !pending && c == nil && !open.Resume:
			l.pending[id] = nil
		}
		l.mu.Unlock()
		if !pending {
			return c, nil
		}
		select {
		case <-answered:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (l *Link) decided(id ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if answered := l.pending[id]; answered != nil {
		close(answered)
	}
	delete(l.pending, id)
}

// resume takes the circuit up again on another stream, at the side that has
// accepted it. What the two sides tell one another, and whose word it is that
// counts, changes under one lock.
func (c *Circuit) resume(a *attachment, open *wireOpen) error {
	if !c.accepted || ID(open.FromSeed).Peer(c.link.node) != c.remote.peer {
		return &Refusal{Code: RefusedBadRequest, Reason: "the circuit is another one"}
	}
	if !a.car.add(a) {
		return transport.ErrLost
	}
	var err error
	c.update(func(s *state) {
		switch {
		case s.released:
			err = &Refusal{Code: refusedGone}
		case a.over:
			err = transport.ErrLost
		case open.Generation <= s.gen && !planted(bugGenerationIgnored):
			err = &Refusal{Code: refusedStale}
		default:
			if s.leave(s.at, errSuperseded, transport.CodeSuperseded); s.lost {
				err = &Refusal{Code: refusedGone} // it is not to be resumed
				return
			}
			if s.fin == nil && !s.out.ack(open.Received) {
				err = faultf("resumes after fragment %d, which was not sent", open.Received)
				return
			}
			a.gen, s.gen = open.Generation, open.Generation
			c.begin(s, a, open)
			if open.Resume {
				s.out.credit = open.Credit
			}
		}
	})
	if err != nil {
		a.car.remove(a)
	}
	return err
}

// begin makes a what carries the circuit, at the side that has accepted it.
// Whoever serves the stream is its reader from then on: another goroutine would
// have to grow its stack first.
func (c *Circuit) begin(s *state, a *attachment, open *wireOpen) {
	s.take(a)
	a.ready, s.eager = true, true
	if !a.reading {
		a.reading = true
		s.readers++
	}
	if longest := uint64(longestCost(c.link.cfg.limits.Payload)); s.attachments == 1 && !open.Resume && open.Credit <= longest {
		s.want = wireWant{Next: open.Credit, Upto: open.Credit}
		var todo after // nothing is given back to a circuit that begins
		c.settleWindow(s, &todo)
	}
	a.handshake = appendSmall(nil, frameAccept, &wireAccept{
		Seed: c.seed, Generation: a.gen, Received: s.received, Credit: s.grant(),
	})
}

// accept asks the acceptor and, on its yes, hands over a new circuit.
func (car *carrier) accept(ctx context.Context, s transport.Stream, open *wireOpen, place *serving) (*attachment, error) {
	l := car.link
	defer l.decided(open.CircuitID)
	if open.Generation == 0 || open.Received != 0 || ID(open.CircuitID).IsZero() || ID(open.FromSeed).IsZero() {
		return nil, &Refusal{Code: RefusedBadRequest, Reason: "this is no opening of a new circuit"}
	}
	if identity.ValidServiceName(open.FromService) != nil {
		return nil, &Refusal{Code: RefusedBadRequest, Reason: "no service can have the opener's name"}
	}
	if err := l.awaitSettings(ctx); err != nil {
		return nil, err
	}
	req := OpenRequest{
		Link:        l,
		CircuitID:   open.CircuitID,
		FromPeerID:  ID(open.FromSeed).Peer(l.node),
		FromService: open.FromService,
		ToPeerID:    open.ToPeer,
		ToService:   open.ToService,
	}
	acc, err := l.decide(ctx, &req, place)
	if err != nil {
		return nil, err
	}
	c := newCircuit(l, open.CircuitID, end{acc.PeerID, open.ToService}, end{req.FromPeerID, open.FromService}, acc.Seed)
	c.first, c.accepted = open.HasFirst, true
	c.s.confirmed, c.s.seq = true, car.seq
	if err := l.register(c); err != nil {
		c.giveBack(l.cfg.limits.Start, l.cfg.limits.Start)
		l.unreserve()
		return nil, &Refusal{Code: RefusedShutdown}
	}
	if err = c.own(acc.Owner); err == nil {
		err = acc.Deliver(ctx, c)
	}
	if err != nil {
		l.hub.acceptor.CircuitRefused(req, err)
		c.lose(err)
		c.Close()
		return nil, err
	}
	a, attached, gone := newAttachment(c, car, s), false, false
	if car.add(a) {
		c.update(func(st *state) {
			gone = st.released
			// The link may have ended while the peer had the circuit in its
			// hands: its channels are closed then.
			if attached = !a.over && !st.released; attached {
				a.gen, st.gen = open.Generation, open.Generation
				c.begin(st, a, open)
			}
		})
	}
	if attached {
		return a, nil
	}
	car.remove(a)
	c.detachedBefore(car)
	if gone {
		s.Reset(codeGone)
	}
	return nil, nil
}

// decide books what a new circuit takes, and asks the acceptor about it. After
// an error nothing is booked.
func (l *Link) decide(ctx context.Context, req *OpenRequest, place *serving) (acc Acceptance, err error) {
	if req.Circuits, err = l.reserve(ctx); err != nil {
		l.hub.acceptor.CircuitRefused(*req, err)
		return acc, err
	}
	if acc, err = l.hub.acceptor.AcceptCircuit(ctx, *req); err == nil {
		place.unbook()
		if err = RefuseLimit(l.bookStart()); err != nil {
			l.hub.acceptor.CircuitRefused(*req, err)
		}
	}
	if err != nil {
		l.unreserve()
	}
	return acc, err
}

// detachedBefore begins the linger of a circuit whose carrier was lost before
// it was attached.
func (c *Circuit) detachedBefore(car *carrier) {
	c.update(func(s *state) {
		if !s.released {
			s.since, s.lostBy = time.Now(), context.Cause(car.ctx)
		}
	})
	c.link.keepSoon()
}

// awaitSettings waits for the other side's first control frame.
func (l *Link) awaitSettings(ctx context.Context) error {
	select {
	case <-l.settings:
		return nil
	default: // or there would be something to watch
	}
	select {
	case <-l.settings:
		return nil
	case <-ctx.Done():
		return openCtxError(ctx)
	}
}

// reserve counts one more circuit of the other side, and returns how many its
// node has then.
func (l *Link) reserve(ctx context.Context) (used int, err error) {
	l.mu.Lock()
	over := l.draining || l.ended
	l.mu.Unlock()
	if over {
		return 0, &Refusal{Code: RefusedShutdown}
	}
	if err := l.Pace(ctx); err != nil {
		return 0, RefuseLimit(err)
	}
	n, err := l.cfg.Ledger.Acquire(limit.Circuits, l.account, 1)
	return int(n), RefuseLimit(err)
}

// Pace counts one more opening of the other side's, or something that costs as
// much, and waits until it is due: for a second at most. One that would have to
// wait longer is a [transport.LimitError].
func (l *Link) Pace(ctx context.Context) error {
	wait, err := l.cfg.Ledger.Pace(limit.Opens, l.account)
	if err != nil {
		return err
	}
	return pause(ctx, wait)
}

// pause waits, unless it is for nothing or ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return openCtxError(ctx)
	}
}

func (l *Link) unreserve() { l.cfg.Ledger.Release(limit.Circuits, l.account, 1) }

// refuse tells the other side no and gives it time to read that.
func (car *carrier) refuse(s transport.Stream, err error) {
	l := car.link
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		r = &Refusal{Code: RefusedInternal}
		if car.ctx.Err() == nil {
			l.cfg.Logger.Error("circuit: opening failed", "node", l.node, "error", err)
		}
	}
	frame := appendSmall(nil, frameRefuse, r.wire())
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
