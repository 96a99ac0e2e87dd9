package circuit

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// Config bounds the circuits of a [Link]. The zero value of each field is its
// default.
type Config struct {
	// MaxPayload is the longest payload of a fragment that is sent or taken,
	// in bytes. Default 1 MiB, at most 64 MiB. The smaller one of both sides
	// holds.
	MaxPayload int

	// Window is how much may be under way in each direction of a circuit,
	// and how much of what a reader leaves unread is kept for it, in bytes.
	// Each fragment counts 512 bytes more than its frame has, and 128 more for
	// each pair of Args; one more fragment may exceed the window. Default 1 MiB, at most 1 GiB.
	Window int

	// MaxCircuits is how many circuits the other side may have open on one
	// link. Default 16384.
	MaxCircuits int

	// OpenTimeout bounds the wait for the other side's yes where the caller
	// gives no deadline. Default 10 s.
	OpenTimeout time.Duration

	// Silence is how long acknowledgements may fail to come while something
	// is unacknowledged, before the connection counts as lost. Default 5 s.
	Silence time.Duration

	// Logger gets what goes wrong with foreign input. Default: discarded.
	Logger *slog.Logger
}

// The bounds of Config's defaults.
const (
	defaultMaxPayload  = 1 << 20
	largestMaxPayload  = 64 << 20
	defaultWindow      = 1 << 20
	largestWindow      = 1 << 30
	defaultMaxCircuits = 16384
	defaultOpenTimeout = 10 * time.Second
	defaultSilence     = 5 * time.Second
)

func (cfg Config) withDefaults() Config {
	if cfg.MaxPayload <= 0 {
		cfg.MaxPayload = defaultMaxPayload
	}
	if cfg.Window <= 0 {
		cfg.Window = defaultWindow
	}
	if cfg.MaxCircuits <= 0 {
		cfg.MaxCircuits = defaultMaxCircuits
	}
	if cfg.OpenTimeout <= 0 {
		cfg.OpenTimeout = defaultOpenTimeout
	}
	if cfg.Silence <= 0 {
		cfg.Silence = defaultSilence
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.MaxPayload = min(cfg.MaxPayload, largestMaxPayload)
	cfg.Window = min(cfg.Window, largestWindow)
	return cfg
}

// A Link carries the circuits of one Conn: each on a stream of its own, and
// acknowledgements, credit and pings on one more, so that they never wait
// behind data. Its methods may be called from any goroutine.
type Link struct {
	conn     transport.Conn
	acceptor Acceptor
	cfg      Config
	node     identity.NodeID
	bufs     bufPool

	ctx    context.Context // ends with the link
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the link's goroutines, and one for each circuit that is not finished

	settings chan struct{} // closed when remote is known
	remote   wireSettings  // written once, before settings is closed

	control control

	mu       sync.Mutex          // never held across a wait
	circuits map[uint64]*Circuit // by stream, until they are finished
	live     int                 // of them, those not forgotten
	incoming int                 // circuits that the other side has opened or is opening
	draining bool                // no new circuits
	ended    bool                // the Conn is gone
	empty    chan struct{}       // closed when the last circuit is forgotten; nil unless draining
}

// NewLink starts to serve conn, which it owns from now on. [Link.Wait] joins
// its goroutines.
func NewLink(conn transport.Conn, acc Acceptor, cfg Config) *Link {
	l := &Link{
		conn:     conn,
		acceptor: acc,
		cfg:      cfg.withDefaults(),
		node:     identity.NodeIDOf(conn.Info().RemoteKey),
		settings: make(chan struct{}),
		circuits: map[uint64]*Circuit{},
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.control.init()
	l.wg.Go(l.acceptLoop)
	l.wg.Go(l.controlLoop)
	l.wg.Go(l.watch)
	return l
}

// Info describes the connection.
func (l *Link) Info() transport.ConnInfo { return l.conn.Info() }

// RemoteNodeID is the verified key at the other end.
func (l *Link) RemoteNodeID() identity.NodeID { return l.node }

// Context ends when the link has ended; [context.Cause] says why.
func (l *Link) Context() context.Context { return l.ctx }

// Circuits returns the circuits that are open, in no order.
func (l *Link) Circuits() []*Circuit {
	var open []*Circuit
	for _, c := range l.snapshot() {
		if c.isOpen() {
			open = append(open, c)
		}
	}
	return open
}

func (l *Link) snapshot() []*Circuit {
	l.mu.Lock()
	defer l.mu.Unlock()
	cs := make([]*Circuit, 0, len(l.circuits))
	for _, c := range l.circuits {
		cs = append(cs, c)
	}
	return cs
}

// Shutdown refuses new circuits, closes those there are with reason (nil: a
// clean close), waits until what they have sent is acknowledged or ctx ends,
// then closes the Conn and joins the link's goroutines. If ctx ended first and
// fragments were not acknowledged, it returns a [LostError] with their number.
func (l *Link) Shutdown(ctx context.Context, reason error) error {
	l.mu.Lock()
	l.draining = true
	if l.empty == nil {
		l.empty = make(chan struct{})
		if l.live == 0 {
			close(l.empty)
		}
	}
	empty := l.empty
	l.mu.Unlock()
	for _, c := range l.snapshot() {
		c.CloseWith(reason)
	}
	select {
	case <-empty:
	case <-l.ctx.Done():
	case <-ctx.Done():
	}
	unacked := 0
	for _, c := range l.snapshot() {
		unacked += c.pending()
	}
	l.conn.Close(transport.CodeClosed, "")
	l.end(transport.ErrClosed)
	l.Wait()
	if unacked > 0 {
		return &LostError{Unacked: unacked, Cause: context.Cause(ctx)}
	}
	return nil
}

// Wait returns when the link has ended and so have all goroutines of it and
// of its circuits. A circuit with unread fragments has one, until it is
// closed at this side.
func (l *Link) Wait() {
	<-l.ctx.Done()
	l.wg.Wait()
}

// end takes all circuits down, because the Conn is gone or must go.
func (l *Link) end(cause error) {
	l.mu.Lock()
	first := !l.ended
	l.ended = true
	l.mu.Unlock()
	if !first {
		return
	}
	l.cancel(cause)
	for _, c := range l.snapshot() {
		c.lose(cause) // before the reader is told of the reset, and takes that for the cause
		c.stream.Reset(transport.CodeClosed)
	}
}

// fail ends the link because the other side is at fault or gone.
func (l *Link) fail(code transport.Code, cause error) {
	l.end(cause)
	l.conn.Close(code, cause.Error())
}

// register makes c known to the link and counts it in wg. From now on the
// link loses it when the link ends.
func (l *Link) register(c *Circuit) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended:
		return &LostError{Cause: context.Cause(l.ctx)}
	case l.draining:
		return ErrClosed
	}
	l.circuits[c.stream.ID()] = c
	l.live++
	l.wg.Add(1)
	return nil
}

// forget is called once for each registered circuit, when its stream has ended
// and nothing is unacknowledged.
func (l *Link) forget(c *Circuit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live--
	if c.accepted {
		l.incoming--
	}
	if l.empty != nil && l.live == 0 {
		close(l.empty)
		l.empty = nil
	}
}

// finish is called once for each registered circuit, after forget, when no
// goroutine will run for it again. Until then Shutdown knows it, so that what
// nobody reads holds up nobody's shutdown.
func (l *Link) finish(c *Circuit) {
	l.mu.Lock()
	delete(l.circuits, c.stream.ID())
	l.mu.Unlock()
	l.wg.Done()
}

// owes counts circuits whose fragments the other side has to acknowledge.
func (l *Link) owes(n int) {
	if l.control.outstanding.Add(int64(n)) == 1 && n > 0 {
		signal(l.control.watch)
	}
}

// control is the state of the control streams.
type control struct {
	wake  chan struct{} // something must be written at once
	timer *time.Timer   // something may be written now
	watch chan struct{} // outstanding has become positive

	outstanding atomic.Int64
	heard       atomic.Int64  // when the other side's last control frame came, in ns since start
	pingDue     atomic.Bool   // ask for a pong
	pong        atomic.Uint64 // nonce to return, plus one; 0: none
	start       time.Time

	mu    sync.Mutex // never held across a wait
	dirty []*Circuit // to be acknowledged, each once
}
