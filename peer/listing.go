package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/identity"
)

// A Listing is what ran on a node at one moment. The node's own service and
// its circuits are left out, and so is a connection to itself. All times are by that node's clock.
type Listing struct {
	Node     identity.NodeID
	Addr     string // host:port in the node's URLs
	Started  time.Time
	At       time.Time     // when the listing was made
	Peers    []PeerInfo    // in the order of their start
	Links    []LinkInfo    // in the order of their opening
	Circuits []CircuitInfo // in the order of their opening
}

// A PeerInfo describes a running peer.
type PeerInfo struct {
	Service   string
	PeerID    string
	Started   time.Time
	StartedBy identity.NodeID // zero: the node itself
	Circuits  int             // that have not ended
}

// A LinkInfo describes the connection to one process of another node: the one
// there is, or, while there is none and somebody waits for the next, the last.
type LinkInfo struct {
	Node     identity.NodeID // at the other end
	Addr     string          // of the other end
	Since    time.Time       // the opening of the connection
	Dialed   bool            // the listed node has dialled
	Attached bool            // the connection is there
	Lost     time.Time       // since when it is not; zero if that is not known
	Circuits int             // those listed that it carries, or that wait for the next
}

// A CircuitInfo describes one end of a circuit. One that is neither attached
// nor ended waits for another connection; one that has ended is listed while
// it has fragments that can be read.
type CircuitInfo struct {
	CircuitID     string
	Service       string // of the local peer
	LocalPeerID   string
	RemoteService string
	RemotePeerID  string
	RemoteNode    identity.NodeID
	Attached      bool
	Ended         bool
	Since         time.Time // when Attached or Ended came to be what it is
	circuit.Stats
}

// Listing returns what runs on this node now.
func (n *Node) Listing() Listing {
	ls := Listing{Node: n.ID(), Addr: n.advertised, Started: n.started, At: time.Now()}
	listed := make(map[string]bool) // by circuit ID
	for _, p := range n.roster.all() {
		if p == n.service {
			continue
		}
		cs := p.Circuits()
		ls.Peers = append(ls.Peers, PeerInfo{
			Service: p.service, PeerID: p.PeerID(), Started: p.started,
			StartedBy: p.startedBy, Circuits: len(cs),
		})
		for _, c := range cs {
			ls.Circuits = append(ls.Circuits, circuitInfo(p, c))
			listed[c.CircuitID()] = true
		}
	}
	for _, l := range n.links.all() {
		if !l.self && l.Context().Err() == nil {
			ls.Links = append(ls.Links, linkInfo(l, listed))
		}
	}
	slices.SortFunc(ls.Links, func(a, b LinkInfo) int { return a.Since.Compare(b.Since) })
	slices.SortFunc(ls.Circuits, func(a, b CircuitInfo) int {
		return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.CircuitID, b.CircuitID))
	})
	return ls
}

func circuitInfo(p *LocalPeer, c *circuit.Circuit) CircuitInfo {
	st := c.State()
	return CircuitInfo{
		CircuitID: c.CircuitID(), Service: p.service, LocalPeerID: p.PeerID(),
		RemoteService: c.RemoteService(), RemotePeerID: c.RemotePeerID(), RemoteNode: c.RemoteNodeID(),
		Attached: st.Attached, Ended: st.Ended, Since: st.Since,
		Stats: c.Stats(),
	}
}

// linkInfo describes l, to which those of the listed circuits belong that it
// knows.
func linkInfo(l *link, listed map[string]bool) LinkInfo {
	info := l.Info()
	li := LinkInfo{
		Node: l.RemoteNodeID(), Addr: addrText(info.RemoteAddr), Since: info.Opened, Dialed: info.Dialed,
		Attached: l.Attached(),
	}
	for _, c := range l.Circuits() {
		if listed[c.CircuitID()] {
			li.Circuits++
		}
		// All circuits lose a connection in the same moment, but one may have
		// been off it before.
		if st := c.State(); !li.Attached && !st.Attached && !st.Ended && st.Since.After(li.Lost) {
			li.Lost = st.Since
		}
	}
	return li
}

// Bounds of a listing on the wire. Pages are small, so that they fit into the
// fragments of any node; a listing is not, but a node cannot make the asker
// keep more than this.
const (
	maxPageRows  = 500
	maxPageBytes = 16 << 10
	maxListRows  = 1 << 18
)

// sendPages sends the rows of this node's listing, and returns its head.
func (n *Node) sendPages(ctx context.Context, c *circuit.Circuit) ([]byte, error) {
	ls := n.Listing()
	limit := maxPageBytes
	if m := n.ledger.Limits().Circuit.Payload; m > 0 {
		limit = min(limit, m)
	}
	for page := range pages(ls, limit) {
		b, err := page.MarshalMsg(nil)
		if err != nil {
			return nil, err
		}
		if err := c.Send(ctx, &circuit.Fragment{FragOp: opListPage, Payload: b}); err != nil {
			return nil, err
		}
	}
	head := headOf(ls)
	return head.MarshalMsg(nil)
}

// askList asks the node at the other end for its listing.
func (n *Node) askList(ctx context.Context, l *link) (Listing, error) {
	c, err := n.ask(ctx, l, nodeService, &circuit.Fragment{FragOp: opList})
	if err != nil {
		return Listing{}, err
	}
	defer c.Close()
	var ls Listing
	for {
		f, err := read(ctx, c)
		if err != nil {
			return Listing{}, err
		}
		if f.FragOp == opListPage {
			if err := ls.addPage(f.Payload); err != nil {
				return Listing{}, fmt.Errorf("peer: listing of %v: %w", l.RemoteNodeID(), err)
			}
			continue
		}
		if f, err = check(c, f, opList, nodeService); err != nil {
			return Listing{}, err
		}
		if err := ls.setHead(f.Payload); err != nil {
			return Listing{}, fmt.Errorf("peer: listing of %v: %w", l.RemoteNodeID(), err)
		}
		ls.Node = l.RemoteNodeID()
		return ls, nil
	}
}

// addPage adds the rows of a page that has come from another node.
func (ls *Listing) addPage(b []byte) error {
	var page wirePage
	rest, err := page.UnmarshalMsg(b)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errors.New("bytes after the page")
	}
	rows := len(ls.Peers) + len(ls.Links) + len(ls.Circuits)
	if rows += len(page.Peers) + len(page.Links) + len(page.Circuits); rows > maxListRows {
		return fmt.Errorf("more than %d rows", maxListRows)
	}
	return page.addTo(ls)
}

// setHead takes the end of a listing that has come from another node.
func (ls *Listing) setHead(b []byte) error {
	var head wireHead
	if _, err := head.UnmarshalMsg(b); err != nil {
		return err
	}
	addr, err := parseAddr(head.Addr)
	if err != nil {
		return err
	}
	ls.Addr, ls.Started, ls.At = addr, timeOf(head.Started), timeOf(head.At)
	return nil
}
