package quic

import (
	"bytes"
	"crypto/ed25519"
	"net"
)

// A node is one run of one process, as both ends of a connection prove
// (the key) and say (the boot nonce).
type node struct {
	key   [ed25519.PublicKeySize]byte
	nonce uint64
}

func (n node) less(m node) bool {
	if c := bytes.Compare(n.key[:], m.key[:]); c != 0 {
		return c < 0
	}
	return n.nonce < m.nonce
}

func (n node) publicKey() ed25519.PublicKey { return bytes.Clone(n.key[:]) }

// A table keeps one Conn per node. [Endpoint.mu] guards all of it, and all its
// methods decide at once and never wait.
//
// A connection that this side accepted is half open from welcome until the
// dialler has taken the welcome. There is at most one half-open and one open
// connection to a node; who comes second is told about the first.
//
// The arguments that follow rest on two facts. A: a dialler that is refused as
// a duplicate knows the connection that the other side holds, open or half
// open, or is still greeting on it, unless it has lost it; so it never has to
// guess how long to wait, and only what is lost is replaced. B: the acceptor
// says welcome only while it has neither an open nor a half-open connection to
// the dialler, so a welcome to a later hello means that an earlier Conn is
// gone over there.
type table struct {
	self  node
	nodes map[node]*entry
	seq   uint64 // last number given to a hello or an opening

	// greeting has the numbers of the connections this side has dialled and
	// on which it has not decided yet. The channel is closed when it has.
	greeting map[uint64]chan struct{}
}

// An entry is what the table knows of one node; there is none without a Conn.
type entry struct {
	open    *conn
	half    *conn
	changed chan struct{} // closed at the next change; nil: nobody waits for it
}

// A verdict is what the table decides about one connection. At most one of
// wait and holds is set; neither: it is in.
type verdict struct {
	wait  <-chan struct{} // ask again when this is closed
	holds *conn           // there is this connection already; stale may be set too
	stale []*conn         // what the other side no longer has; the caller ends them as lost
	floor uint64          // with a welcome
}

func (t *table) next() uint64 {
	t.seq++
	return t.seq
}

func (t *table) at(id node) *entry {
	n := t.nodes[id]
	if n == nil {
		n = new(entry)
		t.nodes[id] = n
	}
	return n
}

// settled ends a change of the entry of id: whoever waits looks again.
func (t *table) settled(id node, n *entry) {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
	if n.open == nil && n.half == nil {
		delete(t.nodes, id)
	}
}

func (n *entry) next() <-chan struct{} {
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}

// offer decides about the hello of c, which the other side has dialled.
// replace is the number of the connection that the other side has lost.
func (t *table) offer(c *conn, replace uint64) verdict {
	n := t.at(c.node)
	for _, has := range []*conn{n.half, n.open} {
		if has != nil && has.serial != replace {
			return verdict{holds: has, stale: t.drop(c.node, replace)}
		}
	}
	v := verdict{stale: t.restarted(c)}
	for _, lost := range []*conn{n.half, n.open} {
		if lost != nil {
			v.stale = append(v.stale, lost)
		}
	}
	n.half, n.open = c, nil
	v.floor = t.floor()
	t.settled(c.node, n)
	return v
}

// drop takes out what the other side has named as lost. It can name one at a
// time: where there are a half-open and an open connection, and both are lost, it
// would else be told of the one, of the other, of the one again, and so on.
func (t *table) drop(id node, lost uint64) (stale []*conn) {
	n := t.nodes[id]
	for _, has := range []**conn{&n.half, &n.open} {
		if *has != nil && (*has).serial == lost {
			stale, *has = append(stale, *has), nil
			t.settled(id, n)
		}
	}
	return stale
}

// confirm opens c, which the other side has dialled and whose welcome it has
// taken. If the other side is the one that decides, then an open Conn is one
// that it has lost.
func (t *table) confirm(c *conn) verdict {
	n := t.at(c.node)
	var v verdict
	if n.open != nil {
		v.stale = append(v.stale, n.open)
	}
	n.half, n.open = nil, c
	c.openSeq = t.next()
	t.settled(c.node, n)
	return v
}

// take decides about the welcome to c, which this side has dialled.
func (t *table) take(c *conn) verdict {
	if n := t.nodes[c.node]; n != nil && t.self.less(c.node) {
		switch {
		case n.half != nil && n.half.theirs >= c.floor:
			return verdict{wait: n.next()} // approved first
		case n.open != nil && n.open.openSeq > c.serial:
			return verdict{holds: n.open}
		}
		// What was open before the hello to c went out is gone over there (B).
		// So is what was half open, if the other side had decided on it: taken
		// and still alive, it would have stood in the way of the welcome.
	}
	v := verdict{stale: t.restarted(c)}
	n := t.at(c.node)
	if n.half != nil && n.half.theirs < c.floor {
		v.stale = append(v.stale, n.half)
		n.half = nil
	}
	if n.open != nil {
		v.stale = append(v.stale, n.open)
	}
	n.open = c
	c.openSeq = t.next()
	t.settled(c.node, n)
	return v
}

// duplicate decides what a refusal as a duplicate means (A): the connection is
// there, or about to open, or it is lost and to be replaced.
func (t *table) duplicate(d *duplicateError) verdict {
	if undecided := t.greeting[d.yours]; undecided != nil {
		return verdict{wait: undecided}
	}
	n := t.nodes[d.node]
	switch {
	case n == nil:
		return verdict{}
	case n.open != nil && d.is(n.open):
		return verdict{holds: n.open}
	case n.half != nil && d.is(n.half):
		return verdict{wait: n.next()} // that the welcome was taken is on its way
	}
	return verdict{}
}

// greet gives c, which this side has dialled, its number. What is open by then
// is gone at the other side, if it says welcome.
func (t *table) greet(c *conn) {
	c.serial = t.next()
	t.greeting[c.serial] = make(chan struct{})
}

// floor is the smallest number of a dial that is not decided.
func (t *table) floor() uint64 {
	floor := t.seq + 1
	for serial := range t.greeting {
		floor = min(floor, serial)
	}
	return floor
}

// decided ends what greet began.
func (t *table) decided(c *conn) {
	close(t.greeting[c.serial])
	delete(t.greeting, c.serial)
}

// forget drops c, wherever it stands.
func (t *table) forget(c *conn) {
	n := t.nodes[c.node]
	if n == nil {
		return
	}
	switch c {
	case n.half:
		n.half = nil
	case n.open:
		n.open = nil
	default:
		return
	}
	t.settled(c.node, n)
}

// restarted takes out the Conns of an earlier run of the process at the other
// end of c: the same key at the same address, with another boot nonce.
func (t *table) restarted(c *conn) []*conn {
	var gone []*conn
	for id, n := range t.nodes {
		if id.key != c.node.key || id.nonce == c.node.nonce || !n.openFrom(c.qc.RemoteAddr()) {
			continue
		}
		gone = append(gone, n.open)
		n.open = nil
		t.settled(id, n)
	}
	return gone
}

func (n *entry) openFrom(addr net.Addr) bool {
	return n.open != nil && sameAddr(n.open.qc.RemoteAddr(), addr)
}

// find returns an open Conn to addr that proves the key pin; a nil one is any.
func (t *table) find(addr net.Addr, pin ed25519.PublicKey) *conn {
	for _, n := range t.nodes {
		if n.open != nil && (pin == nil || n.open.proves(pin)) &&
			(addr == nil || sameAddr(n.open.qc.RemoteAddr(), addr)) {
			return n.open
		}
	}
	return nil
}

// all returns every connection in the table.
func (t *table) all() []*conn {
	var cs []*conn
	for _, n := range t.nodes {
		for _, c := range []*conn{n.open, n.half} {
			if c != nil {
				cs = append(cs, c)
			}
		}
	}
	return cs
}
