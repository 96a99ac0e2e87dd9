package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

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

// is tells whether the node at the other end has that key, or one that takes
// its place just now.
func (l *link) is(id identity.NodeID) bool {
	return l.RemoteNodeID() == id || oldKey(l.Info()) == id
}

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

// maxAway is how many processes of one node may be away at a time with
// circuits that wait for them. A machine that crashes and comes back at another
// address each time leaves one behind each time.
const maxAway = 64

var errTooManyAway = fmt.Errorf("peer: more than %d processes with its key are away", maxAway)

// limitAway gives up the processes of the node of l that are away and whose
// last connection is the oldest, as far as there are too many.
func (n *Node) limitAway(l *link) {
	var away []*link
	for _, m := range n.links.all() {
		if m != l && !m.self && m.Account() == l.Account() && !m.Attached() && m.Context().Err() == nil {
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
		l, err := n.adopt(conn, "")
		if err != nil {
			n.log.Debug("connection was over at once", "err", err)
			continue
		}
		n.audit.record(decisionOf(n.request(l.Link, ActionConnect, ""), "connect", nil))
	}
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
