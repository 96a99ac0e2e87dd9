package peer

import (
	"context"
	"errors"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
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
	r := n.request(req.Link, ActionOpen, req.ToService)
	p, err := n.takerOf(&r, req)
	if p != n.service && n.audit != nil { // nobody else needs the texts in it
		d := openingOf(r, req, err)
		if p != nil {
			d.peer = p.PeerID()
		}
		n.audit.record(d)
	}
	if err != nil {
		return circuit.Acceptance{}, err
	}
	acc := circuit.Acceptance{PeerID: p.id, Seed: p.seed, Deliver: p.deliver}
	o := owner{p: p}
	if p == n.service {
		o.l = &link{Link: req.Link} // it is to know where requests of the circuit come from
	}
	if acc.Owner = o; p == n.service && !r.self {
		acc.Owner = visitor{o}
	}
	return acc, nil
}

// CircuitRefused writes down what AcceptCircuit has not seen.
func (n acceptor) CircuitRefused(req circuit.OpenRequest, err error) {
	if _, ok := errors.AsType[*circuit.Refusal](err); !ok || n.ctx.Err() != nil {
		return // the opener has given up, or this node goes
	}
	r := n.request(req.Link, ActionOpen, req.ToService)
	d := openingOf(r, req, err)
	d.node = r.account
	n.audit.record(d)
}

// openingOf begins the record of an opening.
func openingOf(r Request, req circuit.OpenRequest, err error) decision {
	d := decisionOf(r, "open", err)
	if req.ToService == nodeService {
		d.action, d.service = "connect", nodeService
	}
	d.circuit = req.CircuitID.String()
	return d
}

// takerOf returns the peer that takes a circuit, or a refusal.
func (n *Node) takerOf(r *Request, req circuit.OpenRequest) (*LocalPeer, error) {
	if err := n.checkName(req.ToService); err != nil {
		return nil, err
	}
	r.Circuits = req.Circuits
	if req.ToService == nodeService {
		r.Action, r.Service, r.Circuits, r.ask = ActionConnect, "", 0, true
	}
	if err := n.authorize(r); err != nil {
		return nil, refuseAs(err)
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
	return n.startFor(*r, n.roster.anyOrStart)
}

// checkName refuses a name of a service that another node asks for.
func (n *Node) checkName(service string) error {
	if err := identity.ValidServiceName(service); err != nil {
		return refuse(circuit.RefusedBadRequest, "no service can have this name")
	}
	if most := n.ledger.Limits().Peer.Name; len(service) > most && service != nodeService {
		return refuseLimit(&transport.LimitError{What: "service name bytes", Size: int64(len(service)), Limit: int64(most)})
	}
	return nil
}

// startFor starts a peer for another node, if that is allowed; the error is a
// refusal. The peer belongs to this node and lives on when the asker leaves.
func (n *Node) startFor(r Request, start func(starter) (*LocalPeer, error)) (*LocalPeer, error) {
	r.Action, r.Circuits, r.ask = ActionStart, 0, false
	p, err := n.startAllowed(&r, start)
	d := decisionOf(r, "start", err)
	if p != nil {
		d.peer = p.PeerID()
	}
	n.audit.record(d)
	return p, err
}

func (n *Node) startAllowed(r *Request, start func(starter) (*LocalPeer, error)) (*LocalPeer, error) {
	if !r.self {
		if err := n.ledger.Allow(limit.Starts, r.account); err != nil {
			return nil, refuseAs(err)
		}
	}
	if err := n.authorize(r); err != nil {
		return nil, refuseAs(err)
	}
	s := starter{node: n, ctx: n.ctx, service: r.Service, by: r.Key}
	if !r.self {
		s.account = r.account
	}
	p, err := start(s)
	if err == nil {
		return p, nil
	}
	n.log.Info("did not start a peer", "request", *r, "err", err)
	switch {
	case limitOf(err) != nil:
		return nil, refuseAs(err)
	case errors.Is(err, ErrUnknownService):
		return nil, refuse(circuit.RefusedUnknownService, "")
	case errors.Is(err, ErrNodeClosed):
		return nil, refuse(circuit.RefusedShutdown, "")
	}
	return nil, err
}
