package circuit

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// A Link is everything between this process and one other: its circuits, and
// the connections that carry them, one after another. Its methods may be
// called from any goroutine.
type Link struct {
	hub     *Hub
	cfg     Config
	node    identity.NodeID
	account identity.NodeID // under which the ledger counts the link
	nonce   uint64          // of the other process
	dialed  bool            // this side made the first connection
	redial  func(ctx context.Context) error

	ctx    context.Context // ends with the link
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the link's goroutines, and one for each circuit that is not finished

	lastEnds atomic.Pointer[ends]
	early    atomic.Int64  // cost of the first fragments that went out before an answer
	settings chan struct{} // closed when remote is known
	remote   wireSettings  // written once, before settings is closed

	mu         sync.Mutex // never held across a wait
	cur        *carrier   // nil: detached
	last       transport.Conn
	carriers   int32     // how many there have been
	attachedAt time.Time // when the latest one came
	circuits   map[ID]*Circuit
	numbers    uint64               // how many there have been
	pending    map[ID]chan struct{} // circuits that the acceptor is being asked about; closed when it has answered, nil if nobody waits for that
	live       int                  // circuits that are not forgotten
	opening    int                  // calls of Open that wait for a carrier
	draining   bool                 // no new circuits
	ended      bool
	empty      chan struct{} // closed when the last circuit is forgotten; nil unless draining
	attached   chan struct{} // closed when the next carrier is there; nil: nobody waits
	redialing  bool          // redialLoop runs
	keeping    bool          // keep runs
	keepMore   bool          // and is to look again before it ends
	lostAt     error         // why the last carrier was lost
	tried      error         // what the last try to connect has led to
	dropped    int           // fragments of closed circuits that were given up since draining
}

func newLink(h *Hub, conn transport.Conn, redial func(context.Context) error) *Link {
	info := conn.Info()
	l := &Link{
		hub:      h,
		cfg:      h.cfg,
		node:     identity.NodeIDOf(info.RemoteKey),
		account:  identity.NodeIDOf(info.Account()),
		nonce:    info.BootNonce,
		dialed:   info.Dialed,
		redial:   redial,
		settings: make(chan struct{}),
		circuits: map[ID]*Circuit{},
		pending:  map[ID]chan struct{}{},
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.Attach(conn)
	return l
}

// Info describes the connection, or the last one if there is none just now.
func (l *Link) Info() transport.ConnInfo {
	l.mu.Lock()
	conn := l.last
	l.mu.Unlock()
	return conn.Info()
}

// RemoteNodeID is the verified key at the other end.
func (l *Link) RemoteNodeID() identity.NodeID { return l.node }

// Account is the key under which is counted what the other side uses here: that
// of [transport.ConnInfo.Account] of the first connection.
func (l *Link) Account() identity.NodeID { return l.account }

// Context ends when the link has ended; [context.Cause] says why. A link ends
// when it is shut down, when the other process has said goodbye or has
// restarted, and when its connection is lost and no circuit waits for another.
func (l *Link) Context() context.Context { return l.ctx }

// Attached reports whether there is a connection just now.
func (l *Link) Attached() bool { return l.carrier() != nil }

func (l *Link) carrier() *carrier {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cur
}

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

// snapshot returns the circuits in the order of their registration: what is
// done to them in turn can be repeated in a simulation.
func (l *Link) snapshot() []*Circuit {
	l.mu.Lock()
	cs := slices.Collect(maps.Values(l.circuits))
	l.mu.Unlock()
	slices.SortFunc(cs, byNumber)
	return cs
}

// byNumber orders circuits by their registration.
func byNumber(a, b *Circuit) int { return cmp.Compare(a.number, b.number) }

// Attach gives the link another connection to the same process, which it owns
// from now on. The circuits move to it; what carried them before is closed.
func (l *Link) Attach(conn transport.Conn) {
	l.mu.Lock()
	old := l.cur
	switch {
	case l.ended:
		l.mu.Unlock()
		conn.Close(transport.CodeLost, "") // no goodbye: the next one may find another link
		return
	case l.last == conn:
		l.mu.Unlock()
		return
	}
	l.carriers++
	car := newCarrier(l, conn, l.carriers)
	l.cur, l.last = car, conn
	if l.attached != nil {
		close(l.attached)
		l.attached = nil
	}
	car.start() // counts its goroutines while the link has not ended
	hasty := time.Since(l.attachedAt) < dialerWait
	l.attachedAt = time.Now()
	if hasty {
		l.wg.Go(car.resumeLater)
	}
	l.mu.Unlock()
	if old != nil {
		old.fail(transport.CodeSuperseded, errSuperseded)
	}
	if !hasty {
		car.resume()
	}
}

// Restarted ends the link: another process with the same key stands where the
// other one was. Its circuits end with a [LostError] whose cause is
// [ErrPeerRestarted].
func (l *Link) Restarted() { l.end(ErrPeerRestarted) }

// Abandon ends the link because this side will not wait any longer. Its
// circuits end with a [LostError] with that cause.
func (l *Link) Abandon(cause error) { l.end(cause) }

// Shutdown refuses new circuits, closes those there are with reason (nil: a
// clean close), waits until what they have sent is acknowledged or ctx ends,
// then closes the connection and joins the link's goroutines. If ctx ended
// first and fragments were not acknowledged, it returns a [LostError] with
// their number.
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
	l.end(transport.ErrClosed) // counts what it drops
	l.Wait()
	if l.dropped > 0 {
		return &LostError{Unacked: l.dropped, Cause: cmp.Or(context.Cause(ctx), context.Cause(l.ctx))}
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

// end takes all circuits down, for good.
func (l *Link) end(cause error) {
	l.mu.Lock()
	first := !l.ended
	l.ended = true
	car := l.cur
	l.cur = nil
	l.mu.Unlock()
	if !first {
		return
	}
	l.cancel(cause)
	for _, c := range l.snapshot() {
		c.lose(cause) // before a reader is told of the connection's end, and takes that for the cause
	}
	if car != nil {
		car.fail(transport.CodeClosed, cause)
	}
}

// detached is called by a carrier that has been lost, after its circuits have
// been told.
func (l *Link) detached(car *carrier, cause error) {
	l.mu.Lock()
	if l.ended || l.cur != car {
		l.mu.Unlock()
		return
	}
	l.cur, l.lostAt = nil, cause
	wanted := l.live+l.opening > 0 && l.linger() > 0
	if wanted {
		l.startRedialing(cause, time.Since(car.control.start))
	}
	l.mu.Unlock()
	if !wanted || isFinal(cause) {
		l.end(cause)
	}
}

// linger is how long circuits outlive their carrier. Zero before the first
// settings have come: the other side may not want it.
func (l *Link) linger() time.Duration {
	select {
	case <-l.settings:
		return min(l.cfg.Linger, time.Duration(l.remote.LingerMillis)*time.Millisecond)
	default:
		return 0
	}
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
	l.numbers++
	c.number = l.numbers
	l.circuits[c.id] = c
	l.live++
	l.wg.Add(1)
	return nil
}

// awaited reports whether there are circuits.
func (l *Link) awaited() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live > 0
}

// forget is called once for each registered circuit, when nothing more is to
// be said about it between the two sides.
func (l *Link) forget(c *Circuit, dropped int) {
	l.mu.Lock()
	l.live--
	if l.draining {
		l.dropped += dropped
	}
	if l.empty != nil && l.live == 0 {
		close(l.empty)
		l.empty = nil
	}
	idle := l.idleLocked()
	l.mu.Unlock()
	if idle != nil {
		l.end(idle)
	}
}

// idleLocked returns why the link has to end, if nothing needs it any more.
func (l *Link) idleLocked() error {
	if l.cur != nil || l.ended || l.live+l.opening > 0 {
		return nil
	}
	return l.lostAt
}

// finish is called once for each registered circuit, after forget, when no
// goroutine will run for it again. Until then Shutdown knows it, so that what
// nobody reads holds up nobody's shutdown.
func (l *Link) finish(c *Circuit) {
	l.mu.Lock()
	delete(l.circuits, c.id)
	l.mu.Unlock()
	if c.accepted {
		l.unreserve()
	}
	l.wg.Done()
}
