package peer

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// A Policy decides whether another node may do what it asks for. nil allows;
// the text of an error is logged on this node and never sent. It is called
// for each request, from any goroutine, and should not block: a connection's
// openings may wait for it. A panic of it refuses.
//
// It is asked when a connection is accepted, a circuit opened, a peer started
// and the node listed, and by services of the library about what they offer.
// An error that wraps a [transport.LimitError] is told to the other side as
// that limit and not as a want of permission.
//
// What has been allowed stays: taking a key off a list refuses its next
// request, and leaves the connection and the circuits it has.
type Policy func(Request) error

// A Request is what a [Policy] decides about.
type Request struct {
	// Node is who asks, verified: the key it has proved, or an older one whose
	// place that takes by a statement of both (Config.Rotation).
	Node identity.NodeID

	Key     identity.NodeID // the key it has proved
	From    netip.AddrPort  // from where; zero if that is not an IP address
	Action  Action
	Service string // for ActionOpen and ActionStart

	// Circuits is, for ActionOpen, how many circuits the node has open here,
	// this one included.
	Circuits int

	old     identity.NodeID // the key whose place Key takes just now; zero: none
	account identity.NodeID // under which is counted what it uses: circuit.Link.Account
	ask     bool            // the node itself is asked something, which counts against the rate of a line
	self    bool            // this node asks itself
	log     *slog.Logger    // of the node that asks the policy, for a policy of this package
}

// is tells whether the node that asks is the one with that key, or stands in
// for it.
func (r *Request) is(id identity.NodeID) bool { return !id.IsZero() && (r.Key == id || r.old == id) }

// LogValue keeps the parts apart in a log.
func (r Request) LogValue() slog.Value {
	return slog.GroupValue(slog.String("node", r.Node.String()), slog.String("from", r.From.String()),
		slog.String("action", r.Action.String()), slog.String("service", clip(r.Service)))
}

// An Action is a kind of [Request].
type Action uint8

// The actions.
const (
	ActionConnect Action = iota + 1 // to be connected, and to ask the node's own service anything
	ActionOpen                      // to open a circuit to a running peer of the service
	ActionStart                     // to start a peer of the service
	ActionList                      // to see what runs here, and who is connected
)

// String returns the action in one word.
func (a Action) String() string {
	switch a {
	case ActionConnect:
		return "connect"
	case ActionOpen:
		return "open"
	case ActionStart:
		return "start"
	case ActionList:
		return "list"
	}
	return fmt.Sprintf("action %d", uint8(a))
}

// errNotListed is what a policy of this package says to a key it does not
// know.
var errNotListed = errors.New("peer: key is not listed")

// AllowAll is a [Policy] that allows every key everything. It is meant for
// tests and for services that anybody may use.
func AllowAll(Request) error { return nil }

// AllowNodes returns a [Policy] that allows these keys everything.
func AllowNodes(ids ...identity.NodeID) Policy {
	ids = slices.Clone(ids)
	return func(r Request) error {
		if !r.Node.IsZero() && slices.Contains(ids, r.Node) {
			return nil
		}
		return errNotListed
	}
}

// AllowFile returns a [Policy] that goes by the authorized_peers file at path
// (see [identity.ParseAuthorizedPeers]) as it is at each request; the file may
// appear, change or go at any time. An entry with services="…" allows opening
// and starting those, one with start="…" starting only those; listing needs an
// entry without services, or one with "ckt.node" among them. Connecting needs
// any entry that is valid just then.
//
// A file that cannot be used allows nobody anything.
func AllowFile(path string) Policy {
	// The file is opened by the first request: a constructor that failed
	// would have to be called before the configuration that holds it.
	var mu sync.Mutex
	var file *identity.AuthorizedFile
	open := func(r Request) (*identity.AuthorizedFile, error) {
		mu.Lock()
		defer mu.Unlock()
		if file != nil {
			return file, nil
		}
		f, err := identity.OpenAuthorizedFile(path, r.log)
		if err == nil {
			file = f
		}
		return f, err
	}
	return func(r Request) error {
		f, err := open(r)
		if err != nil {
			return err
		}
		service := r.Service
		switch r.Action {
		case ActionConnect:
			service = ""
		case ActionList:
			service = nodeService
		}
		return f.Check(identity.Access{
			ID: r.Node, From: r.From.Addr().Unmap(), Service: service,
			Start: r.Action == ActionStart, Ask: r.ask, Circuits: r.Circuits,
		}, time.Now())
	}
}

// AllowAny returns a [Policy] that allows what one of these allows, asked in
// this order; without any it allows nothing. Where none does, a limit that one
// of them has found reached goes before what the others say.
func AllowAny(policies ...Policy) Policy {
	policies = slices.Clone(policies)
	return func(r Request) error {
		no := errNotListed
		for _, allow := range policies {
			err := allow(r)
			if err == nil {
				return nil
			}
			if limitOf(no) == nil {
				no = err
			}
		}
		return no
	}
}

// request is what the node at the other end of a link asks for, before its
// policy has been asked.
func (n *Node) request(l *circuit.Link, a Action, service string) Request {
	info := l.Info()
	r := Request{
		Node: l.RemoteNodeID(), Key: l.RemoteNodeID(), From: addrPort(info.RemoteAddr), Action: a, Service: service,
		account: l.Account(), self: l.RemoteNodeID() == n.ID() && info.BootNonce == n.nonce,
	}
	r.old = oldKey(info)
	return r
}

// oldKey is the older key whose place the other side's takes; zero: none.
func oldKey(info transport.ConnInfo) identity.NodeID {
	if info.OldKey == nil || !time.Now().Before(info.OldUntil) {
		return identity.NodeID{}
	}
	return identity.NodeIDOf(info.OldKey)
}

// authorize decides about a request, and makes r.Node the key in whose name it
// is allowed. Its error is for this side only.
func (n *Node) authorize(r *Request) error {
	if r.self {
		return nil
	}
	err := n.mayAs(r)
	if err != nil {
		n.log.Info("refused", "request", *r, "err", err)
	}
	return err
}

func (n *Node) mayAs(r *Request) error {
	if err := n.revoked(r.Key, r.old); err != nil {
		return err
	}
	if r.is(n.ID()) {
		r.Node = n.ID()
		return nil
	}
	err := n.askPolicy(*r)
	if err == nil || r.old.IsZero() {
		return err
	}
	old := *r
	old.Node = r.old
	oldErr := n.askPolicy(old)
	switch {
	case oldErr == nil:
		r.Node = r.old
		return nil
	case limitOf(err) == nil && limitOf(oldErr) != nil:
		return oldErr
	}
	return err
}

func (n *Node) askPolicy(r Request) (err error) {
	// A policy that panics must neither end the process nor allow anything.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("peer: policy panicked: %v", v)
		}
	}()
	if n.cfg.Authorize == nil {
		return errNotListed
	}
	r.log = n.log
	return n.cfg.Authorize(r)
}
