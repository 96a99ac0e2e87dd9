package peer

import (
	"context"
	"time"

	"ckt.local/transport/limit"
)

// An API registers services on its node, starts peers here and elsewhere, and
// asks other nodes about theirs. Its methods may be called from any goroutine.
//
// While a node does not answer, every method that needs it tries again until
// its time is over; one try takes at most 5 s.
//
// Where a method takes a remoteAddr, that is a host:port, the URL of a node or
// a peer, or the ID of a node that is connected already; the errors are those
// of [Node.Connect], and [circuit.RefusedError] if the other node says no. A
// connection that is there is used, whoever dialled it.
type API struct{ n *Node }

// RegisterPeerServiceFunc makes f the service of that name on this node: 1 to
// 64 of the characters A-Z a-z 0-9 . _ -, the first a letter or a digit, and
// not beginning with "ckt.". Any other is [ErrBadName], a name that is taken
// is [ErrDuplicateName].
func (a *API) RegisterPeerServiceFunc(name string, f PeerServiceFunc) error {
	return a.n.roster.register(name, f)
}

// StartLocalPeer starts a peer of a service that is registered here; another
// is [ErrUnknownService]. ctx is the peer's life: its end ends the peer, with
// [context.Cause] of ctx, such as [context.Canceled], as the reason that the
// other ends of its circuits get. [LocalPeer.Close] is the clean end.
func (a *API) StartLocalPeer(ctx context.Context, name string) (*LocalPeer, error) {
	return a.n.roster.start(starter{node: a.n, ctx: ctx, service: name})
}

// StartRemotePeer starts a peer of the named service on another node, a new
// one at each call, and returns its URL and peer ID. The peer belongs to the
// node it runs on: it lives on when this one leaves, until
// [API.StopRemotePeer] or its own end. Where the other node's limits are
// reached, on peers that this one has started and that run, on all that others
// have, or on starts in a second, the answer is a refusal with
// [circuit.RefusedLimit] that wraps a [transport.LimitError].
//
// While the node cannot be reached, it is tried again until waitUpTo is over;
// then the error is [transport.ErrUnreachable]. Any answer, a refusal too, is
// final. 0 is 10 s, negative waits as long as ctx lets it.
func (a *API) StartRemotePeer(ctx context.Context, name, remoteAddr string, waitUpTo time.Duration) (peerURL, peerID string, err error) {
	t, err := a.n.parseTarget(remoteAddr)
	if err != nil {
		return "", "", err
	}
	ctx, cancel := a.n.alive(within(ctx, waitUpTo))
	defer cancel()
	l, err := a.n.reach(ctx, t)
	if err != nil {
		return "", "", err
	}
	id, err := a.n.askStart(ctx, l, name)
	if err != nil {
		return "", "", err
	}
	u := URL{Node: l.RemoteNodeID(), Addr: t.addr, Service: name, PeerID: id}
	if u.Addr == "" {
		u.Addr = addrText(l.Info().RemoteAddr)
	}
	return u.String(), id.String(), nil
}

// StopRemotePeer ends the peer at peerURL as [LocalPeer.Close] does there. It
// may be asked for by the node that has started the peer, and by one with the
// same key as the node that the peer runs on. It returns when the peer's
// circuits have been closed; its service function may take longer to return,
// and counts until then.
//
// A peer that is not running (any more) is a [circuit.RefusedError] with
// [circuit.RefusedUnknownPeer], somebody else's one with
// [circuit.RefusedUnauthorized]; [Listing] tells who has started what. A text
// that names no peer is a [URLError]. If ctx has no deadline it takes at most
// 10 s.
func (a *API) StopRemotePeer(ctx context.Context, peerURL string) error {
	u, err := a.n.parseURL(peerURL)
	switch {
	case err != nil:
		return err
	case u.PeerID.IsZero():
		return urlError(peerURL, "names no peer")
	case !u.CircuitID.IsZero():
		return urlError(peerURL, "names a circuit, not a peer")
	}
	ctx, cancel := a.n.withDeadline(ctx)
	defer cancel()
	l, err := a.n.reach(ctx, u.target(peerURL))
	if err != nil {
		return err
	}
	return a.n.askStop(ctx, l, u)
}

// List returns what runs on another node: its peers, connections and
// circuits, but for those of its own service. If ctx has no deadline it takes
// at most 10 s.
func (a *API) List(ctx context.Context, remoteAddr string) (Listing, error) {
	t, err := a.n.parseTarget(remoteAddr)
	if err != nil {
		return Listing{}, err
	}
	ctx, cancel := a.n.withDeadline(ctx)
	defer cancel()
	l, err := a.n.reach(ctx, t)
	if err != nil {
		return Listing{}, err
	}
	return a.n.askList(ctx, l)
}

// Limits returns what others use of another node, against its limits, as
// [Node.Limits] does there. Who may list a node may see that. If ctx has no
// deadline it takes at most 10 s.
func (a *API) Limits(ctx context.Context, remoteAddr string) ([]limit.Use, error) {
	t, err := a.n.parseTarget(remoteAddr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := a.n.withDeadline(ctx)
	defer cancel()
	l, err := a.n.reach(ctx, t)
	if err != nil {
		return nil, err
	}
	return a.n.askLimits(ctx, l)
}

// Ping makes n round trips to another node over one circuit, one after the
// other without pause, and calls each with the time that each took. n below 1
// only connects. If ctx has no deadline, connecting and each round trip may
// take 10 s.
func (a *API) Ping(ctx context.Context, remoteAddr string, n int, each func(rtt time.Duration)) error {
	t, err := a.n.parseTarget(remoteAddr)
	if err != nil {
		return err
	}
	reach, cancel := a.n.withDeadline(ctx)
	defer cancel()
	l, err := a.n.reach(reach, t)
	if err != nil || n < 1 {
		return err
	}
	return a.n.askPings(ctx, l, n, each)
}
