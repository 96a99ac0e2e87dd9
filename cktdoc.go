// Package ckt lets programs on different machines talk for as long as they
// like: peers open circuits to one another and exchange fragments over
// authenticated QUIC. Client and server are the same program with the same
// API; who dialled is a detail.
//
// # The four words
//
// A [Node] is one process on the network: an ed25519 key, which is its
// identity, one UDP socket that listens and dials, and the peers that run on
// it. [NewServer] and [NewClient] both make one; NewClient also connects it to
// another.
//
// A peer is a running instance of a service. A service is a Go function, a
// [PeerServiceFunc], registered by name with RegisterPeerServiceFunc of
// node.PeerAPI. StartLocalPeer starts a peer here, StartRemotePeer on another
// node. Inside the function the peer is a [LocalPeer]; to everybody else it is
// a URL: ckt://nodeID@host:port/service/peerID.
//
// A [Circuit] is an ordered, two-way channel between two peers. Two peers may
// have any number of them, opened by either, each independent of the others.
//
// A [Fragment] is one message on a circuit: an operation number, a subject, a
// part number, arguments, and up to 1 MiB of payload. The library stamps the
// rest (who sent it, its serial number) on receipt, from the authenticated
// connection.
//
// # A complete program
//
//	package main
//
//	import (
//		"context"
//		"fmt"
//		"log"
//		"sync"
//		"time"
//
//		ckt "ckt.local"
//	)
//
//	// greet answers each fragment of each circuit, until its peer is to end.
//	func greet(me *ckt.LocalPeer, ctx context.Context, circuits <-chan *ckt.Circuit) error {
//		var open sync.WaitGroup
//		defer open.Wait()
//		for {
//			select {
//			case c := <-circuits:
//				open.Go(func() { c.CloseWith(answer(ctx, c)) }) // nil is a clean close
//			case <-ctx.Done():
//				return nil
//			}
//		}
//	}
//
//	// answer greets until the circuit or ctx ends.
//	func answer(ctx context.Context, c *ckt.Circuit) error {
//		for f, err := range c.Fragments(ctx) {
//			if err != nil {
//				return err
//			}
//			f.Payload = append([]byte("hello, "), f.Payload...)
//			if err := c.Send(ctx, f); err != nil {
//				return err
//			}
//		}
//		return nil
//	}
//
//	func run(ctx context.Context) error {
//		serverKey, err := ckt.GenerateKey()
//		if err != nil {
//			return err
//		}
//		clientKey, err := ckt.GenerateKey()
//		if err != nil {
//			return err
//		}
//		srv, err := ckt.NewServer(ckt.Config{
//			ListenAddr: "127.0.0.1:0",
//			Identity:   serverKey,
//			Authorize:  ckt.AllowNodes(clientKey.ID()),
//		})
//		if err != nil {
//			return err
//		}
//		defer srv.Close()
//		if err := srv.PeerAPI.RegisterPeerServiceFunc("greet", greet); err != nil {
//			return err
//		}
//
//		cli, err := ckt.NewClient(ctx, srv.URL(), ckt.Config{
//			ListenAddr: "127.0.0.1:0",
//			Identity:   clientKey,
//			Authorize:  ckt.AllowNodes(serverKey.ID()),
//		})
//		if err != nil {
//			return err
//		}
//		defer cli.Close()
//		peerURL, _, err := cli.PeerAPI.StartRemotePeer(ctx, "greet", srv.URL(), 5*time.Second)
//		if err != nil {
//			return err
//		}
//
//		// Peers talk to peers, so the caller is one too.
//		err = cli.PeerAPI.RegisterPeerServiceFunc("caller", func(me *ckt.LocalPeer, ctx context.Context, _ <-chan *ckt.Circuit) error {
//			c, _, err := me.NewCircuitToPeerURL(peerURL, &ckt.Fragment{Payload: []byte("world")}, 0)
//			if err != nil {
//				return err
//			}
//			defer c.Close()
//			for f, err := range c.Fragments(ctx) {
//				if err != nil {
//					return err
//				}
//				fmt.Printf("%s\n", f.Payload)
//				break
//			}
//			return nil
//		})
//		if err != nil {
//			return err
//		}
//		caller, err := cli.PeerAPI.StartLocalPeer(ctx, "caller")
//		if err != nil {
//			return err
//		}
//		<-caller.Done()
//		return caller.Err()
//	}
//
//	func main() {
//		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
//		defer cancel()
//		if err := run(ctx); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// # Rules of the circuit
//
//   - Open means accepted. NewCircuitToPeerURL returns when the other side has
//     said yes. A no is a [RefusedError], and the connection lives on.
//   - First fragment first. The opener's first fragment is the first item in
//     the acceptor's Reads.
//   - Nothing is dropped. SendOneWay never blocks: the fragment is queued, or
//     it is [ErrBacklog] and nothing was taken. Send waits for room until its
//     context ends. A slow reader hurts only its own circuit.
//   - Close is graceful. What was sent before Close is delivered before the
//     other side's Reads closes.
//   - Clean means on purpose. [ErrRemoteClosed] follows Close of a circuit or
//     of its peer, or a service function that returns nil by itself. A node
//     that is closed with circuits open, or a peer whose context ends, cuts
//     them short: what was sent arrives, and then [ErrNodeClosed] or the cause
//     of that context as a reason. Close circuits before their node.
//   - Errors travel. CloseWith(err), the error a service returns and its panic
//     (without its value) are the cause of the Context at the other end, as a
//     [RemoteError]. A panic in a goroutine that a service has started itself
//     is not recovered, and ends the process.
//   - Who takes a circuit closes it. It stays until then, or until its peer
//     ends.
//   - Metadata is true. FromPeerID and its like are stamped by the receiver;
//     RemoteNodeID is the verified key.
//   - One end. A circuit ends once, at both ends, with a cause that says which
//     kind of end it was.
//
// Read a circuit with Fragments, or select on Reads and Errors; fragments that
// carry Err come in Errors.
//
// # Circuits outlive connections
//
// The promise: while both processes live and contact returns within the linger
// time, every fragment is delivered exactly once and in order; otherwise both
// ends get one definite error that says how many fragments were not
// acknowledged.
//
// The circuits of a lost connection are detached. Both sides dial anew, and on
// the next connection each sends what the other has not got; until then Send
// takes what the window has room for. The linger time is CircuitConfig.Linger,
// 2 minutes. If the other process has restarted, it is [ErrPeerRestarted].
//
// c.State says whether a circuit is attached, and c.States yields each change.
// c.Flush waits until what was sent is acknowledged: is in the inbox there.
//
// # Errors
//
// Errors of this side are sentinels and types of this side; what another node
// said is always a [RemoteError] or [RefusedError] and never matches one of
// them, whatever its text. context.Cause of a circuit's Context is one of
//
//   - [ErrRemoteClosed]: the other side closed it and gave no reason;
//   - [ErrClosed]: this side closed it;
//   - a [RemoteError]: the other side closed it with that reason, such as the
//     text of [ErrNodeClosed];
//   - a [LostError], which matches [ErrPeerLost]: the linger time is over, or
//     the other process has restarted, which matches [ErrPeerRestarted] too,
//     or has gone; it says how many fragments were not acknowledged.
//
// context.Cause of the ctx0 that a service gets says why the peer is to end.
//
// The Code of a [RefusedError] is a circuit.RefuseCode, such as
// circuit.RefusedUnauthorized; that of a [ConnectError] a transport.Code. If it
// is for a limit, errors.As finds a [LimitError], with Remote set.
//
// # Who may do what
//
// Nobody but the node's own key, until Config.Authorize says otherwise:
// [AllowNodes] names keys, [AllowFile] goes by a file like authorized_keys,
// [AllowAll] is for tests. Connecting, opening, starting and listing are each
// asked for, with the verified key; Config.Revoked comes before all that. A URL
// names the key of a node to dial; at a bare host:port it is the one that
// Config.KnownPeers knows, or one that the policy allows. Config.Limits bounds
// what others may make this node spend, each of them and all together;
// Config.Audit gets what was decided about them.
//
// A peer that was started remotely outlives the node that has asked for it. It
// ends by itself, or when that node stops it with StopRemotePeer.
//
// # Where the methods are
//
// The types here are aliases, and go doc shows methods where a type is
// declared:
//
//	go doc ckt.local/peer Node       // Connect, Close, Shutdown, Listing, Limits, …
//	go doc ckt.local/peer API        // node.PeerAPI: register, start, stop, list, ping
//	go doc ckt.local/peer LocalPeer  // what a service is handed
//	go doc ckt.local/circuit Circuit // Send, Fragments, Flush, State, Close, NewCircuit, …
//	go doc ckt.local/circuit Fragment
//	go doc ckt.local/circuit RefuseCode
//	go doc ckt.local/transport/identity Key
//	go doc ckt.local/transport/limit Limits
package ckt

import (
	"context"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// Nodes and peers, from package peer.
type (
	// A Node is one process on the network.
	Node = peer.Node

	// A Config says how a [Node] is to be. Its zero value listens on any free
	// port, with a fresh key, and allows only that key.
	Config = peer.Config

	// An API registers services, and starts and stops peers: node.PeerAPI.
	API = peer.API

	// A LocalPeer is a running peer of this process.
	LocalPeer = peer.LocalPeer

	// A PeerServiceFunc is a service. ctx0 ends when the peer is to end; the
	// peer ends when the function returns.
	PeerServiceFunc = peer.PeerServiceFunc

	// A Listing is what runs on a node: peers, circuits and their counters.
	Listing = peer.Listing
)

// Circuits, from package circuit.
type (
	// A Circuit is one end of an ordered, two-way channel of fragments.
	Circuit = circuit.Circuit

	// A CircuitConfig says how circuits are to behave: Config.Circuit.
	CircuitConfig = circuit.Config

	// A State says whether a circuit is carried by a connection just now.
	State = circuit.State

	// A Fragment is one message on a circuit.
	Fragment = circuit.Fragment
)

// Identity and authorisation, from packages identity and peer.
type (
	// A NodeID is a node's public key. As text it has 52 characters.
	NodeID = identity.NodeID

	// A Key is a node's private key, or an agent's handle to it.
	Key = identity.Key

	// A Policy decides what another node may do here.
	Policy = peer.Policy

	// A Request is what a [Policy] decides about.
	Request = peer.Request
)

// What the other side said, and how things end.
type (
	// A RemoteError is the reason with which the other side closed a circuit.
	RemoteError = circuit.RemoteError

	// A RefusedError is the other side's no to an opening or a start.
	RefusedError = circuit.RefusedError

	// A LostError ends circuits that nobody has closed: no other connection
	// has come in time, or none can come.
	LostError = circuit.LostError

	// A LimitError says which limit is reached, or exceeded, and whose it is:
	// Remote is for the other side's. Nothing was allocated or sent.
	LimitError = transport.LimitError

	// A ConnectError is what the other side said when it refused or closed a
	// connection; its Code tells an unauthorised key from the rest.
	ConnectError = transport.RemoteError

	// A WrongKeyError says that another node answers at an address than the
	// one that was asked for.
	WrongKeyError = transport.WrongKeyError

	// An UnauthorizedError says that this side's own policy does not allow
	// the key found at an address that was dialled without one.
	UnauthorizedError = transport.UnauthorizedError
)

// Errors of this side.
var (
	// ErrBacklog: the circuit's window is full, and nothing was taken.
	ErrBacklog = circuit.ErrBacklog

	// ErrClosed: this side has closed the circuit.
	ErrClosed = circuit.ErrClosed

	// ErrRemoteClosed: the other side closed the circuit on purpose: all is well.
	ErrRemoteClosed = circuit.ErrRemoteClosed

	// ErrPeerLost: the circuit has ended without being closed; matches every
	// [LostError].
	ErrPeerLost = circuit.ErrPeerLost

	// ErrPeerRestarted: where the other process was there is a new one, which
	// knows nothing of the circuit. What matches it matches [ErrPeerLost] too.
	ErrPeerRestarted = circuit.ErrPeerRestarted

	// ErrOpenTimeout: the other side said neither yes nor no in time.
	ErrOpenTimeout = circuit.ErrOpenTimeout

	// ErrUnreachable: nobody answered at the address in time.
	ErrUnreachable = transport.ErrUnreachable

	// ErrUnknownService: no service of this name is registered here.
	ErrUnknownService = peer.ErrUnknownService

	// ErrPeerClosed: the peer was closed on this side.
	ErrPeerClosed = peer.ErrPeerClosed

	// ErrNodeClosed: the node was closed on this side. The other ends of its
	// circuits get the text as the reason in a [RemoteError].
	ErrNodeClosed = peer.ErrNodeClosed
)

// NewServer makes a node that listens at cfg.ListenAddr and serves at once.
func NewServer(cfg Config) (*Node, error) { return peer.NewServer(cfg) }

// NewClient makes a node as [NewServer] does and connects it to the node at
// addr, a host:port or a node URL. ctx bounds the connecting, not the node's
// life. Without an answer the error is [ErrUnreachable]; a no from the other
// side is a [ConnectError].
func NewClient(ctx context.Context, addr string, cfg Config) (*Node, error) {
	return peer.NewClient(ctx, addr, cfg)
}

// AllowAll is a [Policy] that allows every key everything. It is for tests
// and for services that anybody may use.
func AllowAll(r Request) error { return peer.AllowAll(r) }

// AllowNodes returns a [Policy] that allows these keys everything.
func AllowNodes(ids ...NodeID) Policy { return peer.AllowNodes(ids...) }

// AllowFile returns a [Policy] that goes by the authorized_peers file at path,
// as it is at each request. A file that cannot be used allows nobody anything.
func AllowFile(path string) Policy { return peer.AllowFile(path) }

// GenerateKey makes a new key in memory.
func GenerateKey() (*Key, error) { return identity.Generate() }

// ReadKeyFile reads a private key in OpenSSH's format, as ssh-keygen -t ed25519
// writes it. passphrase is asked if the file is encrypted; nil does not know.
func ReadKeyFile(path string, passphrase func(path string) ([]byte, error)) (*Key, error) {
	return identity.ReadKeyFile(path, passphrase)
}

// WriteKeyFile writes key to path, readable by the owner only and encrypted if
// passphrase is not empty, and its public line to path+".pub". It never
// overwrites a file.
func WriteKeyFile(path string, key *Key, passphrase []byte, comment string) error {
	return identity.WriteKeyFile(path, key, passphrase, comment)
}

// ParseNodeID reads what [NodeID.String] prints.
func ParseNodeID(s string) (NodeID, error) { return identity.ParseNodeID(s) }
