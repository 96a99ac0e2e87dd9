package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// links knows the connections of a node.
type links struct {
	mu     sync.Mutex // guards all of it, and is never held across a wait
	closed bool
	byConn map[transport.Conn]*link
}

// A link is one connection to another node.
type link struct {
	*circuit.Link
	conn  transport.Conn
	self  bool            // one of the two ends of a connection to this node itself
	names map[string]bool // guarded by links.mu; addresses that were dialled and led here

	// word is what the other node says its address is, "" before it was
	// asked; links.mu guards it. It may lie, so it counts only where the
	// caller has named that node.
	word string
}

// from is where requests on the link come from.
func (l *link) from() netip.AddrPort { return addrPort(l.Info().RemoteAddr) }

// alive tells whether the link can be used. It ends a moment after its
// connection.
func (l *link) alive() bool { return l.conn.Context().Err() == nil && l.Context().Err() == nil }

func (ls *links) init() { ls.byConn = make(map[transport.Conn]*link) }

// adopt returns the link of conn, making it if there is none: a Conn that
// Dial returns may have come from Accept before. addr is what was dialled, ""
// if nothing was.
func (n *Node) adopt(conn transport.Conn, addr string) (*link, error) {
	ls := &n.links
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.byConn[conn]
	switch {
	case ls.closed:
		return nil, ErrNodeClosed // the endpoint closes conn with itself
	case l == nil && conn.Context().Err() != nil:
		return nil, context.Cause(conn.Context())
	case l == nil:
		l = n.addLocked(&link{conn: conn, names: make(map[string]bool)})
	}
	if addr != "" {
		l.names[addr] = true
	}
	return l, nil
}

// addLocked starts to serve a connection. links.mu is held.
func (n *Node) addLocked(l *link) *link {
	l.Link = circuit.NewLink(l.conn, acceptor{n}, n.cfg.Circuit)
	n.links.byConn[l.conn] = l
	n.wg.Go(func() { n.watch(l) })
	return l
}

// watch forgets a link that has ended, and joins its goroutines. What has
// arrived on its circuits can still be read, so they are not closed here: that
// is their peers' business.
func (n *Node) watch(l *link) {
	<-l.Context().Done()
	<-l.conn.Context().Done() // the link ends first, and the same Conn must not be adopted anew
	n.links.mu.Lock()
	delete(n.links.byConn, l.conn)
	n.links.mu.Unlock()
	l.Wait()
}

func (n *Node) acceptConns() {
	for {
		conn, err := n.endpoint.Accept(n.ctx)
		if err != nil {
			if n.ctx.Err() == nil {
				n.log.Error("accepts no more connections", "err", err)
			}
			return
		}
		if _, err := n.adopt(conn, ""); err != nil {
			n.log.Debug("connection was over at once", "err", err)
		}
	}
}

// reach returns a link to the target: one that is there, or a new one. While
// nobody answers it tries again until ctx ends: a try of the endpoint's ends
// sooner. ctx must have a deadline.
func (n *Node) reach(ctx context.Context, t target) (*link, error) {
	for {
		l, err := n.reachOnce(ctx, t)
		switch {
		case err == nil:
			return l, nil
		case n.ctx.Err() != nil:
			return nil, ErrNodeClosed
		case !unanswered(err):
			return nil, err
		}
		select {
		case <-time.After(reachPause):
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
				err = fmt.Errorf("peer: dialling %s: %w", t.text, cause)
			}
			return nil, err
		}
	}
}

// reachPause is between two tries to reach a node, so that tries which fail
// at once do not spin.
const reachPause = 100 * time.Millisecond

// unanswered tells whether trying again may help. A name that does not exist
// is an answer.
func unanswered(err error) bool {
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return false
	}
	return errors.Is(err, transport.ErrUnreachable)
}

func (n *Node) reachOnce(ctx context.Context, t target) (*link, error) {
	if n.ctx.Err() != nil {
		return nil, ErrNodeClosed
	}
	if n.isSelf(t) {
		return n.self(t)
	}
	l, err := n.find(ctx, t)
	if l != nil || err != nil {
		return l, err
	}
	return n.dial(ctx, t)
}

// dial returns a link to the target by way of the endpoint. For a moment that
// may return a Conn that has just been lost; then it is asked again.
func (n *Node) dial(ctx context.Context, t target) (*link, error) {
	var key []byte
	if !t.node.IsZero() {
		key = t.node.Key()
	}
	for {
		conn, err := n.endpoint.Dial(ctx, t.addr, key)
		if err != nil {
			return nil, err
		}
		l, err := n.adopt(conn, t.addr)
		if err == nil && l.alive() {
			return l, nil
		}
		endedBy := err
		if err == nil {
			if endedBy = context.Cause(conn.Context()); endedBy == nil {
				endedBy = context.Cause(l.Context())
			}
		}
		if _, told := errors.AsType[*transport.RemoteError](endedBy); told || errors.Is(err, ErrNodeClosed) {
			return nil, endedBy
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w at %s: %w", transport.ErrUnreachable, t.addr, endedBy)
		case <-time.After(lostConnPause):
		}
	}
}

// lostConnPause is how long an endpoint may take to forget a Conn.
const lostConnPause = 5 * time.Millisecond

// find looks for a link that is there. The address counts before the node ID:
// the machines of one person may share a key.
func (n *Node) find(ctx context.Context, t target) (*link, error) {
	if t.addr == "" {
		return n.findNode(t)
	}
	if l := n.findAddr(t); l != nil {
		return l, n.allowBare(l, t)
	}
	if t.node.IsZero() {
		return nil, nil
	}
	// The node may be one that is connected from elsewhere, such as behind a
	// router that cannot be dialled: it knows its own address.
	for _, l := range n.linksTo(t.node) {
		if n.wordOf(ctx, l) == t.addr {
			return l, nil
		}
	}
	return nil, nil
}

// findNode returns the latest link to a node that was given by its ID alone.
func (n *Node) findNode(t target) (*link, error) {
	var best *link
	for _, l := range n.linksTo(t.node) {
		if best == nil || l.Info().Opened.After(best.Info().Opened) {
			best = l
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w: %v", ErrNotConnected, t.node)
	}
	return best, nil
}

// linksTo returns the links to a node, which are several if machines share a
// key.
func (n *Node) linksTo(id identity.NodeID) []*link {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	var ls []*link
	for _, l := range n.links.byConn {
		if !l.self && l.RemoteNodeID() == id && l.alive() {
			ls = append(ls, l)
		}
	}
	return ls
}

func (n *Node) findAddr(t target) *link {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	for _, l := range n.links.byConn {
		if !l.self && l.alive() && (t.node.IsZero() || l.RemoteNodeID() == t.node) &&
			(l.names[t.addr] || addrText(l.Info().RemoteAddr) == t.addr) {
			return l
		}
	}
	return nil
}

// allowBare asks the policy about a node that was given by its address alone,
// as a dial would.
func (n *Node) allowBare(l *link, t target) error {
	if !t.node.IsZero() {
		return nil
	}
	err := n.authorize(Request{Node: l.RemoteNodeID(), From: l.from(), Action: ActionConnect})
	if err != nil {
		return &transport.UnauthorizedError{Addr: t.addr, Key: l.RemoteNodeID().Key(), Err: err}
	}
	return nil
}

// wordOf returns what the node at the other end says its address is; "" if it
// does not say.
func (n *Node) wordOf(ctx context.Context, l *link) string {
	n.links.mu.Lock()
	word := l.word
	n.links.mu.Unlock()
	if word != "" {
		return word
	}
	word, err := n.askAddr(ctx, l)
	if err != nil {
		return ""
	}
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	l.word = word
	return word
}

// close adopts no more connections and returns the links there are.
func (ls *links) close() []*link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.closed = true
	return ls.allLocked()
}

func (ls *links) all() []*link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.allLocked()
}

func (ls *links) allLocked() []*link {
	var out []*link
	for _, l := range ls.byConn {
		out = append(out, l)
	}
	return out
}
