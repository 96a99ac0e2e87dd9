package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

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
	switch {
	case err != nil:
		return nil, err
	case l != nil:
		return l, n.judge(ctx, l, t)
	}
	l, err = n.dial(ctx, t)
	n.auditDial(t, l, err)
	return l, err
}

// dial returns a link to the target by way of the endpoint.
func (n *Node) dial(ctx context.Context, t target) (*link, error) {
	if t.node.IsZero() {
		return n.dialBare(ctx, t.addr)
	}
	if err := n.revoked(t.node); err != nil {
		return nil, &transport.UnauthorizedError{Addr: t.addr, Key: t.node.Key(), Err: err}
	}
	return n.dialKey(ctx, t.addr, t.node)
}

// dialKey returns a link to the node at addr, which is to have that key if one
// is given. For a moment the endpoint may return a Conn that has just been
// lost; then it is asked again.
func (n *Node) dialKey(ctx context.Context, addr string, id identity.NodeID) (*link, error) {
	var key []byte
	if !id.IsZero() {
		key = id.Key()
	}
	for {
		conn, err := n.endpoint.Dial(ctx, addr, key)
		if err != nil {
			return nil, err
		}
		l, err := n.adopt(conn, addr)
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
			return nil, fmt.Errorf("%w at %s: %w", transport.ErrUnreachable, addr, endedBy)
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
		return l, nil
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
		if l.self || !l.is(t.node) || l.Context().Err() != nil {
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
		return l.self || !l.is(id) || !l.alive()
	})
}

func (n *Node) findAddr(t target) *link {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	for _, l := range n.links.list {
		if !l.self && l.alive() && (t.node.IsZero() || l.is(t.node)) &&
			(l.names[t.addr] || addrText(l.Info().RemoteAddr) == t.addr) {
			return l
		}
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
