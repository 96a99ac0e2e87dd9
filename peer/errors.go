package peer

import (
	"errors"
	"fmt"
	"strings"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// Errors of this side. What another node said is a [circuit.RefusedError], a
// [circuit.RemoteError] or a transport.RemoteError and matches none of them.
var (
	// ErrBadName: no service can have this name, or the name is one of the
	// library's own (they begin with "ckt.").
	ErrBadName = errors.New("peer: bad service name")

	// ErrDuplicateName: a service is registered by this name already.
	ErrDuplicateName = errors.New("peer: service name is taken")

	// ErrUnknownService: no service is registered by this name on this node.
	ErrUnknownService = errors.New("peer: unknown service")

	// ErrNotConnected: there is no connection to the node, and no address to
	// dial.
	ErrNotConnected = errors.New("peer: not connected, and no address is known")

	// ErrPeerClosed: the local peer has ended, because it was closed or its
	// service function returned nil. It is also the cause of its Context.
	ErrPeerClosed = errors.New("peer: closed")

	// ErrNodeClosed: the node was closed.
	ErrNodeClosed = errors.New("peer: node closed")
)

// A URLError says that a text is no peer URL, node URL or address, or not one
// that can be used here.
type URLError struct {
	URL    string // the first 200 bytes at most
	Reason string
	Limit  *transport.LimitError // the limit that it is over; nil: none
}

// Error quotes the text.
func (e *URLError) Error() string { return fmt.Sprintf("peer: bad address %q: %s", e.URL, e.Reason) }

// Unwrap returns the limit, if there is one.
func (e *URLError) Unwrap() error {
	if e.Limit == nil {
		return nil
	}
	return e.Limit
}

func urlError(s, format string, args ...any) *URLError {
	return &URLError{URL: s[:min(len(s), 200)], Reason: fmt.Sprintf(format, args...)}
}

// tooLong is the error for a text that is longer than most bytes.
func tooLong(s string, most int) *URLError {
	e := urlError(s, "longer than %d bytes, which is the limit here", most)
	e.Limit = &transport.LimitError{What: "url bytes", Size: int64(len(s)), Limit: int64(most)}
	return e
}

// A PanicError is how a peer ended whose service function panicked, or called
// runtime.Goexit. The other ends of its circuits learn what Error returns.
type PanicError struct {
	Service string
	Value   any    // what the function panicked with; nil after Goexit
	Stack   []byte // of the panic; stays on this node
}

// Error names the service only: the value may be a secret.
func (e *PanicError) Error() string {
	if e.Stack == nil {
		return fmt.Sprintf("service %q ended its goroutine", e.Service)
	}
	return fmt.Sprintf("service %q panicked", e.Service)
}

// A StopError names the services that had not returned when the time for
// closing the node was over. Their goroutines still run; their circuits have
// ended.
type StopError struct {
	Services []string // with repetitions, sorted
}

// Error lists the services.
func (e *StopError) Error() string {
	return "peer: services that did not return: " + strings.Join(e.Services, ", ")
}

// refuse is this node's no to another node's request.
func refuse(code circuit.RefuseCode, format string, args ...any) error {
	return &circuit.Refusal{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// A reasoned refusal has a reason that stays on this node.
type reasoned struct {
	*circuit.Refusal
	why error
}

// Unwrap makes both known to package errors.
func (e *reasoned) Unwrap() []error { return []error{e.Refusal, e.why} }

// whyNot is the text of a refusal for this node's own eyes.
func whyNot(err error) string {
	if d, ok := errors.AsType[*identity.DeniedError](err); ok {
		return d.Reason // who and what, the record says
	}
	if e, ok := errors.AsType[*reasoned](err); ok {
		return e.why.Error()
	}
	if e, ok := errors.AsType[*circuit.Refusal](err); ok {
		return strings.TrimSuffix(fmt.Sprintf("%v: %s", e.Code, e.Reason), ": ")
	}
	return err.Error()
}

// refuseLimit is this node's no to a request that is over a limit of it.
func refuseLimit(err *transport.LimitError) error {
	told, _ := errors.AsType[*circuit.Refusal](circuit.RefuseLimit(err))
	return &reasoned{told, err}
}

// limitOf returns the limit that an error speaks of as one of this side; nil:
// none.
func limitOf(err error) *transport.LimitError {
	if e, ok := errors.AsType[*transport.LimitError](err); ok {
		return &transport.LimitError{What: e.What, Size: e.Size, Limit: e.Limit}
	}
	if q, ok := errors.AsType[*identity.QuotaError](err); ok {
		return &transport.LimitError{What: q.What, Limit: q.Limit}
	}
	return nil
}

// refuseAs is what a node is told that authorize refuses: a limit, or no more
// than that it may not.
func refuseAs(err error) error {
	if e := limitOf(err); e != nil {
		return refuseLimit(e)
	}
	return &reasoned{&circuit.Refusal{Code: circuit.RefusedUnauthorized}, err}
}
