package peer

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"ckt.local/circuit"
)

// nodeService is the service that every node runs one peer of. Others open
// circuits to it to ask for what is not a circuit to a peer. A request is one
// fragment, and its FragOp says which; the answers carry the same FragOp, or
// opRefused. Requests on one circuit are answered one after the other.
//
// The numbers and keys are part of the wire format (docs/wire.md).
const nodeService = libraryPrefix + "node"

const (
	opRefused  = 1 + iota // answer: argCode, argReason; with RefusedLimit argLimit, argValue
	opPing                // answered with the same FragPart
	opStart               // argService; answer: argPeer
	opList                // answered by any number of opListPage, then opList
	opListPage            // Payload: a wirePage
	opAddr                // answer: argAddr
	opStop                // argPeer
	opLimits              // answer: Payload, a wireLimits
)

const (
	argService = "service"
	argPeer    = "peer"
	argAddr    = "addr"
	argCode    = "code"
	argReason  = "reason"
	argLimit   = "limit"
	argValue   = "value"
)

func (n *Node) startNodeService() (*LocalPeer, error) {
	n.roster.mu.Lock()
	defer n.roster.mu.Unlock()
	return n.roster.launch(starter{node: n, ctx: n.ctx, service: nodeService}, n.serveNode)
}

// serveNode is the service function. The goroutines of its circuits end with
// the circuits, which end with ctx0.
func (n *Node) serveNode(p *LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx0.Done():
			return nil
		case c := <-newCircuitCh:
			wg.Go(func() { n.serveRequests(ctx0, p, c) })
		}
	}
}

func (n *Node) serveRequests(ctx context.Context, p *LocalPeer, c *circuit.Circuit) {
	defer c.Close()
	l := p.linkOf(c)
	if l == nil {
		return // the circuit has ended while it waited
	}
	for f, err := range c.Fragments(ctx) {
		if f == nil || err != nil {
			return
		}
		if err := n.serveRequest(ctx, l, c, f); err != nil {
			return // the circuit has ended, or ctx
		}
	}
}

// serveRequest answers f. Its error is that of sending the answer.
func (n *Node) serveRequest(ctx context.Context, l *link, c *circuit.Circuit, f *circuit.Fragment) error {
	r := n.request(l.Link, ActionConnect, "")
	r.ask = true
	if !r.self {
		if err := n.pace(ctx, l, r); err != nil {
			return c.Send(ctx, answerTo(f, refusal(err)))
		}
	}
	reply := &circuit.Fragment{FragOp: f.FragOp, FragPart: f.FragPart}
	var err error
	switch f.FragOp {
	case opPing:
		err = n.recheck(r)
	case opAddr:
		err = n.recheck(r)
		reply.Args = map[string]string{argAddr: n.advertised}
	case opStart:
		reply.Args, err = n.serveStart(r, f.Args[argService])
	case opStop:
		err = n.serveStop(r, f.Args[argPeer])
	case opList:
		if err = n.mayList(r); err == nil {
			reply.Payload, err = n.sendPages(ctx, c)
		}
	case opLimits:
		if err = n.mayList(r); err == nil {
			reply.Payload, err = limitsOut(n.Limits())
		}
	default:
		err = refuse(circuit.RefusedBadRequest, "unknown operation %d", f.FragOp)
	}
	if err != nil {
		reply = answerTo(f, refusal(err))
	}
	return c.Send(ctx, reply)
}

// answerTo makes a refusal the answer to f.
func answerTo(f, no *circuit.Fragment) *circuit.Fragment {
	no.FragPart = f.FragPart
	return no
}

// pace counts a request as an opening, for it costs as much: who asks too often
// waits, and the next requests of its circuit with it.
func (n *Node) pace(ctx context.Context, l *link, r Request) error {
	err := l.Pace(ctx)
	if limitOf(err) == nil {
		return nil // or ctx has ended, as the answer will find
	}
	n.audit.record(decisionOf(r, "connect", err))
	return refuseAs(err)
}

// recheck asks the policy about a request that needs no more than to be
// connected, and of which nobody wants to read a record where it is allowed.
func (n *Node) recheck(r Request) error {
	err := n.authorize(&r)
	if err == nil {
		return nil
	}
	n.audit.record(decisionOf(r, "connect", err))
	return refuseAs(err)
}

func (n *Node) mayList(r Request) error {
	r.Action = ActionList
	err := n.authorize(&r)
	n.audit.record(decisionOf(r, "list", err))
	if err != nil {
		return refuseAs(err)
	}
	return nil
}

func (n *Node) serveStart(r Request, service string) (map[string]string, error) {
	r.Service = service
	if err := n.checkName(service); err != nil {
		n.audit.record(decisionOf(r, "start", err))
		return nil, err
	}
	p, err := n.startFor(r, n.roster.start)
	if err != nil {
		return nil, err
	}
	return map[string]string{argPeer: p.PeerID()}, nil
}

// serveStop ends a peer for the node that has started it, or for one with this
// node's key.
func (n *Node) serveStop(r Request, peerID string) error {
	p, err := n.stoppable(&r, peerID)
	d := decisionOf(r, "stop", err)
	d.peer = clip(peerID)
	if p != nil {
		d.service = p.service
	}
	n.audit.record(d)
	if err != nil {
		return err
	}
	p.Close()
	return nil
}

// stoppable returns the peer that r may stop, or a refusal. Others learn no
// more than an opening of a circuit would tell them: that there is such a
// peer, if they may open its service.
func (n *Node) stoppable(r *Request, peerID string) (*LocalPeer, error) {
	if err := n.authorize(r); err != nil {
		return nil, refuseAs(err)
	}
	id, err := circuit.ParseID(peerID)
	if err != nil || id.IsZero() {
		return nil, refuse(circuit.RefusedBadRequest, "no peer can have this ID")
	}
	p, ok := n.roster.byID(id)
	if !ok || p == n.service {
		return nil, refuse(circuit.RefusedUnknownPeer, "")
	}
	if r.self || r.is(n.ID()) || r.is(p.startedBy) {
		return p, nil
	}
	open := *r
	open.Action, open.Service, open.ask = ActionOpen, p.service, false
	if n.authorize(&open) != nil {
		return nil, refuse(circuit.RefusedUnknownPeer, "")
	}
	return nil, refuse(circuit.RefusedUnauthorized, "")
}

// refusal is the answer that carries a no, as a circuit's opening would.
func refusal(err error) *circuit.Fragment {
	told := &circuit.Refusal{Code: circuit.RefusedInternal}
	if r, ok := errors.AsType[*circuit.Refusal](err); ok {
		told = r
	}
	args := map[string]string{
		argCode:   strconv.FormatUint(uint64(told.Code), 10),
		argReason: told.Reason,
	}
	if told.Limit != nil {
		args[argLimit] = told.Limit.What
		args[argValue] = strconv.FormatInt(told.Limit.Limit, 10)
	}
	return &circuit.Fragment{FragOp: opRefused, Args: args}
}
