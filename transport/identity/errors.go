package identity

import (
	"errors"
	"fmt"
)

// maxQuoted bounds how much foreign text an error repeats, in bytes.
const maxQuoted = 80

// ErrNotInAgent: the agent answers, but does not hold the key that was asked
// for. It comes inside an [AgentError].
var ErrNotInAgent = errors.New("the agent does not hold this key")

// ErrNoPrivateKey: the private key cannot be written to a file because it is
// not in this process; an agent has it.
var ErrNoPrivateKey = errors.New("identity: the private key is held by an agent and cannot be written")

// An IDError says that a text is not an ID in z-base-32.
type IDError struct {
	Text   string // foreign, the first 80 bytes at most
	Reason string
}

// Error quotes the text.
func (e *IDError) Error() string {
	return fmt.Sprintf("identity: %q is not an ID: %s", e.Text, e.Reason)
}

// A KeyTypeError says that a key is of a kind that cannot be a node key.
type KeyTypeError struct {
	Path string // of the file; empty when the key came from elsewhere
	Type string // what was found, in the words of OpenSSH where there are any
}

// Error says which key to make instead.
func (e *KeyTypeError) Error() string {
	const want = "a node key is ssh-ed25519 (make one with: ssh-keygen -t ed25519)"
	if e.Path == "" {
		return fmt.Sprintf("identity: key type %q cannot be used: %s", e.Type, want)
	}
	return fmt.Sprintf("identity: %s: key type %q cannot be used: %s", e.Path, e.Type, want)
}

// A PassphraseError says that a key file is encrypted and was not opened.
type PassphraseError struct {
	Path string
	Err  error // nil: nobody to ask; else what the asking or the passphrase led to
}

// Error says whether the passphrase is missing or wrong.
func (e *PassphraseError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("identity: %s: needs a passphrase", e.Path)
	}
	return fmt.Sprintf("identity: %s: passphrase: %v", e.Path, e.Err)
}

// Unwrap returns the cause; for a wrong passphrase that is
// [crypto/x509.IncorrectPasswordError].
func (e *PassphraseError) Unwrap() error { return e.Err }

// An UnsafeFileError says that a file was not used because somebody else may
// read it, or may have changed it.
type UnsafeFileError struct {
	Path    string // the file or the directory to mend
	Problem string
	Fix     string // the command that mends it
}

// Error names the path and the command to run.
func (e *UnsafeFileError) Error() string {
	return fmt.Sprintf("identity: %s: %s; run: %s", e.Path, e.Problem, e.Fix)
}

// An AgentError says that the ssh-agent did not do what it was asked.
type AgentError struct {
	Socket string
	ID     NodeID // of the key that was asked for; zero: none in particular
	Err    error
}

// Error names the socket and the key.
func (e *AgentError) Error() string {
	if e.ID.IsZero() {
		return fmt.Sprintf("identity: ssh-agent at %q: %v", e.Socket, e.Err)
	}
	return fmt.Sprintf("identity: ssh-agent at %q: key %v: %v", e.Socket, e.ID, e.Err)
}

// Unwrap returns the cause.
func (e *AgentError) Unwrap() error { return e.Err }

// A PeerError says that what the other side showed in the TLS handshake is
// not the certificate of a node.
type PeerError struct {
	Reason string
}

// Error gives the reason.
func (e *PeerError) Error() string { return "identity: not a node's certificate: " + e.Reason }

// A LineError says that a line of an authorized_peers file was skipped. It
// allows nobody anything.
type LineError struct {
	Path string // empty when the lines did not come from a file
	Line int    // counted from 1
	Err  error
}

// Error names the place as editors understand it.
func (e *LineError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("identity: line %d: %v", e.Line, e.Err)
	}
	return fmt.Sprintf("identity: %s:%d: %v", e.Path, e.Line, e.Err)
}

// Unwrap returns what is wrong with the line.
func (e *LineError) Unwrap() error { return e.Err }

// A DeniedError says that authorized_peers does not allow what was asked. It
// is meant for this side's log: the other side learns no more than the no.
type DeniedError struct {
	ID      NodeID
	Service string // empty: the connection itself
	Reason  string
	Err     error // set when the file as a whole could not be used, or a QuotaError
}

// Error names the node and the reason.
func (e *DeniedError) Error() string {
	if e.Service == "" {
		return fmt.Sprintf("identity: node %v may not connect: %s", e.ID, e.Reason)
	}
	return fmt.Sprintf("identity: node %v may not use service %q: %s", e.ID, clip(e.Service), e.Reason)
}

// Unwrap returns what is wrong with the file, if anything, or the bound that
// is reached.
func (e *DeniedError) Unwrap() error { return e.Err }

// A QuotaError says that a bound that authorized_peers sets for a key is
// reached. It comes inside a [DeniedError].
type QuotaError struct {
	What  string // such as "circuits of one node", in the words of package limit
	Limit int64
}

// Error names the bound and its value.
func (e *QuotaError) Error() string {
	return fmt.Sprintf("identity: a limit in authorized_peers is reached: %d %s", e.Limit, e.What)
}

// A ServiceNameError says that a text is not a service name.
type ServiceNameError struct {
	Name string // foreign, the first 80 bytes at most
}

// Error quotes the text and says what a service name is.
func (e *ServiceNameError) Error() string {
	return fmt.Sprintf("identity: %q is not a service name: 1 to %d of A-Z a-z 0-9 . _ -, the first a letter or digit",
		e.Name, MaxServiceName)
}

func clip(s string) string { return s[:min(len(s), maxQuoted)] }

func lengthReason(got, want int) string {
	return fmt.Sprintf("%d characters long, not %d", got, want)
}
