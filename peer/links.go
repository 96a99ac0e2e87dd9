package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// links knows the other processes that a node has to do with.
type links struct {
	mu     sync.Mutex     // guards all of it, and is never held across a wait
	closed bool           // no more of them; those there are may still be connected anew
	list   []*link        // all of them, in the order of their making
	byProc map[proc]*link // those to other processes
}

// A proc is one run of one process: machines of a person may share a key.
type proc struct {
	node  identity.NodeID
	nonce uint64
}

func procOf(conn transport.Conn) proc {
	info := conn.Info()
	return proc{identity.NodeIDOf(info.RemoteKey), info.BootNonce}
}

// A link is everything between this node and one other process, over one
// connection after another.
type link struct {
	*circuit.Link
	conn  transport.Conn  // the latest; guarded by links.mu
	self  bool            // one of the two ends of a connection to this node itself
	ours  bool            // this node has dialled the first connection
	names map[string]bool // guarded by links.mu; addresses that were dialled and led here

	// word is what the other node says its address is, "" before it was
	// asked; links.mu guards it. It may lie, so it counts only where the
	// caller has named that node.
	word string
}

// from is where requests on the link come from.
func (l *link) from() netip.AddrPort { return addrPort(l.Info().RemoteAddr) }

// alive tells whether the link has a connection.
func (l *link) alive() bool { return l.Context().Err() == nil && l.Attached() }

func (ls *links) init() { ls.byProc = make(map[proc]*link) }

// adopt returns the link that conn belongs to, making it if there is none: a
// Conn that Dial returns may have come from Accept before. addr is what was
// dialled, "" if nothing was.
func (n *Node) adopt(conn transport.Conn, addr string) (*link, error) {
	l, gone, err := n.place(conn, addr)
	for _, g := range gone {
		g.Restarted()
	}
	if err == nil {
		n.limitAway(l)
	}
	switch {
	case err == nil:
		l.Attach(conn) // nothing, if it has conn already
	case errors.Is(err, ErrNodeClosed):
		conn.Close(transport.CodeClosed, ErrNodeClosed.Error())
	default:
		conn.Close(transport.CodeLost, "") // nobody here serves it; the other side may dial again
	}
	return l, err
}

// place finds or makes the link of conn, and those whose process is gone: where
// it was, there is now the one that conn leads to.
func (n *Node) place(conn transport.Conn, addr string) (l *link, gone []*link, err error) {
	ls := &n.links
	ls.mu.Lock()
	defer ls.mu.Unlock()
	p := procOf(conn)
	at := addrText(conn.Info().RemoteAddr)
	for q, old := range ls.byProc {
		if q.node == p.node && q != p && addrText(old.Info().RemoteAddr) == at {
			gone = append(gone, old)
		}
	}
	l = ls.byProc[p]
	switch {
	case conn.Context().Err() != nil:
		return nil, gone, context.Cause(conn.Context())
	case l != nil && l.Context().Err() != nil:
		return nil, gone, context.Cause(l.Context())
	case l == nil && ls.closed:
		return nil, gone, ErrNodeClosed
	case l == nil:
		l = &link{names: make(map[string]bool), ours: conn.Info().Dialed}
		l.Link = n.hub.Link(conn, func(ctx context.Context) error { return n.redial(ctx, l) })
		ls.byProc[p] = l
		n.serveLocked(p, l)
	}
	l.conn = conn
	if addr != "" {
		l.names[addr] = true
	}
	return l, gone, nil
}

// maxAway is how many processes with one key may be away at a time with
// circuits that wait for them. A machine that crashes and comes back at another
// address each time leaves one behind each time.
const maxAway = 64

var errTooManyAway = fmt.Errorf("peer: more than %d processes with its key are away", maxAway)

// limitAway gives up the processes with the key of l that are away and whose
// last connection is the oldest, as far as there are too many.
func (n *Node) limitAway(l *link) {
	var away []*link
	for _, m := range n.links.all() {
		if m != l && !m.self && m.RemoteNodeID() == l.RemoteNodeID() && !m.Attached() && m.Context().Err() == nil {
			away = append(away, m)
		}
	}
	slices.SortFunc(away, func(a, b *link) int { return a.Info().Opened.Compare(b.Info().Opened) })
	for _, m := range away[:max(0, len(away)-maxAway)] {
		n.log.Warn("gives up circuits", "node", m.RemoteNodeID(), "err", errTooManyAway)
		m.Abandon(errTooManyAway)
	}
}

// loopLocked makes one end of the connection to this node itself. links.mu is
// held.
func (n *Node) loopLocked(conn transport.Conn) *link {
	l := &link{Link: n.hub.Link(conn, nil), conn: conn, self: true}
	n.serveLocked(proc{}, l)
	return l
}

// serveLocked makes a new link known. links.mu is held.
func (n *Node) serveLocked(p proc, l *link) {
	n.links.list = append(n.links.list, l)
	n.wg.Go(func() { n.watch(p, l) })
}

// watch forgets a link that has ended, and joins its goroutines. What has
// arrived on its circuits can still be read, so they are not closed here: that
// is their peers' business.
func (n *Node) watch(p proc, l *link) {
	<-l.Context().Done()
	ls := &n.links
	ls.mu.Lock()
	conn := l.conn
	ls.mu.Unlock()
	<-conn.Context().Done() // the link ends first, and the same Conn must not be adopted anew
	ls.mu.Lock()
	ls.list = slices.DeleteFunc(ls.list, func(m *link) bool { return m == l })
	delete(ls.byProc, p) // nothing for one to this node itself
	ls.mu.Unlock()
	l.Wait()
}

func (n *Node) acceptConns() {
	for {
		conn, err := n.endpoint.Accept(context.Background()) // until the endpoint is closed
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

// findNode returns the latest link to a node that was given by its ID alone:
// one that is connected, or else one that will be again.
func (n *Node) findNode(t target) (*link, error) {
	var best *link
	for _, l := range n.links.all() {
		if l.self || l.RemoteNodeID() != t.node || l.Context().Err() != nil {
			continue
		}
		better := best == nil || l.Attached() && !best.Attached() ||
			l.Attached() == best.Attached() && l.Info().Opened.After(best.Info().Opened)
		if better {
			best = l
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w: %v", ErrNotConnected, t.node)
	}
	return best, nil
}

// linksTo returns the links to a node that are connected, which are several if
// machines share a key.
func (n *Node) linksTo(id identity.NodeID) []*link {
	return slices.DeleteFunc(n.links.all(), func(l *link) bool {
		return l.self || l.RemoteNodeID() != id || !l.alive()
	})
}

func (n *Node) findAddr(t target) *link {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	for _, l := range n.links.list {
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
	return slices.Clone(ls.list)
}

func (ls *links) all() []*link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return slices.Clone(ls.list)
}
