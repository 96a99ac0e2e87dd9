package quic

import (
	"context"
	"sync"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// A booking is what one QUIC connection uses of the ledger: one of the
// connections that may be open, what its receive window has grown by, and what
// else this side keeps for it (see tally). All is given back once, whoever is
// the first to see the end of the connection.
//
// A place is taken when the other side's hello is found good, or its welcome,
// and not before: connections that say no hello have bounds of their own
// (limits.go). One that another takes the place of gives up its own first, so
// who replaces what is dead never finds all places taken by it.
//
// A Conn that this side has dialled is counted, and never refused: otherwise
// those who connect from outside could keep this side from connecting.
type booking struct {
	ledger *limit.Ledger

	mu     sync.Mutex // held across calls of ledger, which never wait
	node   identity.NodeID
	placed bool  // counted as a connection
	ended  bool  // nothing is to be booked any more
	grown  int64 // bytes
	held   int64 // of streams that are complete and were not read, or not accepted
	extra  int64 // booked because of held
}

type bookingKey struct{}

// withBooking gives the connection that is made with ctx its booking, so that
// what quic-go calls back finds it.
func (e *Endpoint) withBooking(ctx context.Context) context.Context {
	return context.WithValue(ctx, bookingKey{}, &booking{ledger: e.cfg.Ledger})
}

// bookingOf only looks into the context of qc, as is allowed in its callbacks.
func bookingOf(qc *quicgo.Conn) *booking {
	return qc.Context().Value(bookingKey{}).(*booking)
}

// An entry right says whether a connection can be refused for want of a place.
type entryRight int

const (
	ifThereIsRoom entryRight = iota
	always
)

// enter takes a place for a connection with that node. Without room the error
// is a [transport.LimitError].
func (b *booking) enter(node identity.NodeID, right entryRight) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || b.placed {
		return nil
	}
	if right == always {
		b.ledger.Force(limit.Conns, node, 1)
	} else if _, err := b.ledger.Acquire(limit.Conns, node, 1); err != nil {
		return err
	}
	b.node, b.placed = node, true
	return nil
}

// leave gives the place back; the connection is about to end.
func (b *booking) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	if b.placed {
		b.placed = false
		b.ledger.Release(limit.Conns, b.node, 1)
	}
}

// end gives everything back: the connection has ended.
func (b *booking) end() {
	b.leave()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ledger.Release(limit.Receive, b.node, b.grown+b.extra)
	b.grown, b.extra = 0, 0
}

// grow books what the receive window is to grow by. A connection without a
// place does not grow: nobody but hello reads it, and that is short. (What the
// other side resets counts as read.)
func (b *booking) grow(by uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.placed || b.ended {
		return false
	}
	if _, err := b.ledger.Acquire(limit.Receive, b.node, int64(by)); err != nil {
		return false
	}
	b.grown += int64(by)
	return true
}

// hold counts bytes that were not read and that the window does not count any
// more: as much as it is wide is free, and the rest is booked, which can fail.
func (b *booking) hold(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held += n
	more := b.held - connectionWindow - b.grown - b.extra
	if more <= 0 || !b.placed || b.ended {
		return nil
	}
	if _, err := b.ledger.Acquire(limit.Receive, b.node, more); err != nil {
		return err
	}
	b.extra += more
	return nil
}

// letGo takes back a hold.
func (b *booking) letGo(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= n
	if less := min(b.extra, b.extra+connectionWindow+b.grown-b.held); less > 0 {
		b.extra -= less
		b.ledger.Release(limit.Receive, b.node, less)
	}
}
