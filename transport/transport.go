// Package transport says what a wire must be able to do for circuits to run
// on it: an [Endpoint] listens and dials on one socket, a [Conn] joins two
// nodes that have proved their keys to one another, a [Stream] is one ordered
// byte channel of a Conn. The wires are child packages; package
// transporttest holds the suite that each of them passes.
package transport

import (
	"context"
	"crypto/ed25519"
	"io"
	"net"
	"time"
)

// An Endpoint is one socket that listens and dials. Its methods may be called
// from any goroutine.
//
// At any time there is at most one open Conn between two endpoints, whoever
// dialled, also when both dial at once.
type Endpoint interface {
	// Key is the endpoint's own public key.
	Key() ed25519.PublicKey

	// Addr is the address of the socket.
	Addr() net.Addr

	// Dial returns the open Conn to the node that answers at addr
	// ("host:port"), making one if there is none. It returns only after both
	// sides have said hello, so a Conn that Dial returns has been accepted.
	//
	// key pins the other side: another key there is a [WrongKeyError]. A nil
	// key leaves the choice to the endpoint's authorisation. Several nodes may
	// share one key, so an addr that no open Conn leads to is dialled even if
	// key is connected already; the Conn that is returned may then lead to
	// the same node by another address. With an empty addr Dial returns an
	// open Conn with that key, or [ErrUnreachable] at once.
	//
	// No answer before ctx ends is [ErrUnreachable]; a no from the other side
	// is a [RemoteError]. Dialling oneself is [ErrSelf].
	Dial(ctx context.Context, addr string, key ed25519.PublicKey) (Conn, error)

	// Redial is Dial for a caller that doubts the Conn it has: it asks the
	// other side also if a Conn with key is open here. If that has the Conn
	// too, Redial returns it; if it does not, Redial returns the new one, and
	// the old one ends with [ErrLost].
	Redial(ctx context.Context, addr string, key ed25519.PublicKey) (Conn, error)

	// Accept returns the next Conn that another node has opened, after hello
	// in both directions. A Conn that ended before Accept took it is left out.
	// It returns [ErrClosed] once the endpoint is closed.
	Accept(ctx context.Context) (Conn, error)

	// Close closes every Conn with [CodeClosed] and the socket, and returns
	// when all goroutines of the endpoint have ended. It may be called often.
	Close() error
}

// A Conn joins two endpoints. Its methods may be called from any goroutine.
type Conn interface {
	// Info describes the Conn as it is now.
	Info() ConnInfo

	// OpenStream opens a stream. It waits while the other side's limit of
	// open streams is reached. The other side learns of the stream with the
	// first byte written to it.
	OpenStream(ctx context.Context) (Stream, error)

	// AcceptStream returns the next stream that the other side has opened.
	AcceptStream(ctx context.Context) (Stream, error)

	// Context ends when the Conn has ended, for whatever reason.
	// [context.Cause] says why: [ErrClosed], [ErrLost], or a [RemoteError].
	// What fails because the Conn has ended fails with the same error.
	Context() context.Context

	// Close ends the Conn and all its streams at both sides, and tells the
	// other side code and reason (at most [MaxReason] bytes of it).
	Close(code Code, reason string) error
}

// ConnInfo describes a [Conn].
type ConnInfo struct {
	RemoteKey  ed25519.PublicKey // verified by the handshake
	OldKey     ed25519.PublicKey // an older key, which has signed that RemoteKey takes its place; nil: none
	OldUntil   time.Time         // until when that holds
	Heir       bool              // RemoteKey was let in, or taken, only in OldKey's place
	RemoteAddr net.Addr          // may change when the other side moves
	LocalAddr  net.Addr
	BootNonce  uint64    // of the other process; another one after each restart
	Dialed     bool      // this side dialled
	Opened     time.Time // when hello was complete
}

// Account is the key under which is counted what the other side uses: OldKey for
// an heir, also when the statement is over by now. So a key that signs
// statements for many new ones has no more for all of them than for itself; and
// one that is let in itself does not get another account by showing that it
// takes the place of some key.
func (i ConnInfo) Account() ed25519.PublicKey {
	if i.Heir {
		return i.OldKey
	}
	return i.RemoteKey
}

// A Stream is one ordered, reliable byte channel in each direction. One
// goroutine may read while another writes; two may not do the same at once.
// Reset and the deadlines may be used from any goroutine.
type Stream interface {
	// Close ends the writing direction: the other side reads what was
	// written, then io.EOF. Reading goes on.
	io.ReadWriteCloser

	// ID is the number of the stream, the same at both sides of the Conn and
	// never used twice on it.
	ID() uint64

	// Reset gives up both directions at once: pending calls return, unsent
	// bytes are dropped, the other side's calls fail with a [RemoteError]
	// that carries code.
	Reset(code Code)

	Waits

	// Context ends when nothing can be written any more: after Close, after a
	// Reset by either side, and with the Conn.
	Context() context.Context

	// Prioritize sets how this side's bytes on the stream are scheduled
	// against those of the Conn's other streams. The default is 0,
	// which is between the two that have names.
	Prioritize(p Priority)
}

// Waits says how long the calls of a [Stream] wait. Deadlines work as those of
// [net.Conn].
type Waits interface {
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error

	// TryWrite is a Write that does not wait: the stream keeps a copy of all of
	// p, or does nothing and reports false. It is meant for what is short; how
	// much the stream keeps, the caller bounds.
	TryWrite(p []byte) (ok bool, err error)
}

// A Priority orders the streams of one Conn when more bytes wait than the
// path takes. Streams of one priority share it fairly.
type Priority int8

// The priorities, most urgent first.
const (
	Urgent Priority = -1 // control frames: acknowledgements, pings
	Bulk   Priority = 1  // there is more to come than the path takes at once
)
