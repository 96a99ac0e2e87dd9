package peer

import (
	"errors"
	"fmt"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// revokedEvery is how often the keys of those that are connected are looked at:
// so long a key may be of use after it was revoked.
const revokedEvery = 5 * time.Second

// errRevoked is what circuits of a revoked key end with. The other side may
// learn it.
var errRevoked = errors.New("peer: the key of the other node is revoked here")

// revoked asks whether any of these keys is not to be believed any more. Zero
// is none.
func (n *Node) revoked(ids ...identity.NodeID) (err error) {
	if n.cfg.Revoked == nil {
		return nil
	}
	return n.cfg.revokes(ids...)
}

// revokes is asked by nodes, and before there is one. A Revoked that panics
// must neither end the process nor let anybody in.
func (c Config) revokes(ids ...identity.NodeID) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("peer: Config.Revoked panicked: %v", v)
		}
	}()
	for _, id := range ids {
		if id.IsZero() {
			continue
		}
		if err := c.Revoked(id); err != nil {
			return err
		}
	}
	return nil
}

// endRevoked ends the links whose keys come to be revoked, those that wait for
// another connection too. It runs as long as the node lives.
func (n *Node) endRevoked() {
	tick := time.NewTicker(revokedEvery)
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
		for _, l := range n.links.all() {
			if l.self || l.Context().Err() != nil {
				continue
			}
			r := n.request(l.Link, ActionConnect, "")
			// Also that one whose statement is over by now: it has let the link in.
			if old := l.Info().OldKey; old != nil {
				r.old = identity.NodeIDOf(old)
			}
			if err := n.revoked(r.Key, r.old); err != nil {
				n.log.Warn("ends the connection of a revoked key", "node", r.Key, "err", err)
				n.audit.record(decisionOf(r, "revoked", err))
				n.cast(l)
			}
		}
	}
}

// cast ends a link, and tells the other side that its key is not allowed any
// more. What waits for that process is lost.
func (n *Node) cast(l *link) {
	n.links.mu.Lock()
	conn := l.conn
	n.links.mu.Unlock()
	conn.Close(transport.CodeRevoked, errRevoked.Error()) // nothing, if it has ended
	l.Abandon(errRevoked)
}
