package circuit

import (
	"context"
	"iter"
	"time"

	"ckt.local/transport/identity"
)

// A Circuit is one end of an ordered, two-way channel of fragments between two
// peers. Its methods may be called from any goroutine.
type Circuit struct {
	// Reads gives the fragments that the other side sends, in order, the
	// opener's first fragment first. It is closed after the last one.
	Reads <-chan *Fragment

	// Errors gives the fragments that carry Err. It is closed with Reads.
	Errors <-chan *Fragment

	// Context ends after the last fragment was read, or 5 s after the other
	// side's close if nobody reads, or at once when this side closes.
	// [context.Cause] says why: ErrClosed, ErrRemoteClosed, a RemoteError, or
	// a LostError.
	Context context.Context
}

// SendOneWay queues f and returns at once: nil, or [ErrBacklog] when the
// window is full, or the cause of the circuit's end; then nothing was taken.
func (c *Circuit) SendOneWay(f *Fragment) error { panic("not yet") }

// Send queues f, waiting for room in the window until ctx ends.
func (c *Circuit) Send(ctx context.Context, f *Fragment) error { panic("not yet") }

// Close ends the circuit at both ends. What was sent before is delivered
// before the other side's Reads closes. Closing again does nothing.
func (c *Circuit) Close() { c.CloseWith(nil) }

// CloseWith is Close with a reason, which becomes the cause of the other
// side's Context as a [RemoteError].
func (c *Circuit) CloseWith(reason error) { panic("not yet") }

// Fragments ranges over what arrives, in order, until the circuit or ctx
// ends. A fragment that carries Err comes with a [RemoteError] of that text,
// and the range goes on. After the last fragment comes (nil, cause), unless
// the end was a clean close. While it runs, Reads and Errors give nothing.
func (c *Circuit) Fragments(ctx context.Context) iter.Seq2[*Fragment, error] { panic("not yet") }

// NewCircuit opens one more circuit between the same two peers. Each is
// independent of the others.
func (c *Circuit) NewCircuit() (*Circuit, context.Context, error) { panic("not yet") }

// RemoteNodeID is the verified key of the node at the other end.
func (c *Circuit) RemoteNodeID() identity.NodeID { panic("not yet") }

// RemotePeerID names the running peer at the other end.
func (c *Circuit) RemotePeerID() string { panic("not yet") }

// LocalPeerID names the running peer at this end.
func (c *Circuit) LocalPeerID() string { panic("not yet") }

// RemoteService is the service that the peer at the other end runs.
func (c *Circuit) RemoteService() string { panic("not yet") }

// CircuitID names the circuit, the same at both ends.
func (c *Circuit) CircuitID() string { panic("not yet") }

// Stats returns the circuit's counters as they are now.
func (c *Circuit) Stats() Stats { panic("not yet") }

// Stats counts what went over a circuit.
type Stats struct {
	Opened                      time.Time
	FragmentsSent, FragmentsRcv int64
	BytesSent, BytesRcv         int64 // payloads
	Unacked                     int   // fragments sent and not yet acknowledged
	Unread                      int   // fragments in the inbox
}
