package peer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
)

// askStart asks the node at the other end to start a peer.
func (n *Node) askStart(ctx context.Context, l *link, service string) (circuit.ID, error) {
	c, err := n.ask(ctx, l, service, &circuit.Fragment{FragOp: opStart, Args: map[string]string{argService: service}})
	if err != nil {
		return circuit.ID{}, err
	}
	defer c.Close()
	f, err := n.answer(ctx, c, opStart, service)
	if err != nil {
		return circuit.ID{}, err
	}
	id, err := circuit.ParseID(f.Args[argPeer])
	if err != nil || id.IsZero() {
		return circuit.ID{}, fmt.Errorf("peer: %v answers with a broken peer ID", l.RemoteNodeID())
	}
	return id, nil
}

// askStop asks the node at the other end to end a peer.
func (n *Node) askStop(ctx context.Context, l *link, u URL) error {
	c, err := n.ask(ctx, l, u.Service, &circuit.Fragment{FragOp: opStop, Args: map[string]string{argPeer: u.PeerID.String()}})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = n.answer(ctx, c, opStop, u.Service)
	return err
}

// addrWait bounds the wait for a node's word about its address, which the
// reaching of another may have to wait for.
const addrWait = 2 * time.Second

// askAddr asks the node at the other end for its address in URLs.
func (n *Node) askAddr(ctx context.Context, l *link) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, addrWait)
	defer cancel()
	c, err := n.ask(ctx, l, nodeService, &circuit.Fragment{FragOp: opAddr})
	if err != nil {
		return "", err
	}
	defer c.Close()
	f, err := n.answer(ctx, c, opAddr, nodeService)
	if err != nil {
		return "", err
	}
	return parseAddr(f.Args[argAddr])
}

// askPings makes count round trips over one circuit.
func (n *Node) askPings(ctx context.Context, l *link, count int, each func(rtt time.Duration)) error {
	open, cancel := n.withDeadline(ctx)
	defer cancel()
	c, err := n.ask(open, l, nodeService, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range count {
		rtt, err := n.askPing(ctx, c, int64(i))
		if err != nil {
			return err
		}
		each(rtt)
	}
	return nil
}

func (n *Node) askPing(ctx context.Context, c *circuit.Circuit, part int64) (time.Duration, error) {
	ctx, cancel := n.withDeadline(ctx)
	defer cancel()
	sent := time.Now()
	if err := c.Send(ctx, &circuit.Fragment{FragOp: opPing, FragPart: part}); err != nil {
		return 0, err
	}
	f, err := n.answer(ctx, c, opPing, nodeService)
	if err != nil {
		return 0, err
	}
	if f.FragPart != part {
		return 0, fmt.Errorf("peer: %v answers another ping", c.RemoteNodeID())
	}
	return time.Since(sent), nil
}

// ask opens a circuit to the node service at the other end. A refusal reads
// as one of service.
func (n *Node) ask(ctx context.Context, l *link, service string, request *circuit.Fragment) (*circuit.Circuit, error) {
	c, err := n.service.openOn(ctx, l, URL{Service: nodeService}, request)
	if refused, ok := errors.AsType[*circuit.RefusedError](err); ok {
		told := *refused
		told.Service = service
		return nil, &told
	}
	return c, err
}

// answer reads one fragment that answers op. A refusal in it is a
// RefusedError of service.
func (n *Node) answer(ctx context.Context, c *circuit.Circuit, op int, service string) (*circuit.Fragment, error) {
	f, err := read(ctx, c)
	if err != nil {
		return nil, err
	}
	return check(c, f, op, service)
}

// check tells an answer to op from a refusal, and from anything else.
func check(c *circuit.Circuit, f *circuit.Fragment, op int, service string) (*circuit.Fragment, error) {
	switch {
	case f.FragOp == opRefused:
		code, err := strconv.ParseUint(f.Args[argCode], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("peer: %v refuses without a code", c.RemoteNodeID())
		}
		reason := f.Args[argReason]
		return nil, &circuit.RefusedError{
			Code:    circuit.RefuseCode(code),
			Reason:  reason[:min(len(reason), maxReason)],
			Node:    c.RemoteNodeID(),
			Service: service,
			Limit:   remoteLimit(circuit.RefuseCode(code), f.Args),
		}
	case f.FragOp != op:
		return nil, fmt.Errorf("peer: %v answers with an operation %d", c.RemoteNodeID(), f.FragOp)
	}
	return f, nil
}

// remoteLimit is the limit in a refusal; nil: none.
func remoteLimit(code circuit.RefuseCode, args map[string]string) *transport.LimitError {
	value, err := strconv.ParseUint(args[argValue], 10, 64)
	if code != circuit.RefusedLimit || err != nil {
		return nil
	}
	return transport.RemoteLimit(args[argLimit], value)
}

// read returns the next fragment of c, or why there is none.
func read(ctx context.Context, c *circuit.Circuit) (*circuit.Fragment, error) {
	select {
	case f, ok := <-c.Reads:
		if ok {
			return f, nil
		}
	case f, ok := <-c.Errors:
		if ok {
			return nil, &circuit.RemoteError{Reason: f.Err}
		}
	case <-ctx.Done():
		if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
			return nil, cause
		}
		return nil, fmt.Errorf("%w: %v does not answer", transport.ErrUnreachable, c.RemoteNodeID())
	}
	<-c.Context.Done() // follows at once: nothing is left to read
	return nil, context.Cause(c.Context)
}
