package circuit

import (
	"context"
	"log/slog"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// Config bounds the circuits of a [Link]. The zero value of each field is its
// default.
type Config struct {
	// MaxPayload is the longest payload of a fragment that is sent or taken,
	// in bytes. Default 1 MiB, at most 64 MiB.
	MaxPayload int

	// Window is how much may be under way in each direction of a circuit,
	// and how much a receiver that does not read makes its own side keep, in
	// bytes; one more fragment may exceed it. Default 1 MiB.
	Window int

	// MaxCircuits is how many circuits the other side may have open on one
	// link. Default 16384.
	MaxCircuits int

	// OpenTimeout bounds the wait for the other side's yes. Default 10 s.
	OpenTimeout time.Duration

	// Logger gets what goes wrong with foreign input. Default: discarded.
	Logger *slog.Logger
}

// An Acceptor decides about the circuits that the other side wants to open.
// Package peer implements it.
type Acceptor interface {
	// AcceptCircuit is asked before anything but req is allocated. The error
	// is a [Refusal], or any other error, which the other side learns of as
	// RefusedInternal without its text. ctx ends when the other side has
	// given up or the time for the opening is over.
	AcceptCircuit(ctx context.Context, req OpenRequest) (Acceptance, error)
}

// An OpenRequest is one circuit that the other side wants to open.
type OpenRequest struct {
	Link        *Link // who asks: Link.RemoteNodeID
	CircuitID   ID
	FromPeerID  ID
	FromService string
	ToPeerID    ID // zero: any running instance of ToService
	ToService   string
}

// An Acceptance is the yes to an [OpenRequest].
type Acceptance struct {
	PeerID ID    // who takes the circuit
	Owner  Owner // gets the circuit

	// Deliver hands the new circuit over, waiting for room until ctx ends.
	// If it fails, the opener is refused with its error as AcceptCircuit's.
	Deliver func(ctx context.Context, c *Circuit) error
}

// An Owner is who a circuit belongs to at this end: a local peer. It is told
// of every circuit once.
type Owner interface {
	// AddCircuit may refuse, because the peer has ended.
	AddCircuit(c *Circuit) error
	// RemoveCircuit is called once, when the Context of an added circuit ends.
	RemoveCircuit(c *Circuit)
}

// OpenParams says which circuit to open.
type OpenParams struct {
	FromPeerID  ID
	FromService string
	ToPeerID    ID // zero: any running instance
	ToService   string
	First       *Fragment // nil: none
	Owner       Owner
}

// A Link carries the circuits of one Conn: each on a stream of its own, and
// acknowledgements, credit and pings on one more, so that they never wait
// behind data. Its methods may be called from any goroutine.
type Link struct{}

// NewLink starts to serve conn. The Link owns conn from now on.
func NewLink(conn transport.Conn, acc Acceptor, cfg Config) *Link { panic("not yet") }

// Open opens a circuit and returns when the other side has said yes. A no is
// a [RefusedError]. Config.OpenTimeout bounds the wait if ctx does not.
func (l *Link) Open(ctx context.Context, p OpenParams) (*Circuit, error) { panic("not yet") }

// Info describes the connection.
func (l *Link) Info() transport.ConnInfo { panic("not yet") }

// RemoteNodeID is the verified key at the other end.
func (l *Link) RemoteNodeID() identity.NodeID { panic("not yet") }

// Circuits returns the circuits that have not ended, in no order.
func (l *Link) Circuits() []*Circuit { panic("not yet") }

// Context ends when the link has ended; [context.Cause] says why.
func (l *Link) Context() context.Context { panic("not yet") }

// Shutdown refuses new circuits, closes those there are with reason (nil: a
// clean close), waits until what they have sent is acknowledged or ctx ends,
// then closes the Conn and joins the link's goroutines. If ctx ended first it
// returns a [LostError] with the number of fragments not acknowledged.
func (l *Link) Shutdown(ctx context.Context, reason error) error { panic("not yet") }
