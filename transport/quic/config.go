// Package quic carries circuits over QUIC: [Listen] makes an endpoint on any
// [net.PacketConn]. It is the only package that knows quic-go.
//
// # Opening a Conn
//
// Both keys are proved by mutual TLS 1.3. The dialler then opens the first
// stream and says hello; the acceptor asks its authorisation and answers
// welcome or a refusal; the dialler takes a welcome by ending the stream. A
// Conn is open at the dialler when it takes the welcome, and at the acceptor
// when it sees that the welcome was taken. A connection whose welcome was not
// taken was never open at either side, so it can be given up freely.
//
// # One Conn between two nodes
//
// A node is a key and a boot nonce: machines of one person may share a key.
// Of two nodes the one with the smaller key, then nonce, decides which
// connection becomes their Conn, also when both dial at once: it approves a
// connection that it dialled by taking the welcome, and one that it accepted
// by sending the welcome, and never approves a second one while the first
// lives. The other node goes along. So both hold the same Conn at all times,
// and neither waits for the other in a circle. See table.go.
//
// A Conn that only one side has given up does not stand in the way: that side's
// next hello replaces it at the other.
//
// # Finding together again
//
// A Dial of a silent address begins further handshakes while it waits, and the
// first that is complete says hello; see race.go. So a node that becomes
// reachable is connected within half a second and two round trips. What cannot
// be sent for want of a route is lost, and sent again; see socket.go.
//
// When the dialler's address changes, the Conn goes along and Info follows.
// QUIC does not follow an acceptor: its Conn dies, and whoever sees it gives it
// up and dials anew. A process that has restarted, or that has given a Conn up
// unheard, answers what comes for that Conn with a stateless reset: it ends
// with [transport.ErrReset] within a round trip of the next 64 bytes written.
package quic

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"time"

	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/trust"
)

// Config says how an endpoint is to behave. A zero field takes the default.
type Config struct {
	// Conn is the socket, of any kind; a [*net.UDPConn] gets segmentation
	// offload and path MTU discovery. The endpoint takes it over: Close
	// closes it. Required.
	Conn net.PacketConn

	// Key is the node's identity. Required.
	Key *identity.Key

	// BootNonce tells this run of the process from others with the same key.
	// The default is random.
	BootNonce uint64

	// Authorize says whether a key may connect, nil meaning yes. It is asked
	// about every inbound connection, before anything beyond the QUIC
	// connection is allocated, and about every Dial without a key. It may be
	// called from several goroutines at once. By default only the endpoint's
	// own key may.
	Authorize func(key ed25519.PublicKey, addr net.Addr) error

	// MaxIdle is how long a Conn lives without a packet from the other side.
	// The smaller one of both sides counts, but the other side does not go
	// below 5 s. Default 10 s.
	MaxIdle time.Duration

	// KeepAlive is how often an idle Conn sends a packet. Default 3 s,
	// negative: never.
	KeepAlive time.Duration

	// HandshakeTimeout is how long a QUIC handshake may stand still (it may
	// take twice as long), and how long the hello may take. Default 5 s.
	HandshakeTimeout time.Duration

	// Ledger has the bounds, and counts what is used: the endpoint needs its
	// Transport part. Default: a new one with the default bounds.
	Ledger *limit.Ledger

	// PreSharedKeys are a second lock on every Conn, besides the keys: at most
	// two, of 32 to 64 bytes. The other side must have one of them, and must
	// have none if there are none here. Default: none.
	PreSharedKeys [][]byte

	// Rotation is shown to the other side: that Key takes the place of an
	// older one. Default: none.
	Rotation *trust.Rotation

	// Revoked is asked about every key of another side before Authorize, and
	// about the older key that it stands in for; an error refuses it. Default:
	// no key is revoked.
	Revoked func(key ed25519.PublicKey) error

	// Refused is told of inbound connections that the endpoint refuses: because
	// Authorize or Revoked says no, with that error, or for a limit, a
	// pre-shared key, a broken hello; and of those that it ends for a limit.
	// key is zero as long as it is not proved. It must not block. Default:
	// nobody is told.
	Refused func(key identity.NodeID, addr net.Addr, why error)

	// Resolve turns what Dial was given into an address. The default asks the
	// system's resolver and prefers IPv4, as [net.ResolveUDPAddr] does.
	Resolve func(ctx context.Context, addr string) (net.Addr, error)

	// Logger gets what the endpoint cannot return to anybody: refusals, once a
	// minute for a key and a reason and at most 256 of them; all else, and
	// broken handshakes, at debug level. The default discards it.
	Logger *slog.Logger

	limits limit.Transport // of Ledger
}

var errOwnKeyOnly = errors.New("no authorisation is configured: own key only")

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Conn == nil || cfg.Key == nil {
		return cfg, errors.New("transport/quic: Config needs Conn and Key")
	}
	own, err := publicKey(cfg.Key)
	if err != nil {
		return cfg, err
	}
	if err := checkPSKs(cfg.PreSharedKeys); err != nil {
		return cfg, err
	}
	cfg.PreSharedKeys = clonePSKs(cfg.PreSharedKeys)
	if cfg.Revoked == nil {
		cfg.Revoked = func(ed25519.PublicKey) error { return nil }
	}
	if cfg.Authorize == nil {
		cfg.Authorize = func(key ed25519.PublicKey, _ net.Addr) error {
			if !key.Equal(own) {
				return errOwnKeyOnly
			}
			return nil
		}
	}
	for cfg.BootNonce == 0 {
		var b [8]byte
		rand.Read(b[:]) // never fails
		cfg.BootNonce = binary.BigEndian.Uint64(b[:])
	}
	if cfg.Resolve == nil {
		cfg.Resolve = resolve
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.MaxIdle = cmp.Or(cfg.MaxIdle, 10*time.Second)
	cfg.KeepAlive = cmp.Or(cfg.KeepAlive, 3*time.Second)
	cfg.HandshakeTimeout = cmp.Or(cfg.HandshakeTimeout, 5*time.Second)
	if cfg.Ledger == nil {
		cfg.Ledger = limit.NewLedger(limit.Limits{})
	}
	cfg.limits = cfg.Ledger.Limits().Transport
	return cfg, nil
}

func publicKey(k *identity.Key) (ed25519.PublicKey, error) {
	pub, ok := k.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("transport/quic: the key is not an ed25519 key")
	}
	return pub, nil
}
