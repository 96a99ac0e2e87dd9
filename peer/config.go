package peer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/trust"
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

// check says what is wrong with the configuration of the node with that key.
func (c Config) check(own identity.NodeID, now time.Time) error {
	if err := c.Limits.Check(); err != nil {
		return fmt.Errorf("Config.Limits: %w", err)
	}
	if err := checkSharedKeys(c.PreSharedKeys); err != nil {
		return fmt.Errorf("Config.PreSharedKeys: %w", err)
	}
	if c.TrustNew != nil && c.KnownPeers == nil {
		return errors.New("Config.TrustNew needs Config.KnownPeers, to remember whom it trusts")
	}
	if c.Rotation != nil {
		if err := c.checkRotation(own, now); err != nil {
			return fmt.Errorf("Config.Rotation: %w", err)
		}
	}
	if c.Revoked != nil {
		if err := c.revokes(own); err != nil {
			return fmt.Errorf("this node's own key is revoked: %w", err)
		}
	}
	return nil
}

// Bounds of pre-shared keys.
const (
	maxSharedKeys    = 2
	leastSharedBytes = 32
	mostSharedBytes  = 64
)

// checkSharedKeys never puts a key, or a part of one, into its error.
func checkSharedKeys(keys [][]byte) error {
	if len(keys) > maxSharedKeys {
		return fmt.Errorf("%d keys, and there may be at most %d: the one in use, and the next one", len(keys), maxSharedKeys)
	}
	for i, k := range keys {
		if len(k) < leastSharedBytes || len(k) > mostSharedBytes {
			return fmt.Errorf("key %d has %d bytes; it takes %d to %d random ones", i+1, len(k), leastSharedBytes, mostSharedBytes)
		}
	}
	if len(keys) == maxSharedKeys && bytes.Equal(keys[0], keys[1]) {
		return errors.New("both keys are the same one: leave one out")
	}
	return nil
}

// checkRotation refuses a statement that nobody would believe. One that does
// not hold just now does no harm: it is left on from the time it did, or waits
// for its time.
func (c Config) checkRotation(own identity.NodeID, now time.Time) error {
	r := c.Rotation
	if r.New != own {
		return fmt.Errorf("it is about the key %v, and this node has %v", r.New, own)
	}
	if err := r.Verify(); err != nil {
		return err
	}
	if c.Revoked != nil {
		if err := c.revokes(r.Old); err != nil {
			return fmt.Errorf("its older key is revoked, so that nodes which know that refuse this one: leave the statement out: %w", err)
		}
	}
	if !r.Holds(now) {
		c.Logger.Warn("the statement of Config.Rotation does not hold now", "from", r.From, "until", r.Until)
	}
	return nil
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
