package files

import (
	"cmp"
	"context"
	"errors"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/transport"
)

const (
	defaultOpenTimeout = 10 * time.Second
	defaultLinger      = 2 * time.Minute

	// Between tries at a limit of the other side, and how long they go on
	// while no file moves.
	firstPause    = 100 * time.Millisecond
	longestPause  = 2 * time.Second
	limitPatience = 30 * time.Second
)

// open opens the circuit for m. What the first fragment breaks is the file's
// fault; everything else stops the push.
func (p *pusher) open(ctx context.Context, m meta) (*circuit.Circuit, error) {
	m.path = below(p.opts.Into, m.path)
	if err := CheckPath(m.path); err != nil {
		return nil, err
	}
	c, err := p.dialWithin(ctx, m)
	if err == nil {
		return c, nil
	}
	if _, ok := errors.AsType[*transport.LimitError](err); ok {
		return nil, err
	}
	return nil, &stopError{err: err}
}

// dialWithin is dialAnew, again and again while the other side has no room for
// a circuit more: what this push has just closed counts there for a moment, and
// many small files are soon beyond a rate. If nothing of the push moves
// meanwhile, the limit is taken by others, and is the answer.
func (p *pusher) dialWithin(ctx context.Context, m meta) (*circuit.Circuit, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		c, err := p.dialAnew(ctx, m)
		e, ok := errors.AsType[*transport.LimitError](err)
		if !ok || !e.Remote || e.Size != 0 || p.watch.unmoved() >= limitPatience {
			return c, err
		}
		if !p.pause(ctx, pause) {
			return nil, err
		}
	}
}

// pause tells whether ctx has let it wait so long. Who waits to open is not
// what stands still.
func (p *pusher) pause(ctx context.Context, d time.Duration) bool {
	defer p.watch.openingNow()()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// dialAnew is dial, again and again while there is no connection. A receiver
// that got the first fragment of a try which failed here has begun a file that
// it now drops, or has made a directory.
func (p *pusher) dialAnew(ctx context.Context, m meta) (*circuit.Circuit, error) {
	linger := cmp.Or(p.opts.Linger, defaultLinger)
	wait := cmp.Or(p.opts.OpenTimeout, defaultOpenTimeout)
	for start := time.Now(); ; {
		began := time.Now()
		c, err := p.dial(m, wait)
		left := linger - time.Since(start)
		if err == nil || ctx.Err() != nil || left <= 0 || !p.disconnected(err, began) {
			return c, err
		}
		wait = min(wait, left) // what is negative stays so
		if p.opts.Waiting != nil {
			p.opts.Waiting(err)
		}
	}
}

// dial opens the circuit for m. It ends with close.
func (p *pusher) dial(m meta, wait time.Duration) (*circuit.Circuit, error) {
	defer p.watch.openingNow()()
	c, _, err := p.lp.NewCircuitToPeerURL(p.url, m.fragment(), wait)
	if err != nil {
		return nil, err
	}
	p.watch.add(c)
	if p.opts.Opened != nil {
		p.opts.Opened(c)
	}
	return c, nil
}

func (p *pusher) close(c *circuit.Circuit) {
	c.Close()
	p.watch.remove(c)
}

// disconnected tells whether an opening that began at that time failed because
// there was no connection. Who has ended it on purpose will not be back.
func (p *pusher) disconnected(err error, began time.Time) bool {
	if said, ok := errors.AsType[*transport.RemoteError](err); ok {
		return said.Code == transport.CodeLost || said.Code == transport.CodeSuperseded
	}
	switch {
	case errors.Is(err, transport.ErrUnreachable), errors.Is(err, transport.ErrLost):
		return true
	case errors.Is(err, circuit.ErrOpenTimeout):
		return !p.connectedSince(began)
	}
	return false
}

// connectedSince tells whether a connection to the receiver's node has been
// there since that time. A node is always connected to itself.
func (p *pusher) connectedSince(t time.Time) bool {
	u, err := peer.ParseURL(p.url)
	if err != nil {
		return true // what no waiting mends
	}
	ls := p.lp.Node().Listing()
	self := u.Node == ls.Node
	for _, l := range ls.Links {
		if l.Node != u.Node {
			continue
		}
		if l.Attached && !l.Since.After(t) {
			return true
		}
		self = false // another machine with the same key
	}
	return self
}
