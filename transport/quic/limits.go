package quic

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// Bounds on what connections that are not open yet may cost, besides those of
// [limit.Transport] on handshakes: an unfinished one takes about 57 KiB, and
// whoever has no key can begin it, so one machine must not be able to take all
// places.
const (
	// hurriedTimeout is how long a handshake may stand still, twice that how
	// long it may take, while there are many. A slow machine with an honest
	// crowd before it needs that much.
	hurriedTimeout = 2 * time.Second

	maxHellos    = 256 // connections whose key is judged, or in the middle of hello
	maxKeyHellos = 8   // those with one key, once it is found authorised
	maxStrangers = 16  // connections that are being told that their key is not authorised
	maxBacklog   = 256 // Conns that Accept has not returned yet
)

var errTooManyHandshakes = errors.New("too many unfinished handshakes")

// A source is what one machine has only one of: an IPv4 address, the first 64
// bits of an IPv6 address, or any other kind of address.
type source struct {
	ip    netip.Prefix
	other string
}

func sourceOf(addr net.Addr) source {
	u, ok := addr.(*net.UDPAddr)
	if !ok {
		return source{other: addr.String()}
	}
	ip := u.AddrPort().Addr().Unmap()
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return source{other: addr.String()}
	}
	return source{ip: p}
}

// arrivals counts the QUIC handshakes that others have begun and that have not
// ended.
type arrivals struct {
	ledger *limit.Ledger
	bounds limit.Transport

	mu      sync.Mutex // never held while anything waits
	shaking int        // as the ledger has it, but of this endpoint alone
	from    map[source]int
}

func newArrivals(cfg Config) arrivals {
	return arrivals{ledger: cfg.Ledger, bounds: cfg.limits, from: make(map[source]int)}
}

// An arrival is one of them. [arrivals.mu] guards it.
type arrival struct {
	from    source
	proven  bool // that it comes from there; counted in arrivals.from
	shaking bool
}

type arrivalKey struct{}

// unfinished is the number of handshakes that have not ended.
func (as *arrivals) unfinished() int {
	as.mu.Lock()
	defer as.mu.Unlock()
	return as.shaking
}

// An addressProof says whether somebody has shown to receive at the address
// that he sends from.
type addressProof int

const (
	unproven addressProof = iota
	proven
)

// crowded reports whether there are so many that further ones have to prove
// their address.
func (as *arrivals) crowded() bool { return as.unfinished() > as.bounds.RetryAbove }

// begin counts a handshake, or returns nil if there are too many. An address
// that is not proven is not held against whoever really has it: RetryAbove
// bounds those.
func (as *arrivals) begin(from source, proof addressProof) *arrival {
	as.mu.Lock()
	defer as.mu.Unlock()
	a := &arrival{from: from, proven: proof == proven, shaking: true}
	if a.proven && as.shaking >= as.bounds.RetryAbove && as.from[from] >= as.bounds.HandshakesPerAddr {
		return nil
	}
	if _, err := as.ledger.Acquire(limit.Handshakes, identity.NodeID{}, 1); err != nil {
		return nil
	}
	as.shaking++
	if a.proven {
		as.from[from]++
	}
	return a
}

// end takes a out, for the first time or not: its handshake is complete, or it
// is gone.
func (as *arrivals) end(a *arrival) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if !a.shaking {
		return
	}
	a.shaking = false
	as.shaking--
	as.ledger.Release(limit.Handshakes, identity.NodeID{}, 1)
	if !a.proven {
		return
	}
	if as.from[a.from]--; as.from[a.from] == 0 {
		delete(as.from, a.from)
	}
}

// adapt returns base as it fits to how many there are.
func (as *arrivals) adapt(base *quicgo.Config) *quicgo.Config {
	c := base.Clone()
	if as.unfinished() >= as.bounds.RetryAbove {
		c.HandshakeIdleTimeout = min(c.HandshakeIdleTimeout, hurriedTimeout)
	}
	return c
}

// arrive counts an inbound connection until its handshake has ended. quic-go
// calls it, and adapt just before, for one connection at a time.
func (e *Endpoint) arrive(ctx context.Context, info *quicgo.ClientInfo) (context.Context, error) {
	proof := unproven
	if info.AddrVerified {
		proof = proven
	}
	a := e.arrivals.begin(sourceOf(info.RemoteAddr), proof)
	if a == nil {
		return nil, errTooManyHandshakes
	}
	context.AfterFunc(ctx, func() { e.arrivals.end(a) })
	return e.withBooking(context.WithValue(ctx, arrivalKey{}, a)), nil
}

// arrivalOf returns nil for a connection that this side has dialled.
func arrivalOf(qc *quicgo.Conn) *arrival {
	a, _ := qc.Context().Value(arrivalKey{}).(*arrival)
	return a
}

// enter counts somebody in, unless there are limit already.
func (e *Endpoint) enter(n *int, limit int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if *n >= limit {
		return false
	}
	*n++
	return true
}

func (e *Endpoint) leave(n *int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	*n--
}

type keyBytes = [ed25519.PublicKeySize]byte

// enterKey counts a hello with an authorised key in. One such key must not be
// able to take all places of maxHellos.
func (e *Endpoint) enterKey(key keyBytes) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.keyHellos[key] >= maxKeyHellos {
		return false
	}
	e.keyHellos[key]++
	return true
}

func (e *Endpoint) leaveKey(key keyBytes) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.keyHellos[key]--; e.keyHellos[key] == 0 {
		delete(e.keyHellos, key)
	}
}
