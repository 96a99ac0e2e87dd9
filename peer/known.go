package peer

import (
	"context"
	"errors"
	"fmt"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

// dialBare dials an address without a key: with the one that is known there, or
// else with the one that answers, if it is to be trusted.
func (n *Node) dialBare(ctx context.Context, addr string) (*link, error) {
	known := n.cfg.KnownPeers
	if known == nil {
		return n.dialAny(ctx, addr)
	}
	id, err := known.Lookup(addr)
	switch {
	case err != nil:
		return nil, fmt.Errorf("peer: dialling %s: %w", addr, err)
	case !id.IsZero():
		return n.dialKnown(ctx, addr, id)
	}
	l, err := n.dialAny(ctx, addr)
	if err == nil {
		return l, n.remember(l, addr)
	}
	if e, ok := errors.AsType[*transport.UnauthorizedError](err); ok {
		id = identity.NodeIDOf(e.Key)
		if err := n.trustNew(ctx, addr, id, e.Err); err != nil {
			return nil, err
		}
		return n.dialKey(ctx, addr, id)
	}
	return nil, err
}

// dialAny takes any key that the policy allows.
func (n *Node) dialAny(ctx context.Context, addr string) (*link, error) {
	return n.dialKey(ctx, addr, identity.NodeID{})
}

// dialKnown dials an address whose key is known. Several may be: then it is
// enough that one of them answers.
func (n *Node) dialKnown(ctx context.Context, addr string, id identity.NodeID) (*link, error) {
	l, err := n.dialKey(ctx, addr, id)
	if err == nil && l.RemoteNodeID() != id {
		n.log.Warn("the known key of a node will soon not be its own any more: make the new one known",
			"addr", addr, "known", id, "node", l.RemoteNodeID(), "until", l.Info().OldUntil)
	}
	wrong, ok := errors.AsType[*transport.WrongKeyError](err)
	if !ok {
		return l, err
	}
	got := identity.NodeIDOf(wrong.Got)
	one, changed := n.cfg.KnownPeers.Check(addr, got)
	switch {
	case changed != nil:
		return nil, changed
	case !one:
		return nil, err // the file says something else by now
	}
	if err := n.revoked(got); err != nil {
		return nil, &transport.UnauthorizedError{Addr: addr, Key: got.Key(), Err: err}
	}
	return n.dialKey(ctx, addr, got)
}

// judge decides about the node at the other end of a link that is there, as a
// dial of the target would.
func (n *Node) judge(ctx context.Context, l *link, t target) error {
	r := n.request(l.Link, ActionConnect, "")
	if err := n.revoked(r.Key, r.old); err != nil {
		return &transport.UnauthorizedError{Addr: t.text, Key: r.Key.Key(), Err: err}
	}
	if !t.node.IsZero() {
		return nil
	}
	if n.cfg.KnownPeers != nil {
		if known, err := n.knownAt(t.addr, r); known || err != nil {
			return err
		}
	}
	err := n.authorize(&r)
	switch {
	case err == nil:
		return n.remember(l, t.addr)
	case n.cfg.KnownPeers == nil:
		return &transport.UnauthorizedError{Addr: t.addr, Key: r.Key.Key(), Err: err}
	}
	return n.trustNew(ctx, t.addr, r.Key, err)
}

// knownAt tells whether the key of r, or the one whose place that takes, is
// known at addr. An error says that another one is.
func (n *Node) knownAt(addr string, r Request) (bool, error) {
	known, err := n.cfg.KnownPeers.Check(addr, r.Key)
	if _, changed := errors.AsType[*trust.ChangedKeyError](err); changed && !r.old.IsZero() {
		if old, oldErr := n.cfg.KnownPeers.Check(addr, r.old); old && oldErr == nil {
			return true, nil
		}
	}
	return known, err
}

// remember notes the key of a node at the address that has led to it. That the
// file cannot be written is no reason to refuse a key that the policy allows;
// that the file says no to it is one.
func (n *Node) remember(l *link, addr string) error {
	if n.cfg.KnownPeers == nil {
		return nil
	}
	err := n.cfg.KnownPeers.Add(addr, l.RemoteNodeID())
	if _, changed := errors.AsType[*trust.ChangedKeyError](err); changed {
		return err
	}
	if e, revoked := errors.AsType[*trust.RevokedError](err); revoked {
		n.cast(l)
		return &transport.UnauthorizedError{Addr: addr, Key: l.RemoteNodeID().Key(), Err: e}
	}
	if err != nil {
		n.log.Warn("cannot remember the key of a node", "addr", addr, "node", l.RemoteNodeID(), "err", err)
	}
	return nil
}

// trustNew asks the user about a key that is not known, and that the policy
// does not allow for the reason of no. It makes the key known.
func (n *Node) trustNew(ctx context.Context, addr string, id identity.NodeID, no error) error {
	unauthorized := func(err error) error {
		return &transport.UnauthorizedError{Addr: addr, Key: id.Key(), Err: err}
	}
	if err := n.revoked(id); err != nil {
		return unauthorized(err)
	}
	if n.cfg.TrustNew == nil {
		return unauthorized(no)
	}
	if err := n.askTrust(ctx, addr, id); err != nil {
		return unauthorized(err)
	}
	if err := n.cfg.KnownPeers.Add(addr, id); err != nil {
		return fmt.Errorf("peer: the key of the node at %s is trusted, but cannot be remembered: %w", addr, err)
	}
	return nil
}

func (n *Node) askTrust(ctx context.Context, addr string, id identity.NodeID) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("peer: Config.TrustNew panicked: %v", v)
		}
	}()
	return n.cfg.TrustNew(ctx, addr, id)
}

// auditDial records the end of a dial, if somebody has decided something: that
// nobody answers is no decision.
func (n *Node) auditDial(t target, l *link, err error) {
	if n.audit == nil {
		return
	}
	d := decision{action: "dial", addr: clip(t.addr), node: t.node, allowed: err == nil}
	if err != nil {
		d.reason = clip(err.Error())
	}
	switch {
	case err == nil:
		d.node, d.from = l.RemoteNodeID(), addrPort(l.Info().RemoteAddr)
	default:
		id, decided := judged(err)
		if !decided {
			return
		}
		if !id.IsZero() {
			d.node = id
		}
	}
	n.audit.record(d)
}

// judged tells whether an error of a dial says that a key was judged, and
// which; zero: not known.
func judged(err error) (id identity.NodeID, ok bool) {
	if e, ok := errors.AsType[*transport.UnauthorizedError](err); ok {
		return identity.NodeIDOf(e.Key), true
	}
	if e, ok := errors.AsType[*transport.WrongKeyError](err); ok {
		return identity.NodeIDOf(e.Got), true
	}
	if e, ok := errors.AsType[*trust.ChangedKeyError](err); ok {
		return e.Got, true
	}
	if e, ok := errors.AsType[*transport.RemoteError](err); ok {
		return id, e.Code == transport.CodePSK || e.Code == transport.CodeRefused
	}
	return id, false
}
