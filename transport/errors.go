package transport

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"
)

// MaxReason is the longest reason that travels with a close, in bytes. Longer
// ones are cut.
const MaxReason = 512

// A Code tells the other side why a Conn or a Stream was given up. The values
// are part of the wire format (docs/wire.md).
type Code uint64

// The codes. Circuits and services use codes of their own from 256 on.
const (
	CodeClosed     Code = iota // closed on purpose, nothing is wrong
	CodeRefused                // the key is not allowed to connect
	CodeDuplicate              // there is an open Conn between the two already
	CodeSuperseded             // another Conn has taken this one's place
	CodeVersion                // no protocol version in common
	CodeProtocol               // the other side broke the protocol
	CodeLost                   // acknowledgements have stopped coming
	CodeLimit                  // a limit of this side is reached
	CodePSK                    // one side has a pre-shared key that the other has not
	CodeRevoked                // the key was revoked while the Conn was open
)

// String returns the code's name as docs/wire.md has it.
func (c Code) String() string {
	switch c {
	case CodeClosed:
		return "closed"
	case CodeRefused:
		return "refused"
	case CodeDuplicate:
		return "duplicate"
	case CodeSuperseded:
		return "superseded"
	case CodeVersion:
		return "version"
	case CodeProtocol:
		return "protocol"
	case CodeLost:
		return "lost"
	case CodeLimit:
		return "limit"
	case CodePSK:
		return "pre-shared key"
	case CodeRevoked:
		return "revoked"
	}
	return fmt.Sprintf("code %d", uint64(c))
}

// Errors of this side. What the other side said is a [RemoteError] and never
// matches one of them.
var (
	// ErrClosed: this side has closed the endpoint, the Conn or the Stream.
	ErrClosed = errors.New("transport: closed")

	// ErrUnreachable: nobody answered at the address in time.
	ErrUnreachable = errors.New("transport: no answer")

	// ErrLost: an open Conn has ended without a word from the other side:
	// it has stopped answering, or has restarted and no longer knows the Conn.
	ErrLost = errors.New("transport: connection lost")

	// ErrReset: the other side answers, and no longer knows the Conn: its
	// process has restarted, or has given the Conn up and was not heard. What
	// matches it matches ErrLost too.
	ErrReset = errors.New("transport: the other side does not know the connection any more")

	// ErrSelf: the address that was dialled is the endpoint's own. Another
	// endpoint with the same key is somebody else.
	ErrSelf = errors.New("transport: that address is this endpoint itself")
)

// A RemoteError is what the other side said when it gave up a Conn or Stream,
// or refused one.
type RemoteError struct {
	Code   Code
	Reason string // foreign text, at most [MaxReason] bytes; may be empty

	// Limit is the limit that is reached over there, if the other side has
	// said which one. errors.As finds it, too.
	Limit *LimitError
}

// Unwrap returns the limit, if there is one.
func (e *RemoteError) Unwrap() error {
	if e.Limit == nil {
		return nil
	}
	return e.Limit
}

// Error quotes the foreign text.
func (e *RemoteError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("transport: other side: %v", e.Code)
	}
	return fmt.Sprintf("transport: other side: %v: %q", e.Code, e.Reason)
}

// A WrongKeyError says that the node at an address has another key than the
// one that was asked for. Nothing was sent to it.
type WrongKeyError struct {
	Addr      string
	Want, Got ed25519.PublicKey
}

// Error names the address; package peer prints the keys as node IDs.
func (e *WrongKeyError) Error() string {
	return fmt.Sprintf("transport: the node at %s has key %x, not %x", e.Addr, e.Got, e.Want)
}

// An UnauthorizedError says that this side's own authorisation does not allow
// the key found at an address that was dialled without one.
type UnauthorizedError struct {
	Addr string
	Key  ed25519.PublicKey
	Err  error // what the authorisation said
}

// Error names the address and what the authorisation said.
func (e *UnauthorizedError) Error() string {
	return fmt.Sprintf("transport: the key of the node at %s is not allowed here: %v", e.Addr, e.Err)
}

// Unwrap returns what the authorisation said.
func (e *UnauthorizedError) Unwrap() error { return e.Err }

// A LimitError says that a limit is reached, or that something is over one.
// Nothing was allocated or sent for it. It names the limit as package limit
// and a list of limits do, such as "circuits of one node".
type LimitError struct {
	What   string
	Size   int64 // what is over it; 0: one more than Limit
	Limit  int64
	Remote bool // it is the other side's
}

// Error names the limit, its value and whose it is.
func (e *LimitError) Error() string {
	whose := "of this side"
	if e.Remote {
		whose = "of the other side"
	}
	if e.Size == 0 {
		return fmt.Sprintf("transport: a limit %s is reached: %d %s", whose, e.Limit, e.What)
	}
	return fmt.Sprintf("transport: %s of %d is over a limit %s, which is %d", e.What, e.Size, whose, e.Limit)
}

// RemoteLimit is a limit of the other side as it has told it: what is foreign
// text, and is replaced if it is no name of a limit.
func RemoteLimit(what string, limit uint64) *LimitError {
	const longest = 64
	good := what != "" && len(what) <= longest
	for i := range len(what) {
		good = good && (what[i] == ' ' || 'a' <= what[i] && what[i] <= 'z')
	}
	if !good {
		what = "of what it does not name"
	}
	return &LimitError{What: what, Limit: int64(min(limit, math.MaxInt64)), Remote: true}
}
