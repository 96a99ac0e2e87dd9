package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"ckt.local/circuit"
	"ckt.local/cmd/internal/node"
	"ckt.local/peer"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// The exit codes, as the help documents them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnreachable = 4
)

// A verdict is what the user is told of an error.
type verdict struct {
	Code    string `json:"code"` // one word for programs
	Exit    int    `json:"exit"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what to do about it
}

// A usageError says that the command was not called as it must be.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// exit reports err, if any, and returns the exit code.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	if !a.running {
		err = &usageError{err: err}
	}
	v := a.judge(err)
	if ctx.Err() != nil {
		v = verdict{Code: "interrupted", Exit: exitFailed, Message: "interrupted"}
	}
	a.report(v)
	return v.Exit
}

func (a *app) report(v verdict) {
	if a.asJSON {
		// Nobody is left to tell that stderr is closed.
		_ = json.NewEncoder(a.stderr).Encode(map[string]verdict{"error": v})
		return
	}
	fmt.Fprintln(a.stderr, "peerctl:", v.Message)
	if v.Hint != "" {
		fmt.Fprintln(a.stderr, "  hint:", v.Hint)
	}
}

// A rule is one row of the table of errors: if match knows the error, it is
// the verdict, with err's own text unless it gives another.
type rule func(a *app, err error) (verdict, bool)

// rules are tried in order. What ended a circuit comes before why: a lost
// connection may wrap what the other side said last.
func rules() []rule {
	return []rule{
		isType(func(_ *app, e *usageError) verdict {
			return verdict{Code: "usage", Exit: exitUsage, Hint: "peerctl --help, and peerctl COMMAND --help, show how"}
		}),
		isType(func(_ *app, e *peer.URLError) verdict { return verdict{Code: "usage", Exit: exitUsage} }),
		isType((*app).refused),
		isType((*app).wrongKey),
		isType((*app).unauthorized),
		is(circuit.ErrPeerLost, "lost", "the other node has stopped answering: is it still running?"),
		is(transport.ErrLost, "lost", "the other node has stopped answering: is it still running?"),
		isType((*app).turnedAway),
		is(transport.ErrUnreachable, "unreachable", "is the node running, and does the network let UDP through to it?"),
		is(peer.ErrNotConnected, "unreachable", "give the address too: ckt://ID@HOST:PORT"),
		is(circuit.ErrOpenTimeout, "timeout", "the node is there but too slow: try a longer --timeout"),
		is(context.DeadlineExceeded, "timeout", "try a longer --timeout"),
		isType(func(_ *app, e *net.DNSError) verdict { return verdict{Code: "unreachable", Exit: exitUnreachable} }),
		isType(func(_ *app, e *identity.PassphraseError) verdict {
			return verdict{Code: "passphrase", Exit: exitFailed, Hint: "set CKT_PASSPHRASE, or load the key into an ssh-agent with ssh-add"}
		}),
		isType(func(_ *app, e *node.ServiceError) verdict { return verdict{Code: "usage", Exit: exitUsage} }),
		is2(fs.ErrExist, verdict{Code: "exists", Exit: exitFailed}),
		is2(os.ErrNotExist, verdict{Code: "not-found", Exit: exitFailed}),
	}
}

func isType[E error](f func(*app, E) verdict) rule {
	return func(a *app, err error) (verdict, bool) {
		e, ok := errors.AsType[E](err)
		if !ok {
			return verdict{}, false
		}
		return f(a, e), true
	}
}

// is is for what means that the other node cannot be reached.
func is(target error, code, hint string) rule {
	return is2(target, verdict{Code: code, Exit: exitUnreachable, Hint: hint})
}

func is2(target error, v verdict) rule {
	return func(_ *app, err error) (verdict, bool) { return v, errors.Is(err, target) }
}

// judge goes through the table.
func (a *app) judge(err error) verdict {
	v := verdict{Code: "failed", Exit: exitFailed}
	for _, r := range rules() {
		if got, ok := r(a, err); ok {
			v = got
			break
		}
	}
	if v.Message == "" {
		v.Message = err.Error()
	}
	return v
}

// refused: the connection is there, and the request was answered with no.
func (a *app) refused(e *circuit.RefusedError) verdict {
	v := verdict{Code: "refused", Exit: exitRefused, Message: e.Error()}
	switch e.Code {
	case circuit.RefusedUnauthorized:
		v.Code = "unauthorized"
		v.Message = fmt.Sprintf("node %v does not allow node %v (this one) the service %q", e.Node, a.self, a.wanted())
		v.Hint = a.letIn()
	case circuit.RefusedUnknownService:
		v.Hint = "start that node with: peerctl serve --service " + a.wanted()
	case circuit.RefusedUnknownPeer:
		v.Hint = fmt.Sprintf("the peer has ended; start another: peerctl start-remote-peer %s %s", a.wanted(), a.addr)
	}
	return v
}

// turnedAway: the other node did not let us connect, or ended the connection.
func (a *app) turnedAway(e *transport.RemoteError) verdict {
	switch e.Code {
	case transport.CodeRefused:
		return verdict{
			Code: "unauthorized", Exit: exitRefused,
			Message: fmt.Sprintf("the node at %s does not allow node %v (this one) to connect", a.addr, a.self),
			Hint:    a.letIn(),
		}
	case transport.CodeLimit, transport.CodeDuplicate:
		return verdict{Code: "refused", Exit: exitRefused}
	case transport.CodeClosed, transport.CodeLost:
		return verdict{Code: "lost", Exit: exitUnreachable}
	}
	return verdict{Code: "failed", Exit: exitFailed}
}

// wrongKey: somebody else answers at the address.
func (a *app) wrongKey(e *transport.WrongKeyError) verdict {
	return verdict{
		Code: "wrong-key", Exit: exitRefused,
		Message: fmt.Sprintf("the node at %s is %v, not %v", e.Addr,
			identity.NodeIDOf(e.Got), identity.NodeIDOf(e.Want)),
		Hint: "if it was set up anew, ask its owner for its URL; else somebody answers in its place",
	}
}

// unauthorized: our own authorized_peers does not have the key of the node at
// an address that was given without one.
func (a *app) unauthorized(e *transport.UnauthorizedError) verdict {
	id := identity.NodeIDOf(e.Key)
	return verdict{
		Code: "unauthorized", Exit: exitRefused,
		Message: fmt.Sprintf("the node at %s is %v, which is not authorised here", e.Addr, id),
		Hint: fmt.Sprintf("if that is the node you mean, write ckt://%v@%s, or let it in here: peerctl authorize %v --services %s%s",
			id, e.Addr, id, a.wanted(), a.authorizedFlag()),
	}
}

// letIn is the line that would let this node in at the other one.
func (a *app) letIn() string {
	return fmt.Sprintf("on the other machine: peerctl authorize %v --services %s", a.self, a.wanted())
}

// wanted is the service to name in a hint. An entry for the library's own
// service is enough to connect.
func (a *app) wanted() string {
	if a.service == "" {
		return "ckt.node"
	}
	return a.service
}

func (a *app) authorizedFlag() string {
	if a.authorized == "" {
		return ""
	}
	return " --authorized " + a.authorized
}
