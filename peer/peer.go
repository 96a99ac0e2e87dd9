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
	"cmp"
	"context"
	"log/slog"
	"net"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/trust"
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

// Config says how a [Node] is to be. The zero value of each field is its
// default; negative numbers mean "no bound".
type Config struct {
	// ListenAddr is the UDP address to listen on and to dial from, as
	// host:port. Default ":0": all addresses, any free port.
	ListenAddr string

	// PacketConn is used instead of a socket at ListenAddr. The node takes it
	// over: it is closed with the node, and also if NewNode fails.
	PacketConn net.PacketConn

	// AdvertiseAddr is the host:port in the URLs of this node and its peers.
	// Default: the socket's own; if that is the wildcard address, with an
	// address of this machine in its place, which is the loopback address if
	// there is no other.
	AdvertiseAddr string

	// Identity is the node's key. Default: a fresh one.
	Identity *identity.Key

	// Authorize decides what other nodes may do here. Default: nothing. The
	// node's own key may do everything and is not asked about.
	Authorize Policy

	// Limits bounds what other nodes may make this one spend.
	Limits limit.Limits

	// Circuit says how circuits are to behave. The node sets its Ledger.
	Circuit circuit.Config

	// PreSharedKeys are a second lock on every connection, besides the nodes'
	// keys: at most two of 32 to 64 bytes. The other side must have one of
	// them. Two are for the time of a change: first all nodes get the new one
	// as their second, then as their only one. Default: none, and then the
	// other side must have none either.
	PreSharedKeys [][]byte

	// Rotation is shown to others: that this node's key takes the place of an
	// older one, in whose name it is let in and dialled until the statement
	// ends. Default: none.
	Rotation *trust.Rotation

	// Revoked is asked about every key before anything else, in both
	// directions, and every 5 s about those that are connected; an error
	// refuses the key, whatever Authorize, a URL or KnownPeers say, and closes
	// its connections. Default: no key is revoked. See [trust.RevokedFile].
	Revoked func(identity.NodeID) error

	// KnownPeers remembers which key answered at a host:port that was dialled
	// without one. Another key there later is a [trust.ChangedKeyError].
	// Default: nothing is remembered, and Authorize decides about the key.
	KnownPeers *trust.KnownFile

	// TrustNew is asked about the key that answers at an address which is not
	// among KnownPeers, if Authorize does not allow it; nil makes it known.
	// Default: it is not trusted.
	TrustNew func(ctx context.Context, addr string, id identity.NodeID) error

	// Audit gets a record of every decision about what another node asked for:
	// who, what, allowed or not and why. Strings of others are cut; equal
	// refusals are counted and not repeated within a minute. Default: none.
	Audit *slog.Logger

	// StopTimeout bounds what Close waits for: that services return, and that
	// what was sent is acknowledged. Default 5 s.
	StopTimeout time.Duration

	// Logger gets refusals, panics of services, and what goes wrong with
	// foreign input; of each message 20 records at once and then one a
	// second, because strangers can cause some of them. Default: discarded.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.ListenAddr = cmp.Or(c.ListenAddr, ":0")
	c.StopTimeout = orDefault(c.StopTimeout, defaultStopTimeout, forever)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = limitLogs(c.Logger)
	if c.Circuit.Logger == nil {
		c.Circuit.Logger = c.Logger
	}
	return c
}

// orDefault reads a number of a configuration: zero is def, negative is off.
func orDefault[T ~int | ~int64](v, def, off T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return off
	}
	return v
}

// within bounds ctx by d: zero is the default wait, negative is no bound but
// ctx's own.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, orDefault(d, defaultWait, forever))
}
