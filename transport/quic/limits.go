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
)

// Bounds on what connections that are not open yet may cost.
const (
	// Unfinished QUIC handshakes, of about 57 KiB each. Whoever has no key can
	// begin them, so one machine must not be able to take all places.
	retryAbove          = 64  // more must prove their address, and have hurriedTimeout to go on
	maxSourceHandshakes = 16  // of one proven address, beyond retryAbove
	maxHandshakes       = 512 // altogether

	// hurriedTimeout is how long a handshake may stand still, twice that how
	// long it may take, while there are many. A slow machine with an honest
	// crowd before it needs that much.
	hurriedTimeout = 2 * time.Second

	// More connections than this, not open yet, start with a small window.
	maxRoomy = 4

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

// arrivals counts the connections that others have begun and that are not
// open yet.
type arrivals struct {
	mu       sync.Mutex // never held while anything waits
	shaking  int        // QUIC handshakes that have not ended
	unopened int        // those, and connections whose hello has not ended
	from     map[source]int
}

// An arrival is one of them. [arrivals.mu] guards it.
type arrival struct {
	from    source
	proven  bool // that it comes from there; counted in arrivals.from
	shaking bool
	opened  bool // or gone
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

// begin counts a handshake, or returns nil if there are too many. An address
// that is not proven is not held against whoever really has it: retryAbove
// bounds those.
func (as *arrivals) begin(from source, proof addressProof) *arrival {
	as.mu.Lock()
	defer as.mu.Unlock()
	a := &arrival{from: from, proven: proof == proven, shaking: true}
	if as.shaking >= maxHandshakes ||
		a.proven && as.shaking >= retryAbove && as.from[from] >= maxSourceHandshakes {
		return nil
	}
	as.shaking++
	as.unopened++
	if a.proven {
		as.from[from]++
	}
	return a
}

// shaken ends the handshake of a, for the first time or not.
func (as *arrivals) shaken(a *arrival) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.endHandshake(a)
}

func (as *arrivals) endHandshake(a *arrival) {
	if !a.shaking {
		return
	}
	a.shaking = false
	as.shaking--
	if !a.proven {
		return
	}
	if as.from[a.from]--; as.from[a.from] == 0 {
		delete(as.from, a.from)
	}
}

// end takes a out: it is open, or gone.
func (as *arrivals) end(a *arrival) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.endHandshake(a)
	if !a.opened {
		a.opened = true
		as.unopened--
	}
}

// adapt returns base as it fits to how many there are.
func (as *arrivals) adapt(base *quicgo.Config) *quicgo.Config {
	as.mu.Lock()
	defer as.mu.Unlock()
	c := base.Clone()
	if as.shaking >= retryAbove {
		c.HandshakeIdleTimeout = min(c.HandshakeIdleTimeout, hurriedTimeout)
	}
	if as.unopened >= maxRoomy {
		c.InitialConnectionReceiveWindow = crowdedWindow
	}
	return c
}

// arrive counts an inbound connection until it has opened or ended. quic-go
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
	return context.WithValue(ctx, arrivalKey{}, a), nil
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
