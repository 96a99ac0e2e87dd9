package peer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"ckt.local/circuit"
	"ckt.local/transport"
)

// redial makes one try at another connection to the process of a link that has
// lost the one it had, or seems to: at the address where it was last, and at
// those that were dialled, which may lead elsewhere by now. The first that
// answers counts.
//
// A node that has come here by itself is dialled only as long as it may come.
func (n *Node) redial(ctx context.Context, l *link) error {
	if !l.ours { // a revoked key the endpoint refuses in any case
		r := n.request(l.Link, ActionConnect, "")
		if err := n.authorize(&r); err != nil {
			return fmt.Errorf("%w: %w", transport.ErrUnreachable, err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	last := addrText(l.Info().RemoteAddr)
	n.links.mu.Lock()
	names := maps.Clone(l.names)
	n.links.mu.Unlock()
	names[last] = true
	addrs := slices.Sorted(maps.Keys(names)) // in an order that a simulation can repeat
	type answer struct {
		addr string
		err  error
	}
	answers := make(chan answer, len(addrs))
	for _, addr := range addrs {
		n.wg.Go(func() { answers <- answer{addr, n.redialAt(ctx, l, addr)} })
	}
	var failed error
	done := false
	for range addrs {
		a := <-answers
		switch {
		case a.err == nil:
			done = true
			cancel()
		case a.addr == last || failed == nil:
			failed = a.err
		}
	}
	if done {
		return nil
	}
	return failed
}

func (n *Node) redialAt(ctx context.Context, l *link, addr string) error {
	conn, err := n.endpoint.Redial(ctx, addr, l.RemoteNodeID().Key())
	if err != nil {
		return err
	}
	m, err := n.adopt(conn, "")
	switch {
	case err != nil:
		// Not %w: that this side has just closed conn, or the link before it,
		// must not look as if the endpoint were closed, or as a goodbye.
		return fmt.Errorf("%w at %s: %v", transport.ErrUnreachable, addr, err)
	case m == l:
		return nil
	case errors.Is(context.Cause(l.Context()), circuit.ErrPeerRestarted):
		return circuit.ErrPeerRestarted
	}
	return fmt.Errorf("%w: another process answers at %s", transport.ErrUnreachable, addr)
}
