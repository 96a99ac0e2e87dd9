package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Close ends the node: its peers end, what their circuits have sent is
// delivered, the connections are closed, and all goroutines of the node are
// joined. It waits up to Config.StopTimeout for services to return and for
// what was sent; see [Node.Shutdown] for its error. Closing again waits for
// the first Close and returns the same.
//
// Circuits that are open then end with [ErrNodeClosed] as the reason: the
// other ends get everything that was sent, and after it a
// [circuit.RemoteError] with the text "peer: node closed", for nobody has said
// that it is complete. Close circuits, or peers, before the node where the
// other ends shall see a clean close.
func (n *Node) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.StopTimeout)
	defer cancel()
	return n.Shutdown(ctx)
}

// Shutdown is Close with the caller's bound instead of Config.StopTimeout. If
// ctx ends first, what is left is dropped; the node is closed all the same.
// Then the error is, or joins, a [StopError] with the services that have not
// returned, and a [circuit.LostError] for each connection on which something
// was not acknowledged.
func (n *Node) Shutdown(ctx context.Context) error {
	if !n.closing.CompareAndSwap(false, true) {
		select {
		case <-n.closed:
			return n.closeErr
		case <-ctx.Done():
			return fmt.Errorf("peer: waiting for the node to close: %w", context.Cause(ctx))
		}
	}
	n.closeErr = n.shutdown(ctx)
	close(n.closed)
	return n.closeErr
}

func (n *Node) shutdown(ctx context.Context) error {
	peers := n.roster.close()
	n.cancel(ErrNodeClosed)
	for _, p := range peers {
		p.end(ErrNodeClosed) // before the links go, so that every circuit ends as its peer does
	}
	errs := n.stopLinks(ctx)
	if err := n.endpoint.Close(); err != nil {
		errs = append(errs, fmt.Errorf("peer: %w", err))
	}
	errs = append(errs, awaitServices(ctx, peers))
	n.wg.Wait()
	n.audit.close()
	return errors.Join(errs...)
}

// stopLinks lets every link deliver what its circuits have sent.
func (n *Node) stopLinks(ctx context.Context) []error {
	ls := n.links.close()
	errs := make([]error, len(ls))
	var wg sync.WaitGroup
	for i, l := range ls {
		wg.Go(func() { errs[i] = l.Shutdown(ctx, ErrNodeClosed) })
	}
	wg.Wait()
	return errs
}

// awaitServices waits until the service functions of the peers have returned.
func awaitServices(ctx context.Context, peers []*LocalPeer) error {
	var left []string
	for _, p := range peers {
		select {
		case <-p.done:
			continue
		default:
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			left = append(left, p.service)
		}
	}
	if left == nil {
		return nil
	}
	slices.Sort(left)
	return &StopError{Services: left}
}
