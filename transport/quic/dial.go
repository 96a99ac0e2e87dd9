package quic

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

const maxHelloTries = 4 // connections that one attempt makes when it is refused as a duplicate

// How long to wait before a busy server is asked again: twice as long each
// time, and with jitter.
const (
	minPause = 20 * time.Millisecond
	maxPause = 160 * time.Millisecond
)

var errNoAddr = errors.New("transport/quic: Dial needs an address or a key")

// A target is what one attempt is about; concurrent Dials to one target share
// the attempt.
type target struct {
	addr string // network and address
	pin  string // the pinned key, empty: none
}

// An attempt is one goroutine that dials a target, for as long as anybody
// waits for it. [Endpoint.mu] guards waiters, conn and err; the latter two are
// final once done is closed.
type attempt struct {
	target  target
	addr    net.Addr
	pin     ed25519.PublicKey
	began   time.Time
	cancel  context.CancelCauseFunc
	done    chan struct{}
	waiters int
	conn    *conn
	err     error
}

// wants reports whether c proves the key that the attempt looks for.
func (a *attempt) wants(c *conn) bool {
	return a.pin == nil || c.proves(a.pin)
}

func (a *attempt) over() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// Dial returns the open Conn to the node at addr, making one if there is none.
func (e *Endpoint) Dial(ctx context.Context, addr string, key ed25519.PublicKey) (transport.Conn, error) {
	c, err := e.dial(ctx, addr, key, false)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Redial is Dial, but asks the other side also if a Conn is open here.
func (e *Endpoint) Redial(ctx context.Context, addr string, key ed25519.PublicKey) (transport.Conn, error) {
	c, err := e.dial(ctx, addr, key, true)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (e *Endpoint) dial(ctx context.Context, addr string, key ed25519.PublicKey, ask bool) (*conn, error) {
	switch {
	case e.ctx.Err() != nil:
		return nil, context.Cause(e.ctx)
	case key != nil && len(key) != ed25519.PublicKeySize:
		return nil, fmt.Errorf("transport/quic: a key of %d bytes", len(key))
	case addr == "" && key == nil:
		return nil, errNoAddr
	case addr == "":
		return e.connected(key)
	}
	to, err := e.cfg.Resolve(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", transport.ErrUnreachable, addr, err)
	}
	c, a := e.join(to, key, ask)
	switch {
	case c != nil:
		// It may have been opened with a key that somebody else pinned, and
		// the key may have been revoked since.
		who := c.who // how it was let in stays as it is
		if err := e.allowDial(&who, to, key); err != nil {
			return nil, err
		}
		return c, nil
	case a == nil:
		return nil, transport.ErrClosed
	}
	select {
	case <-a.done:
		return a.conn, a.err
	case <-ctx.Done():
		return e.quit(ctx, a)
	}
}

// connected returns an open Conn with that key.
func (e *Endpoint) connected(key ed25519.PublicKey) (*conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.table.find(nil, key); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("%w: no open Conn with key %v, and no address", transport.ErrUnreachable, identity.NodeIDOf(key))
}

// join returns the open Conn to a target, unless the other side is to be asked,
// or else the attempt at it, which it starts if nobody has yet. Neither: the
// endpoint is closing.
func (e *Endpoint) join(to net.Addr, pin ed25519.PublicKey, ask bool) (*conn, *attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.table.find(to, pin); c != nil && !ask {
		return c, nil
	}
	t := target{addr: to.Network() + " " + to.String(), pin: string(pin)}
	a := e.attempts[t]
	if a == nil {
		ctx, cancel := context.WithCancelCause(e.ctx)
		a = &attempt{
			target: t, addr: to, pin: bytes.Clone(pin),
			began: time.Now(), cancel: cancel, done: make(chan struct{}),
		}
		if !e.spawnLocked(func() { e.run(ctx, a) }) {
			cancel(nil)
			return nil, nil
		}
		e.attempts[t] = a
	}
	a.waiters++
	return nil, a
}

// quit takes one waiter away. The last one ends the attempt; a Conn that came
// at the same moment is returned, or nobody would own it.
func (e *Endpoint) quit(ctx context.Context, a *attempt) (*conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a.over() {
		return a.conn, a.err
	}
	err := unreachable(a.addr, e.silence(a, context.Cause(ctx)))
	if a.waiters--; a.waiters == 0 {
		e.finish(a, nil, err)
	}
	return nil, err
}

// finish ends an attempt, with mu held. Only the first result counts.
func (e *Endpoint) finish(a *attempt, c *conn, err error) {
	if a.over() {
		return
	}
	a.conn, a.err = c, err
	delete(e.attempts, a.target)
	close(a.done)
	a.cancel(nil)
}

// run makes the attempt. Success is finished where the table decides on it.
func (e *Endpoint) run(ctx context.Context, a *attempt) {
	var replace uint64
	var err error
	for range maxHelloTries {
		var d *duplicateError
		err = e.tryWhileBusy(ctx, a, replace)
		if !errors.As(err, &d) {
			break
		}
		var c *conn
		if c, err = e.held(ctx, d); c != nil || err != nil {
			e.settle(a, c, err)
			return
		}
		// The other side holds a Conn that is gone here: have it replaced.
		replace, err = d.holds, d.remote
	}
	e.settle(a, nil, err)
}

func (e *Endpoint) settle(a *attempt, c *conn, err error) {
	if err != nil {
		err = dialError(e.ctx, a.addr, e.silence(a, err))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finish(a, c, err)
}

// silence adds to err, the end of an attempt that nobody has answered, that
// this side has not been able to ask.
func (e *Endpoint) silence(a *attempt, err error) error {
	if why := e.outage.since(a.began, a.addr); why != nil && (timedOut(err) || errors.Is(err, context.DeadlineExceeded)) {
		return fmt.Errorf("%w: %w", err, why)
	}
	return err
}

// A duplicateError is a refusal because the other side has a Conn to us.
type duplicateError struct {
	node   node
	holds  uint64 // its number for the connection
	yours  uint64 // our number for it, if we dialled it, else 0
	remote *transport.RemoteError
}

func (d *duplicateError) Error() string { return d.remote.Error() }

// is reports whether c is the connection that the other side holds.
func (d *duplicateError) is(c *conn) bool {
	if d.yours != 0 {
		return c.dialed && c.serial == d.yours
	}
	return !c.dialed && c.theirs == d.holds
}

// held returns the Conn that the other side says there is, waiting while it is
// half open at either side; nil: it is lost here.
func (e *Endpoint) held(ctx context.Context, d *duplicateError) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.HandshakeTimeout)
	defer cancel()
	for {
		e.mu.Lock()
		v := e.table.duplicate(d)
		e.mu.Unlock()
		if v.wait == nil {
			return v.holds, nil
		}
		select {
		case <-v.wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryWhileBusy tries until the other side has a place for us, for as long as a
// hello may take.
func (e *Endpoint) tryWhileBusy(ctx context.Context, a *attempt, replace uint64) error {
	end := time.Now().Add(e.cfg.HandshakeTimeout)
	for wait := minPause; ; wait = min(2*wait, maxPause) {
		err := e.try(ctx, a, replace)
		pause := wait/2 + below(wait/2)
		if !busy(err) || time.Now().Add(pause).After(end) {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// below returns a random time shorter than d. It is drawn from crypto/rand
// because simulations can seed that.
func below(d time.Duration) time.Duration {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return time.Duration(binary.BigEndian.Uint64(b[:]) % uint64(d))
}

// try makes one connection and brings it to the point where it is the Conn.
func (e *Endpoint) try(ctx context.Context, a *attempt, replace uint64) error {
	r := e.newRace(a)
	defer r.done()
	qc, err := r.run(ctx)
	if err != nil {
		return err
	}
	who, err := identify(qc.ConnectionState().TLS)
	if err != nil {
		qc.CloseWithError(quicgo.ApplicationErrorCode(transport.CodeProtocol), "")
		return err
	}
	if who.instead != nil { // judged before, by dialTLS: now it counts as whom it was taken for
		if err := e.allowDial(&who, a.addr, a.pin); err != nil {
			qc.CloseWithError(quicgo.ApplicationErrorCode(transport.CodeRefused), "")
			return err
		}
	}
	c := e.newConn(qc, who)
	c.dialed = true
	code, err := e.greet(ctx, a, c, replace)
	if err != nil {
		qc.CloseWithError(quicgo.ApplicationErrorCode(code), "")
	}
	return err
}
