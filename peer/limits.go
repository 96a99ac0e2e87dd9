package peer

import (
	"context"
	"errors"
	"fmt"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// maxLimitRows bounds the list of limits that another node may send.
const maxLimitRows = 64

// Limits returns what other nodes use of this one, against its limits: the
// rows of its [limit.Ledger], and after them what there is of other things
// that have no bound in all, and so a Limit of 0.
func (n *Node) Limits() []limit.Use {
	rows := n.ledger.Uses()
	links, waiting := limit.Use{What: "links"}, limit.Use{What: "links that wait", PerNode: maxAway}
	away := make(map[identity.NodeID]int64)
	for _, l := range n.links.all() {
		switch {
		case l.self || l.Context().Err() != nil:
		case l.Attached():
			links.Used++
		default:
			waiting.Used++
			id := l.Account()
			if away[id]++; away[id] > waiting.TopUsed {
				waiting.Top, waiting.TopUsed = id, away[id]
			}
		}
	}
	running := limit.Use{What: "running peers", Used: int64(n.roster.count())}
	return append(rows, running, links, waiting)
}

// limitsOut writes a list of limits for another node.
func limitsOut(rows []limit.Use) ([]byte, error) {
	var w wireLimits
	for _, u := range rows[:min(len(rows), maxLimitRows)] {
		w.Rows = append(w.Rows, wireUse{
			What: u.What, Used: u.Used, Limit: u.Limit,
			Top: u.Top, TopUsed: u.TopUsed, PerNode: u.PerNode, Refused: u.Refused,
		})
	}
	return w.MarshalMsg(nil)
}

// limitsIn reads a list of limits that has come from another node, so that it
// can be printed as it is.
func limitsIn(b []byte) ([]limit.Use, error) {
	var w wireLimits
	rest, err := w.UnmarshalMsg(b)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, errors.New("bytes after the rows")
	}
	rows := make([]limit.Use, 0, len(w.Rows))
	for _, u := range w.Rows {
		rows = append(rows, limit.Use{
			What: transport.RemoteLimit(u.What, 0).What, Used: max(0, u.Used), Limit: max(0, u.Limit),
			Top: u.Top, TopUsed: max(0, u.TopUsed), PerNode: max(0, u.PerNode), Refused: max(0, u.Refused),
		})
	}
	return rows, nil
}

// askLimits asks the node at the other end for its limits.
func (n *Node) askLimits(ctx context.Context, l *link) ([]limit.Use, error) {
	c, err := n.ask(ctx, l, nodeService, &circuit.Fragment{FragOp: opLimits})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	f, err := n.answer(ctx, c, opLimits, nodeService)
	if err != nil {
		return nil, err
	}
	rows, err := limitsIn(f.Payload)
	if err != nil {
		return nil, fmt.Errorf("peer: limits of %v: %w", l.RemoteNodeID(), err)
	}
	return rows, nil
}
