package circuit

import (
	"context"
	"sync"
	"time"

	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// A Circuit is one end of an ordered, two-way channel of fragments between two
// peers. Its methods may be called from any goroutine.
type Circuit struct {
	// Reads gives the fragments that the other side sends, in order, the
	// opener's first fragment first. It is closed after the last one, when
	// Context has ended.
	Reads <-chan *Fragment

	// Errors gives the fragments that carry Err, in order among themselves.
	// It is closed with Reads.
	Errors <-chan *Fragment

	// Context ends after the last fragment was read, or 5 s after the last one
	// has come if the other side has closed and nobody reads, or 5 s after the
	// loss, or at once when this side closes.
	// [context.Cause] says why: [ErrClosed], [ErrRemoteClosed], a
	// [RemoteError], or a [LostError].
	//
	// What is unread when the Context ends can be read for 2 minutes more,
	// unless this side has closed.
	Context context.Context

	link     *Link
	id       ID
	number   uint64 // of the link's circuits; set by register
	text     string // of id: every received fragment carries it
	*ends           // changes once, when the other peer is known
	named    int32  // the carrier on which the other side has said that it has the circuit; Link.mu guards it
	accepted bool   // the other side opened it
	first    bool   // serial 1 of what the opener sends came with the opening
	opened   time.Time
	patience time.Duration // from opened until the opener gives up
	owner    Owner

	reads, errs chan *Fragment
	wake        chan struct{} // tells pump to look at the state again; made with the first
	arrived     chan struct{} // tells Fragments the same; likewise
	cancel      context.CancelCauseFunc

	mu sync.Mutex // never held across a wait
	s  state

	inWaiter, outWaiter *limit.Waiter // nil: it has never waited for memory; mu guards them
}

// end is who stands at one end of a circuit.
type end struct {
	peer    ID
	service string
}

// ends are the two peers of a circuit. Circuits between the same two share
// them, so they are never changed.
type ends struct {
	local, remote         end
	seed                  ID // of the local peer
	localText, remoteText string
}

// ends returns those that the last circuit had, or makes others.
func (l *Link) ends(local, remote end, seed ID) *ends {
	if e := l.lastEnds.Load(); e != nil && e.local == local && e.remote == remote && e.seed == seed {
		return e
	}
	e := &ends{local, remote, seed, local.peer.String(), remote.peer.String()}
	if !remote.peer.IsZero() { // else it is about to be known
		l.lastEnds.Store(e)
	}
	return e
}

func newCircuit(l *Link, id ID, local, remote end, seed ID) *Circuit {
	c := &Circuit{
		link:   l,
		id:     id,
		text:   id.String(),
		ends:   l.ends(local, remote, seed),
		opened: time.Now(),
		reads:  make(chan *Fragment),
		errs:   make(chan *Fragment),
	}
	c.Reads, c.Errors = c.reads, c.errs
	c.Context, c.cancel = context.WithCancelCause(context.Background())
	c.s.out.pool, c.s.in.pool = &l.hub.bufs, &l.hub.bufs
	c.s.out.once = l.linger() == 0
	c.s.out.credit = l.remote.Window
	start := l.cfg.limits.Start
	c.s.most, c.s.window = l.cfg.limits.Window, l.cfg.limits.Window
	c.s.outBooked, c.s.inBooked, c.s.granted = start, start, uint64(start)
	return c
}

// own hands the circuit to its owner. The owner may be told of its end at
// once, but never of its end first.
func (c *Circuit) own(o Owner) error {
	if err := o.AddCircuit(c); err != nil {
		return err
	}
	gone := false
	c.update(func(s *state) {
		c.owner = o
		s.owned = true
		gone = s.ended
	})
	if gone {
		o.RemoveCircuit(c)
	}
	return nil
}

// tell lets the owner and the link know of an end.
func (c *Circuit) tell(todo *after) {
	if todo.remove {
		c.owner.RemoveCircuit(c)
	}
	if todo.release {
		c.link.forget(c, todo.dropped)
	}
	c.update(func(s *state) { s.telling-- })
}

// Close ends the circuit at both ends. What was sent before is delivered
// before the other side's Reads closes. Closing again does nothing.
func (c *Circuit) Close() { c.CloseWith(nil) }

// CloseWith is Close with a reason, which becomes the cause of the other
// side's Context as a [RemoteError]. At this side the cause matches both
// [ErrClosed] and reason.
//
// What has arrived and was not read is dropped. What was sent goes on being
// delivered, until the other side has taken nothing of it for 2 minutes.
func (c *Circuit) CloseWith(reason error) {
	c.update(func(s *state) {
		if s.closed {
			return
		}
		s.closed, s.closeWith, s.poke, s.eager = true, reason, true, true
		if s.pumping {
			signal(c.wake)
		}
	})
}

// isOpen reports whether the circuit has been accepted and has not ended.
func (c *Circuit) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.s.owned && !c.s.ended
}

// giveUp ends a closed circuit whose other side does not take what was sent. As
// long as some of it is taken it goes on, and while there is no attachment it
// is the linger time that counts.
func (c *Circuit) giveUp() {
	over := false
	c.update(func(s *state) {
		news := s.received + s.out.acked
		if over = s.at != nil && news == s.closeNews; !over && !s.released {
			s.closeNews = news
			s.timer.Reset(lingerAfterClose)
		}
	})
	if over {
		c.lose(ErrClosed)
	}
}

// NewCircuit opens one more circuit between the same two peers, from this end,
// and waits for the other side's yes for at most [Config.OpenTimeout]. Each
// circuit is independent of the others. It also returns the new circuit's
// Context.
func (c *Circuit) NewCircuit() (*Circuit, context.Context, error) {
	n, err := c.link.Open(context.Background(), OpenParams{
		FromPeerID:  c.local.peer,
		FromSeed:    c.seed,
		FromService: c.local.service,
		ToPeerID:    c.remote.peer,
		ToService:   c.remote.service,
		Owner:       c.owner,
	})
	if err != nil {
		return nil, nil, err
	}
	return n, n.Context, nil
}

// RemoteNodeID is the verified key of the node at the other end.
func (c *Circuit) RemoteNodeID() identity.NodeID { return c.link.RemoteNodeID() }

// RemoteAccount is the key under which is counted what the other node uses: the
// verified one, or an older one whose place that takes. A service that bounds
// what one node may have goes by it, or a node with many keys has as much for
// each.
func (c *Circuit) RemoteAccount() identity.NodeID { return c.link.Account() }

// RemotePeerID names the running peer at the other end.
func (c *Circuit) RemotePeerID() string { return c.remoteText }

// LocalPeerID names the running peer at this end.
func (c *Circuit) LocalPeerID() string { return c.localText }

// RemoteService is the service that the peer at the other end runs. The other
// side's node says so.
func (c *Circuit) RemoteService() string { return c.remote.service }

// LocalService is the service that the peer at this end runs.
func (c *Circuit) LocalService() string { return c.local.service }

// CircuitID names the circuit, the same at both ends.
func (c *Circuit) CircuitID() string { return c.text }
