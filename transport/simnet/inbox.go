package simnet

import (
	"net/netip"
	"sync"
)

// DefaultReadBuffer is the size of a socket's receive buffer, in bytes: the
// default of Linux (net.core.rmem_default).
const DefaultReadBuffer = 212992

// datagramOverhead is charged to the receive buffer for each packet beside its
// payload, as a kernel does: otherwise empty packets would fill memory.
const datagramOverhead = 256

// A datagram is a packet that has arrived.
type datagram struct {
	from    netip.AddrPort
	payload []byte // never written to
}

// An inbox is a socket's receive buffer: bounded, first in first out.
type inbox struct {
	// ready holds a token while there may be something to take. It wakes one
	// reader, who passes the token on if he leaves something.
	ready chan struct{}

	mu    sync.Mutex // guards what is below; may be taken under Network.mu
	queue []datagram
	used  int // bytes, with overhead
	limit int
}

func newInbox() *inbox {
	return &inbox{ready: make(chan struct{}, 1), limit: DefaultReadBuffer}
}

// put appends d, or returns false if it finds no room. An empty inbox takes
// any packet, so that no limit makes a socket deaf.
func (b *inbox) put(d datagram) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	cost := len(d.payload) + datagramOverhead
	if len(b.queue) > 0 && b.used+cost > b.limit {
		return false
	}
	b.queue = append(b.queue, d)
	b.used += cost
	b.signal()
	return true
}

// take removes the first packet, or returns false if there is none.
func (b *inbox) take() (datagram, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return datagram{}, false
	}
	d := b.queue[0]
	b.queue[0] = datagram{} // or the slice would keep the payload alive
	b.queue = b.queue[1:]
	b.used -= len(d.payload) + datagramOverhead
	if len(b.queue) > 0 {
		b.signal()
	}
	return d, true
}

// signal wakes a reader. The caller holds b.mu.
func (b *inbox) signal() {
	select {
	case b.ready <- struct{}{}:
	default: // one is being woken already
	}
}

// discard empties the inbox.
func (b *inbox) discard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue, b.used = nil, 0
}

// resize sets the limit; what is over it already stays.
func (b *inbox) resize(limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = limit
}
