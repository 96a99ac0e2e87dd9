package peer

import (
	"context"
	"errors"

	"ckt.local/circuit"
	"ckt.local/transport/identity"
)

// An acceptor is a node as its links know it.
type acceptor struct{ *Node }

var _ circuit.Acceptor = acceptor{}

// AcceptCircuit decides about a circuit that another node wants to open to a
// peer of this one. The policy is asked first: a key that is not allowed must
// not learn which services and peers there are.
func (n acceptor) AcceptCircuit(_ context.Context, req circuit.OpenRequest) (circuit.Acceptance, error) {
	if n.ctx.Err() != nil {
		return circuit.Acceptance{}, refuse(circuit.RefusedShutdown, "")
	}
	if err := identity.ValidServiceName(req.ToService); err != nil {
		return circuit.Acceptance{}, refuse(circuit.RefusedBadRequest, "no service can have this name")
	}
	l := &link{Link: req.Link} // to know where requests of the circuit come from
	p, err := n.takerOf(l, req)
	if err != nil {
		return circuit.Acceptance{}, err
	}
	return circuit.Acceptance{PeerID: p.id, Seed: p.seed, Owner: owner{p, l}, Deliver: p.deliver}, nil
}

// takerOf returns the peer that takes a circuit, or a refusal.
func (n *Node) takerOf(l *link, req circuit.OpenRequest) (*LocalPeer, error) {
	r := Request{Node: l.RemoteNodeID(), From: l.from(), Action: ActionOpen, Service: req.ToService}
	if req.ToService == nodeService {
		r.Action, r.Service = ActionConnect, ""
	}
	if n.authorize(r) != nil {
		return nil, refuse(circuit.RefusedUnauthorized, "")
	}
	if !req.ToPeerID.IsZero() {
		if p, ok := n.roster.find(req.ToPeerID, req.ToService); ok {
			return p, nil
		}
		return nil, refuse(circuit.RefusedUnknownPeer, "")
	}
	if p, ok := n.roster.any(req.ToService); ok {
		return p, nil
	}
	if !n.roster.knows(req.ToService) {
		return nil, refuse(circuit.RefusedUnknownService, "")
	}
	return n.startFor(r, n.roster.anyOrStart)
}

// startFor starts a peer for another node, if that is allowed; the error is a
// refusal. The peer belongs to this node and lives on when the asker leaves.
func (n *Node) startFor(r Request, start func(starter) (*LocalPeer, error)) (*LocalPeer, error) {
	r.Action = ActionStart
	if n.authorize(r) != nil {
		return nil, refuse(circuit.RefusedUnauthorized, "")
	}
	p, err := start(starter{node: n, ctx: n.ctx, service: r.Service, by: r.Node})
	if err == nil {
		return p, nil
	}
	n.log.Info("did not start a peer", "request", r, "err", err)
	if limit, ok := errors.AsType[*limitError](err); ok {
		return nil, refuse(circuit.RefusedLimit, "%d peers that the asking node has started are running on the other: stop some, or raise the limit there", limit.limit)
	}
	switch {
	case errors.Is(err, ErrUnknownService):
		return nil, refuse(circuit.RefusedUnknownService, "")
	case errors.Is(err, ErrNodeClosed):
		return nil, refuse(circuit.RefusedShutdown, "")
	}
	return nil, err
}
