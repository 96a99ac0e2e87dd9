package peer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/identity"
)

// A LocalPeer is a peer of this node: one running instance of a service. Its
// methods may be called from any goroutine.
type LocalPeer struct {
	node      *Node
	seed, id  circuit.ID // the ID is the seed's, at the node
	text      string     // of id
	service   string
	startedBy identity.NodeID // zero: this node itself
	account   identity.NodeID // under which it is in the ledger until the service has returned; zero: it is not
	started   time.Time
	lastURL   atomic.Pointer[parsedURL]

	life        context.Context // what the peer was started with
	ctx         context.Context // the service's ctx0; it ends after the circuits have, see end
	cancel      context.CancelCauseFunc
	newCircuits chan *circuit.Circuit // never closed: link goroutines send on it
	ending      sync.Once             // guards end
	done        chan struct{}         // closed when the service has returned

	mu       sync.Mutex  // guards what follows, and is never held across a wait
	unwatch  func() bool // undoes watch
	circuits map[*circuit.Circuit]*link
	visits   map[identity.NodeID]int // of nodeService: circuits that others have opened, by account
	cause    error                   // why the peer has ended, nil before; ErrPeerClosed if all is well
	err      error                   // set before done is closed
}

// run is the peer's goroutine. It belongs to the node, which waits for done
// when it closes.
func (p *LocalPeer) run(f PeerServiceFunc) {
	var err error = &PanicError{Service: p.service} // stays if the function calls runtime.Goexit
	defer func() { p.finish(err) }()
	err = p.call(f)
}

func (p *LocalPeer) call(f PeerServiceFunc) (err error) {
	defer func() {
		if v := recover(); v != nil {
			stack := debug.Stack()
			err = &PanicError{Service: p.service, Value: v, Stack: stack}
			p.node.log.Error("service panicked", "service", p.service, "peer", p.id, "value", v, "stack", string(stack))
		}
	}()
	return f(p, p.ctx, p.newCircuits)
}

// finish runs when the service function is over, with what it returned.
func (p *LocalPeer) finish(err error) {
	if p.life.Err() != nil {
		p.end(context.Cause(p.life)) // watch may be a moment behind a service that knows life too
	}
	cause := err
	if cause == nil {
		cause = ErrPeerClosed
	}
	if !p.end(cause) && p.saysEnded(err) {
		err = closeReason(context.Cause(p.ctx))
	}
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
	p.node.roster.returned(p)
	close(p.done)
}

// saysEnded tells whether err, which a service has returned after its peer's
// end, says no more than that it has ended.
func (p *LocalPeer) saysEnded(err error) bool {
	return errors.Is(err, p.ctx.Err()) || errors.Is(err, context.Cause(p.ctx)) || errors.Is(err, circuit.ErrClosed)
}

// end makes the peer unknown to others, closes its circuits, and then ends
// ctx0. In this order: a service that closes its circuits when ctx0 ends must
// not make a clean close of what is cut short. It returns when all is done,
// and tells whether it was this call that has done it.
func (p *LocalPeer) end(cause error) bool {
	first := false
	p.ending.Do(func() {
		first = true
		p.node.roster.remove(p)
		p.mu.Lock()
		p.cause = cause
		unwatch := p.unwatch
		circuits := slices.SortedFunc(maps.Keys(p.circuits), byID)
		p.mu.Unlock()
		if unwatch() {
			p.node.wg.Done()
		}
		for _, c := range circuits {
			c.CloseWith(closeReason(cause))
		}
		p.cancel(cause)
	})
	return first
}

// byID orders circuits in a way that a simulation can repeat.
func byID(c, d *circuit.Circuit) int { return strings.Compare(c.CircuitID(), d.CircuitID()) }

// endedBy returns why the peer has ended, nil if it has not.
func (p *LocalPeer) endedBy() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause
}

// watch ends the peer when life does. The node joins what it starts.
func (p *LocalPeer) watch() {
	p.mu.Lock() // if life has ended, end runs now, and waits to see unwatch
	defer p.mu.Unlock()
	p.node.wg.Add(1)
	p.unwatch = context.AfterFunc(p.life, func() {
		defer p.node.wg.Done()
		p.end(context.Cause(p.life))
	})
}

// closeReason is what the other ends learn of a peer's end. Nothing, which is
// a clean close, stands only for a peer that was closed on purpose or whose
// service was through.
func closeReason(cause error) error {
	if cause == ErrPeerClosed {
		return nil
	}
	return cause
}

// PeerID returns the peer's ID as text.
func (p *LocalPeer) PeerID() string { return p.text }

// ServiceName returns the name of the service that the peer runs.
func (p *LocalPeer) ServiceName() string { return p.service }

// Node returns the node that the peer runs on.
func (p *LocalPeer) Node() *Node { return p.node }

// URL returns the peer's URL, for [LocalPeer.NewCircuitToPeerURL] of others.
func (p *LocalPeer) URL() string {
	return URL{Node: p.node.ID(), Addr: p.node.advertised, Service: p.service, PeerID: p.id}.String()
}

// Context is the service's ctx0. It ends right after the peer's circuits have
// been closed, because the peer is to end or its service function has
// returned. [context.Cause] is [ErrPeerClosed], [ErrNodeClosed], the error
// given to CloseWith or returned by the function, or the cause of the context
// that the peer was started with. It has that context's values, and not its
// deadline.
func (p *LocalPeer) Context() context.Context { return p.ctx }

// Close ends the peer on purpose: its circuits are closed cleanly, so that
// the other ends see [circuit.ErrRemoteClosed] after everything that was sent,
// and its service's ctx0 ends. It does not wait for the service function to
// return; Done does.
//
// No other end from outside is clean: see [Node.Close] and
// [API.StartLocalPeer].
func (p *LocalPeer) Close() { p.CloseWith(nil) }

// CloseWith is Close with a reason, which the other ends of the peer's
// circuits get as the cause of their end. Only the first call counts.
func (p *LocalPeer) CloseWith(reason error) {
	if reason == nil {
		reason = ErrPeerClosed
	}
	p.end(reason)
}

// Done is closed when the service function has returned and the peer's
// circuits have been closed.
func (p *LocalPeer) Done() <-chan struct{} { return p.done }

// Err returns nil until Done is closed, then how the peer ended: nil if its
// function returned nil, else the error that was returned, or a [PanicError].
// An error that says only that ctx0 or a circuit has ended stands for why the
// peer was to end: nil after Close, else the cause of ctx0.
func (p *LocalPeer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Circuits returns the peer's circuits that have not ended, in no order.
func (p *LocalPeer) Circuits() []*circuit.Circuit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.circuits))
}

// OpenCircuitCount returns how many circuits of the peer have not ended.
func (p *LocalPeer) OpenCircuitCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.circuits)
}

// NewCircuitToPeerURL opens a circuit to the peer at peerURL and returns when
// the other side has said yes, together with the circuit's Context. A URL
// without a peer ID leads to any running peer of the service, or else starts
// one if this node may do that there.
//
// first is the first fragment that the other side reads; nil sends none.
// errWriteDur bounds the wait: 0 is 10 s, negative is as long as this peer
// lives. The other side refuses after 10 minutes at the latest.
//
// Errors: [URLError]; [transport.LimitError] for a first fragment over a limit,
// of which nothing was sent; [circuit.RefusedError] if the other side says no;
// [circuit.ErrOpenTimeout] if it says nothing; [transport.ErrUnreachable] if
// it cannot be reached, and the other errors of [Node.Connect]; the cause of
// this peer's Context if that has ended.
func (p *LocalPeer) NewCircuitToPeerURL(peerURL string, first *circuit.Fragment, errWriteDur time.Duration) (*circuit.Circuit, context.Context, error) {
	u, err := p.parseURL(peerURL)
	switch {
	case err != nil:
		return nil, nil, err
	case u.Service == "":
		return nil, nil, urlError(peerURL, "names no service")
	case !u.CircuitID.IsZero():
		return nil, nil, urlError(peerURL, "names a circuit that exists; a new one is opened to a peer")
	}
	ctx, cancel := within(p.ctx, errWriteDur)
	defer cancel()
	c, err := p.open(ctx, u, peerURL, first)
	if err != nil {
		if cause := p.endedBy(); cause != nil {
			err = cause
		}
		return nil, nil, err
	}
	return c, c.Context, nil
}

func (p *LocalPeer) open(ctx context.Context, u URL, text string, first *circuit.Fragment) (*circuit.Circuit, error) {
	for {
		l, err := p.node.reach(ctx, u.target(text))
		if err != nil {
			return nil, err
		}
		c, err := p.openOn(ctx, l, u, first)
		if !errors.Is(err, circuit.ErrPeerRestarted) || ctx.Err() != nil {
			return c, err
		}
		// What the URL names is a node, or a peer of it, not one run of its
		// process: the new one has the word.
	}
}

func (p *LocalPeer) openOn(ctx context.Context, l *link, u URL, first *circuit.Fragment) (*circuit.Circuit, error) {
	return l.Open(ctx, circuit.OpenParams{
		FromPeerID:  p.id,
		FromSeed:    p.seed,
		FromService: p.service,
		ToPeerID:    u.PeerID,
		ToService:   u.Service,
		First:       first,
		Owner:       owner{p, l},
	})
}

// deliver puts a circuit of another node's into the queue of the service,
// waiting for room until ctx is about to end: the refusal needs time to arrive
// before the opener gives up.
func (p *LocalPeer) deliver(ctx context.Context, c *circuit.Circuit) error {
	if p.ctx.Err() != nil {
		return p.gone()
	}
	select {
	case p.newCircuits <- c:
		return nil
	default:
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left-left/8)
		defer cancel()
	}
	select {
	case p.newCircuits <- c:
		return nil
	case <-p.ctx.Done():
		return p.gone()
	case <-ctx.Done():
		return refuse(circuit.RefusedBusy, "the peer has %d new circuits waiting", newCircuitQueue)
	}
}

// gone is why a peer that has ended takes no circuit, in the words of both
// sides.
func (p *LocalPeer) gone() error {
	if p.node.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrNodeClosed, refuse(circuit.RefusedShutdown, ""))
	}
	return fmt.Errorf("%w: %w", ErrPeerClosed, refuse(circuit.RefusedUnknownPeer, ""))
}

// An owner is a peer as the circuits of one link know it.
type owner struct {
	p *LocalPeer
	l *link
}

var _ circuit.Owner = owner{}

// AddCircuit fails once the peer has ended: end closes only what it finds.
func (o owner) AddCircuit(c *circuit.Circuit) error {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	if o.p.cause != nil {
		return o.p.gone()
	}
	o.p.circuits[c] = o.l
	return nil
}

// RemoveCircuit forgets a circuit that has ended.
func (o owner) RemoveCircuit(c *circuit.Circuit) {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	delete(o.p.circuits, c)
}

// linkOf returns the link that carries c, a circuit that p has opened or one of
// the node's own service; nil if c has ended.
func (p *LocalPeer) linkOf(c *circuit.Circuit) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.circuits[c]
}
