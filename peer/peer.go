// Package peer runs peers on nodes. A [Node] is one process on the network: a
// key, one socket, and the connections to other nodes. A peer is a running
// instance of a service that was registered by name; a [LocalPeer] is one of
// this node's. Peers open circuits to one another by URL, whoever dialled
// whom: there are no clients and no servers here, only nodes.
//
// Everything another node asks for is decided against the key that it has
// proved to hold, by the node's [Policy], before anything is allocated for
// it. A node without a policy trusts its own key and nobody else.
//
// Each node runs one peer of the library's own, of the service "ckt.node",
// which answers [API.StartRemotePeer], [API.StopRemotePeer], [API.List] and
// [API.Ping].
package peer

import (
	"context"
	"time"

	"ckt.local/circuit"
)

// A PeerServiceFunc is a service. It is called once for each peer, in a
// goroutine of its own, and the peer is running until it returns.
//
// ctx0 ends when the peer is to end: [context.Cause] says why. The peer's
// circuits have been closed by then. The function should return; what it
// returns does not matter to the other ends any more.
//
// newCircuitCh gives the circuits that other peers open to this one. At most
// 32 wait in it; while it is full, openings wait, and are refused once their
// time is over. It is never closed: select on ctx0 beside it.
//
// When the function returns, the peer has ended and so have all its circuits,
// those still in newCircuitCh included, and the other ends learn how:
//
//   - cleanly, as [circuit.ErrRemoteClosed], if it returned nil while ctx0 was
//     alive, or if [LocalPeer.Close] was called;
//   - with the error that it returned while ctx0 was alive, or that was given
//     to [LocalPeer.CloseWith], as the reason in a [circuit.RemoteError];
//   - with [ErrNodeClosed] as the reason if the node was closed, and with the
//     cause of the context that the peer was started with if that has ended.
//
// What was sent before is delivered first in each case. A panic of the
// function ends the peer, not the process: it is logged here with its stack,
// and the other ends get a [circuit.RemoteError] that names the service and
// nothing more. A panic in a goroutine that a service has started itself is
// not recovered: it ends the process, as in any Go program.
type PeerServiceFunc func(myPeer *LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error

// Defaults and bounds.
const (
	defaultStopTimeout = 5 * time.Second
	defaultWait        = 10 * time.Second // for an answer from another node
	newCircuitQueue    = 32               // circuits that wait for a service
	maxReason          = 1 << 10          // bytes of a refusal's reason, as package circuit has it

	// forever stands for "no bound" where a deadline has to be given.
	forever = 100 * 365 * 24 * time.Hour
)
