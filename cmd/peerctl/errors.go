package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"ckt.local/circuit"
	"ckt.local/cmd/internal/node"
	"ckt.local/peer"
	"ckt.local/peer/files"
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
	Hint    string `json:"hint,omitempty"`    // what to do about it
	Unacked *int   `json:"unacked,omitempty"` // fragments; nil: no circuit was lost

	Lines []string `json:"lines,omitempty"` // of a file, that the message speaks of

	alarm []string // lines for people that come first
}

// leaves tells how many fragments the other side has not acknowledged.
func (v *verdict) leaves(unacked int) {
	v.Unacked = &unacked
	if unacked > 0 {
		v.Message += fmt.Sprintf("; of what was sent, %s had not been acknowledged", number(unacked, "fragment"))
	}
}

// A usageError says that the command was not called as it must be.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// An adviceError has a hint that only the place it comes from knows.
type adviceError struct {
	err  error
	hint string
}

func (e *adviceError) Error() string { return e.err.Error() }
func (e *adviceError) Unwrap() error { return e.err }

func advise(err error, format string, args ...any) error {
	return &adviceError{err: err, hint: fmt.Sprintf(format, allPlain(args)...)}
}

// A kindError has the code of another error, and words of its own: what is or
// is not there is an entry and no file, say.
type kindError struct {
	kind error
	text string
}

func (e *kindError) Error() string { return e.text }
func (e *kindError) Unwrap() error { return e.kind }

func kindf(kind error, format string, args ...any) error {
	return &kindError{kind: kind, text: fmt.Sprintf(format, args...)}
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
		if a.unacked > 0 {
			v.leaves(a.unacked)
		}
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
	for _, line := range v.alarm {
		a.say("%s", line)
	}
	a.say("peerctl: %s", v.Message)
	for _, line := range v.Lines {
		a.say("  %s", line)
	}
	if v.Hint != "" {
		a.say("  hint: %s", v.Hint)
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
		isType((*app).listed),
		isType(notListed),
		isType((*app).badURL),
		restarted,
		isType((*app).lost),
		isType((*app).changedKey),
		isType((*app).revokedKey),
		isType((*app).newKey),
		isType(func(*app, *refusedPush) verdict { return verdict{Code: "limit", Exit: exitRefused} }),
		isType((*app).limited),
		isType((*app).refused),
		isType((*app).wrongKey),
		isType((*app).unauthorized),
		is(transport.ErrLost, "lost", "the other node has stopped answering: is it still running?"),
		isType((*app).turnedAway),
		isType(func(_ *app, e *net.DNSError) verdict {
			return verdict{Code: "unreachable", Exit: exitUnreachable, Hint: "is the host's name right, and does a name server know it? An IP address needs none"}
		}),
		isType(func(_ *app, e *files.RemoteError) verdict {
			return verdict{Code: "failed", Exit: exitFailed, Message: receiverSays(e)}
		}),
		is(files.ErrStalled, "timeout", "the receiver takes nothing: try a longer --timeout"),
		is2(files.ErrNotFiles, verdict{Code: "failed", Exit: exitFailed, Hint: "push wants a files peer: peerctl start-remote-peer files ADDR starts one"}),
		is(transport.ErrUnreachable, "unreachable", "is the node running, and does the network let UDP through to it?"),
		is(peer.ErrNotConnected, "unreachable", "give the address too: ckt://ID@HOST:PORT"),
		is(circuit.ErrOpenTimeout, "timeout", "the node is there but too slow: try a longer --timeout"),
		is(context.DeadlineExceeded, "timeout", "try a longer --timeout"),
		isType(func(_ *app, e *identity.PassphraseError) verdict {
			return verdict{Code: "passphrase", Exit: exitFailed, Hint: passphraseHint(e)}
		}),
		isType((*app).trustFile),
		isType(func(_ *app, e *node.ServiceError) verdict { return verdict{Code: "usage", Exit: exitUsage} }),
		is2(syscall.EADDRINUSE, verdict{Code: "in-use", Exit: exitFailed, Hint: "another program has that port: give --listen another one, or 0 for any that is free"}),
		is2(fs.ErrExist, verdict{Code: "exists", Exit: exitFailed}),
		is2(syscall.ENOSPC, verdict{Code: "disk-full", Exit: exitFailed}),
		is2(syscall.EROFS, verdict{Code: "read-only", Exit: exitFailed}),
		is2(fs.ErrPermission, verdict{Code: "permission", Exit: exitFailed}),
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
	if e, ok := errors.AsType[*adviceError](err); ok {
		v.Hint = e.hint
	}
	return v
}
