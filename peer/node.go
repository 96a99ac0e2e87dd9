package peer

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/quic"
)

// A Node is one process on the network: a key, one socket that listens and
// dials, and the peers that run here. Its methods may be called from any
// goroutine.
type Node struct {
	// PeerAPI registers services, and starts peers here and on other nodes.
	PeerAPI *API

	cfg        Config
	log        *slog.Logger
	key        *identity.Key
	endpoint   transport.Endpoint
	advertised string // host:port
	started    time.Time
	nonce      uint64
	remote     string // set once by NewClient

	ctx    context.Context // the node's life; ends with ErrNodeClosed
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // all goroutines but those of services

	ledger  *limit.Ledger
	audit   *auditor // nil: none
	hub     *circuit.Hub
	links   links
	roster  roster
	service *LocalPeer // of nodeService

	closing  atomic.Bool   // somebody is in shutdown
	closed   chan struct{} // closed when shutdown is over
	closeErr error         // written before closed is closed
}

// NewNode makes a node that listens and serves at once. It knows no service
// until one is registered. The caller must close it.
func NewNode(cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	key := cfg.Identity
	if key == nil {
		var err error
		if key, err = identity.Generate(); err != nil {
			return nil, closeSocket(cfg, fmt.Errorf("peer: %w", err))
		}
	}
	if err := cfg.check(key.ID(), time.Now()); err != nil {
		return nil, closeSocket(cfg, fmt.Errorf("peer: %w", err))
	}
	if cfg.PacketConn == nil {
		conn, err := net.ListenPacket("udp", cfg.ListenAddr)
		if err != nil {
			return nil, fmt.Errorf("peer: %w", err)
		}
		cfg.PacketConn = conn
	}
	advertised, err := advertise(cfg)
	if err != nil {
		return nil, closeSocket(cfg, err)
	}
	n := &Node{
		cfg: cfg, log: cfg.Logger, key: key, advertised: advertised,
		started: time.Now(), nonce: newNonce(), closed: make(chan struct{}),
	}
	n.PeerAPI = &API{n}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.ledger, n.audit = limit.NewLedger(cfg.Limits), newAuditor(cfg.Audit)
	cfg.Circuit.Ledger = n.ledger
	n.hub = circuit.NewHub(acceptor{n}, cfg.Circuit)
	n.links.init()
	n.roster.init()
	if n.endpoint, err = quic.Listen(n.wire()); err != nil {
		n.cancel(ErrNodeClosed)
		return nil, closeSocket(cfg, fmt.Errorf("peer: %w", err))
	}
	if n.service, err = n.startNodeService(); err != nil {
		panic("peer: the node's own service does not start: " + err.Error()) // an empty roster takes it
	}
	n.wg.Go(n.acceptConns)
	if cfg.Revoked != nil {
		n.wg.Go(n.endRevoked)
	}
	return n, nil
}

func closeSocket(cfg Config, err error) error {
	if cfg.PacketConn != nil {
		cfg.PacketConn.Close()
	}
	return err
}

func newNonce() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails
		if v := binary.BigEndian.Uint64(b[:]); v != 0 {
			return v
		}
	}
}

// wire is the configuration of the node's endpoint.
func (n *Node) wire() quic.Config {
	cfg := quic.Config{
		Conn:          n.cfg.PacketConn,
		Key:           n.key,
		BootNonce:     n.nonce,
		Logger:        n.log,
		Ledger:        n.ledger,
		PreSharedKeys: n.cfg.PreSharedKeys,
		Rotation:      n.cfg.Rotation,
		Authorize:     n.mayConnect,
		Refused:       n.connRefused,
	}
	if n.cfg.Revoked != nil {
		cfg.Revoked = func(key ed25519.PublicKey) error {
			id := identity.NodeIDOf(key)
			if err := n.revoked(id); err != nil {
				return revocation{err}
			}
			return nil
		}
	}
	return cfg
}

// mayConnect decides about a key that wants to connect, or that was found at an
// address which was dialled without one. It writes nothing down: another key in
// whose place this one stands may be let in, or a dial has a record of its own.
func (n *Node) mayConnect(key ed25519.PublicKey, addr net.Addr) error {
	id := identity.NodeIDOf(key)
	return n.authorize(&Request{Node: id, Key: id, From: addrPort(addr), Action: ActionConnect})
}

// A revocation is a refusal because a key is revoked.
type revocation struct{ error }

func (r revocation) Unwrap() error { return r.error }

// connRefused writes down that somebody was not let in, or has been thrown out.
func (n *Node) connRefused(key identity.NodeID, addr net.Addr, why error) {
	action := ActionConnect.String()
	if _, ok := errors.AsType[revocation](why); ok {
		action = "revoked"
	}
	n.audit.record(decisionOf(Request{Node: key, Key: key, From: addrPort(addr)}, action, why))
}

// NewServer is [NewNode]: a server is a node that others dial.
func NewServer(cfg Config) (*Node, error) { return NewNode(cfg) }

// NewClient makes a node and connects it to the one at addr, as
// [Node.Connect] does. If that fails there is no node.
func NewClient(ctx context.Context, addr string, cfg Config) (*Node, error) {
	n, err := NewNode(cfg)
	if err != nil {
		return nil, err
	}
	l, err := n.connect(ctx, addr)
	if err != nil {
		n.Close()
		return nil, err
	}
	n.remote = l.Info().RemoteAddr.String()
	return n, nil
}

// ID is the node's ID: its public key.
func (n *Node) ID() identity.NodeID { return n.key.ID() }

// URL is the node's URL: ckt://<node ID>@host:port.
func (n *Node) URL() string { return URL{Node: n.ID(), Addr: n.advertised}.String() }

// Addr is the address of the node's socket.
func (n *Node) Addr() net.Addr { return n.endpoint.Addr() }

// RemoteAddr is the host:port of the node that was given to [NewClient], and
// "" for a node that was made otherwise.
func (n *Node) RemoteAddr() string { return n.remote }

// Connect connects to the node at addr and returns its ID: a host:port, a
// URL, or the ID of a node that is connected already. It returns when both
// sides have agreed, so that either can reach the other; a connection that is
// there already, whoever dialled it, is not made anew. While nobody answers it
// tries again until ctx ends; if ctx has no deadline, for 10 s.
//
// Errors: [URLError]; [ErrNotConnected] for a node ID without an address;
// [transport.ErrUnreachable]; [transport.RemoteError] with CodeRefused if the
// other side does not allow this node's key, and with CodePSK if only one side
// has a pre-shared key; [transport.WrongKeyError] if another node than the one
// in the URL answers; [trust.ChangedKeyError] if another one than the one that
// is known answers at a bare host:port; [transport.UnauthorizedError] if the
// node at a bare host:port is one that the policy here does not allow to
// connect, or any is one whose key is revoked.
func (n *Node) Connect(ctx context.Context, addr string) (identity.NodeID, error) {
	l, err := n.connect(ctx, addr)
	if err != nil {
		return identity.NodeID{}, err
	}
	return l.RemoteNodeID(), nil
}

func (n *Node) connect(ctx context.Context, addr string) (*link, error) {
	t, err := n.parseTarget(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := n.withDeadline(ctx)
	defer cancel()
	l, err := n.reach(ctx, t)
	if err != nil {
		return nil, err
	}
	// The other side learns a moment later than this one that the connection
	// is open. Once it has answered, it can reach this node in turn.
	n.wordOf(ctx, l)
	return l, nil
}

// withDeadline bounds a caller's ctx by the default wait, unless it has a
// deadline of its own, and by the node's life.
func (n *Node) withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return n.alive(context.WithCancel(ctx))
	}
	return n.alive(context.WithTimeout(ctx, defaultWait))
}

// alive bounds ctx by the node's life.
func (n *Node) alive(ctx context.Context, cancel context.CancelFunc) (context.Context, context.CancelFunc) {
	ctx, cancelCause := context.WithCancelCause(ctx)
	stop := context.AfterFunc(n.ctx, func() { cancelCause(ErrNodeClosed) })
	return ctx, func() {
		stop()
		cancelCause(nil)
		cancel()
	}
}
