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
)

// open opens the circuit for m. What the first fragment breaks is the file's
// fault; everything else stops the push.
func (p *pusher) open(ctx context.Context, m meta) (*circuit.Circuit, error) {
	m.path = below(p.opts.Into, m.path)
	if err := CheckPath(m.path); err != nil {
		return nil, err
	}
	c, err := p.dialAnew(ctx, m)
	if err == nil {
		return c, nil
	}
	if _, ok := errors.AsType[*transport.LimitError](err); ok {
		return nil, err
	}
	return nil, &stopError{err: err}
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
