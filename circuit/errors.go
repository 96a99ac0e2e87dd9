package circuit

import (
	"errors"
	"fmt"
	"strings"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// Errors of this side. What the other side said is a [RemoteError] or a
// [RefusedError] and never matches one of them.
var (
	// ErrBacklog: the circuit's window is full. Nothing was taken; send
	// again later, or use [Circuit.Send], which waits.
	ErrBacklog = errors.New("circuit: backlog is full")

	// ErrClosed: this side has closed the circuit.
	ErrClosed = errors.New("circuit: closed")

	// ErrRemoteClosed: the other side has closed the circuit and gave no
	// reason: all is well.
	ErrRemoteClosed = errors.New("circuit: closed by the other side")

	// ErrPeerLost: the circuit has ended without being closed. The error is a
	// [LostError].
	ErrPeerLost = errors.New("circuit: other side lost")

	// ErrPeerRestarted is the cause of a [LostError]: where the other process
	// was there is a new one, which knows nothing of the circuit.
	ErrPeerRestarted = errors.New("circuit: the other process has restarted")

	// ErrOpenTimeout: the other side did not say yes or no in time.
	ErrOpenTimeout = errors.New("circuit: no answer to the opening")
)

// A LostError ends circuits that nobody has closed: the linger time is over
// without another connection, the other process has restarted, or has said
// goodbye, or the other side has given the circuit up. It matches
// [ErrPeerLost]. What is counted in Unacked may have arrived or not.
type LostError struct {
	Unacked int   // fragments sent that the other side has not acknowledged
	Cause   error // why, with the reason of the connection's end if that is it
}

// Error tells the number and the cause.
func (e *LostError) Error() string {
	return fmt.Sprintf("circuit: other side lost, %d fragments not acknowledged: %v", e.Unacked, e.Cause)
}

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Cause }

// Is matches [ErrPeerLost].
func (e *LostError) Is(target error) bool { return target == ErrPeerLost }

// A RemoteError is the reason with which the other side closed the circuit:
// the error it passed to CloseWith, the error its service returned, or its
// panic.
type RemoteError struct {
	Reason string // foreign text, at most 1 KiB
}

// Error quotes the foreign text after a word that says whose it is.
func (e *RemoteError) Error() string { return fmt.Sprintf("circuit: other side: %q", e.Reason) }

// maxReason is the longest reason that travels with a close or a refusal, in
// bytes. Longer ones are cut.
const maxReason = 1 << 10

// A RefuseCode is the kind of a refusal. The values are part of the wire
// format (docs/wire.md).
type RefuseCode uint64

// The kinds of refusal.
const (
	RefusedInternal       RefuseCode = iota // the other side failed; its log says why
	RefusedUnauthorized                     // this node may not do that there
	RefusedUnknownService                   // no such service is registered there
	RefusedUnknownPeer                      // no such peer is running there (any more)
	RefusedLimit                            // a limit of the other side is reached
	RefusedBusy                             // the peer took no new circuit in time
	RefusedShutdown                         // the other side is shutting down
	RefusedBadRequest                       // the request breaks the protocol

	refusedGone  // no such circuit (any more): the answer to one that resumes
	refusedStale // a later attachment has come before
)

// String returns the kind in words.
func (c RefuseCode) String() string {
	switch c {
	case RefusedInternal:
		return "internal error"
	case RefusedUnauthorized:
		return "not authorised"
	case RefusedUnknownService:
		return "unknown service"
	case RefusedUnknownPeer:
		return "unknown peer"
	case RefusedLimit:
		return "limit reached"
	case RefusedBusy:
		return "busy"
	case RefusedShutdown:
		return "shutting down"
	case RefusedBadRequest:
		return "bad request"
	case refusedGone:
		return "no such circuit"
	case refusedStale:
		return "stale"
	}
	return fmt.Sprintf("refusal %d", uint64(c))
}

// A Refusal is this side's no to a request of the other side. An [Acceptor]
// returns it; the other side gets it as a [RefusedError].
type Refusal struct {
	Code   RefuseCode
	Reason string                // is told to the other side
	Limit  *transport.LimitError // likewise, with RefusedLimit; nil: not known
}

// Error returns kind and reason.
func (e *Refusal) Error() string { return fmt.Sprintf("circuit: refused: %v: %s", e.Code, e.Reason) }

// A RefusedError is the other side's no. The connection lives on.
type RefusedError struct {
	Code    RefuseCode
	Reason  string          // foreign text, at most 1 KiB
	Node    identity.NodeID // who said it
	Service string          // what was asked for

	// Limit is the other side's limit that is reached, with RefusedLimit, if
	// it has said which. errors.As finds it, too.
	Limit *transport.LimitError
}

// Error names the service and the kind, and quotes the foreign text.
func (e *RefusedError) Error() string {
	s := fmt.Sprintf("circuit: refused by %v: service %q: %v", e.Node, e.Service, e.Code)
	if e.Reason != "" {
		s += fmt.Sprintf(": %q", e.Reason)
	}
	return s
}

// Unwrap returns the limit, if there is one.
func (e *RefusedError) Unwrap() error {
	if e.Limit == nil {
		return nil
	}
	return e.Limit
}

// RefuseLimit is the refusal for a limit of this side: a [Refusal] if err is a
// [transport.LimitError], else err.
func RefuseLimit(err error) error {
	if e, ok := errors.AsType[*transport.LimitError](err); ok {
		return &Refusal{Code: RefusedLimit, Reason: fmt.Sprintf("the limit is %d %s: %s", e.Limit, e.What, remedy(e.What)), Limit: e}
	}
	return err
}

// remedy says what can be done about a limit that is reached, at the side that
// is refused.
func remedy(what string) string {
	switch {
	case strings.Contains(what, "per second"):
		return "ask less often, or have the limit raised there"
	case strings.Contains(what, "started peers"):
		return "stop some that are running, or have the limit raised there"
	case strings.Contains(what, "circuits"):
		return "close some, or have the limit raised there"
	case strings.Contains(what, "bytes"):
		return "use a shorter one, or have the limit raised there"
	}
	return "use less, or have the limit raised there"
}

// wire is the refusal as it travels.
func (e *Refusal) wire() *wireRefuse {
	w := &wireRefuse{Code: uint64(e.Code), Reason: cut(e.Reason, maxReason)}
	if e.Limit != nil {
		w.Limit, w.Value = e.Limit.What, uint64(e.Limit.Limit)
	}
	return w
}

// limit returns what a refusal says about a limit.
func (w *wireRefuse) limit() *transport.LimitError {
	if RefuseCode(w.Code) != RefusedLimit || w.Limit == "" {
		return nil
	}
	return transport.RemoteLimit(w.Limit, w.Value)
}
