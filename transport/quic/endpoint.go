package quic

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
)

var _ transport.Endpoint = (*Endpoint)(nil)

// An Endpoint is one socket with a node's key. Its methods may be called from
// any goroutine.
type Endpoint struct {
	cfg   Config
	self  node
	cert  tls.Certificate
	qconf *quicgo.Config
	tr    *quicgo.Transport
	ln    *quicgo.Listener

	arrivals arrivals
	outage   outage
	refusals refusalLog

	ctx    context.Context // ends when Close begins, or the socket fails
	stop   context.CancelCauseFunc
	closed chan struct{}  // closed when Close has ended
	wg     sync.WaitGroup // all goroutines of the endpoint; Add only with mu held and ctx alive

	// mu guards what follows. It is never held while anything waits.
	mu        sync.Mutex
	closing   bool
	table     table
	attempts  map[target]*attempt
	queue     []*conn // opened by others, for Accept
	reserved  int     // places in queue for half-open connections
	ready     chan struct{}
	hellos    int
	keyHellos map[keyBytes]int // those whose key is authorised
	strangers int
}

// Listen makes an endpoint on cfg.Conn, which it owns from then on, also when
// it fails.
func Listen(cfg Config) (*Endpoint, error) {
	e, err := listen(cfg)
	if err != nil && cfg.Conn != nil {
		cfg.Conn.Close()
	}
	return e, err
}

func listen(cfg Config) (*Endpoint, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	cert, err := certificate(cfg)
	if err != nil {
		return nil, err
	}
	reset, err := cfg.Key.Derive("ckt/1 stateless reset")
	if err != nil {
		return nil, fmt.Errorf("transport/quic: %w", err)
	}
	token, err := cfg.Key.Derive("ckt/1 retry token")
	if err != nil {
		return nil, fmt.Errorf("transport/quic: %w", err)
	}
	self := node{key: cfg.Key.ID(), nonce: cfg.BootNonce}
	e := &Endpoint{
		cfg: cfg, self: self, cert: cert, qconf: quicConfig(cfg),
		closed:   make(chan struct{}),
		table:    table{self: self, nodes: make(map[node]*entry), greeting: make(map[uint64]chan struct{})},
		attempts: make(map[target]*attempt),
		ready:    make(chan struct{}, 1),

		keyHellos: make(map[keyBytes]int),
		arrivals:  newArrivals(cfg),
		refusals:  refusalLog{last: make(map[said]time.Time)},
	}
	e.tr = &quicgo.Transport{
		Conn:               socket(cfg.Conn, &e.outage),
		ConnectionIDLength: 8,
		// The same after a restart, so that the restarted process can tell the
		// others at once that their connections are gone.
		StatelessResetKey:   (*quicgo.StatelessResetKey)(&reset),
		TokenGeneratorKey:   (*quicgo.TokenGeneratorKey)(&token),
		VerifySourceAddress: func(net.Addr) bool { return e.arrivals.crowded() },
		ConnContext:         e.arrive,
	}
	inbound := e.qconf.Clone()
	inbound.GetConfigForClient = func(*quicgo.ClientInfo) (*quicgo.Config, error) {
		return e.arrivals.adapt(e.qconf), nil
	}
	if e.ln, err = e.tr.Listen(e.listenTLS(), inbound); err != nil {
		e.tr.Close()
		return nil, fmt.Errorf("transport/quic: listen: %w", err)
	}
	e.ctx, e.stop = context.WithCancelCause(context.Background())
	e.wg.Go(e.acceptLoop)
	return e, nil
}

// Key is the endpoint's own public key.
func (e *Endpoint) Key() ed25519.PublicKey { return e.self.publicKey() }

// Addr is the address of the socket.
func (e *Endpoint) Addr() net.Addr { return e.cfg.Conn.LocalAddr() }

// BootNonce is what tells this run from others with the same key.
func (e *Endpoint) BootNonce() uint64 { return e.self.nonce }

// Accept returns the next Conn that another node has opened.
func (e *Endpoint) Accept(ctx context.Context) (transport.Conn, error) {
	for {
		if c := e.dequeue(); c != nil {
			return c, nil
		}
		select {
		case <-e.ready:
		case <-e.ctx.Done():
			return nil, context.Cause(e.ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (e *Endpoint) dequeue() *conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 || e.ctx.Err() != nil {
		return nil
	}
	c := e.queue[0]
	e.queue = slices.Delete(e.queue, 0, 1)
	if len(e.queue) > 0 {
		e.wake() // another Accept may be waiting
	}
	return c
}

func (e *Endpoint) wake() {
	select {
	case e.ready <- struct{}{}:
	default:
	}
}

// spawn runs f in a goroutine that Close joins; false: the endpoint is closing.
func (e *Endpoint) spawn(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.spawnLocked(f)
}

func (e *Endpoint) spawnLocked(f func()) bool {
	if e.closing {
		return false
	}
	e.wg.Go(f)
	return true
}

// forget drops a Conn that has ended.
func (e *Endpoint) forget(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.table.forget(c)
	if i := slices.Index(e.queue, c); i >= 0 {
		e.queue = slices.Delete(e.queue, i, i+1)
	}
}

// lose ends the Conns that the opening of c has shown to be gone.
func (c *conn) lose(stale []*conn) {
	for _, s := range stale {
		cause := errSuperseded
		if s.node != c.node {
			cause = errRestarted
		}
		s.end(cause, transport.CodeSuperseded, "")
	}
}

// Close closes every Conn with [transport.CodeClosed], then the socket, and
// returns when all goroutines have ended.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		<-e.closed
		return nil
	}
	e.closing = true
	open := e.table.all()
	e.mu.Unlock()

	defer close(e.closed)
	e.stop(transport.ErrClosed)
	var ends sync.WaitGroup
	for _, c := range open {
		ends.Go(func() { c.Close(transport.CodeClosed, "") })
	}
	ends.Wait()
	e.ln.Close() // the accept loop gets what is left, then an error
	e.wg.Wait()
	err := e.tr.Close()
	if cerr := e.cfg.Conn.Close(); !errors.Is(cerr, net.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}
