package peer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// libraryPrefix is of service names that only the library uses.
const libraryPrefix = "ckt."

// A roster knows the services and the peers of a node. Its methods decide at
// once and never wait.
type roster struct {
	mu       sync.Mutex // guards all of it
	closed   bool
	services map[string]PeerServiceFunc
	running  map[string][]*LocalPeer // by service, in the order of their start; those that others may reach
	peers    map[circuit.ID]*LocalPeer
	alive    map[*LocalPeer]struct{} // those whose service function has not returned
}

func (r *roster) init() {
	r.services = make(map[string]PeerServiceFunc)
	r.running = make(map[string][]*LocalPeer)
	r.peers = make(map[circuit.ID]*LocalPeer)
	r.alive = make(map[*LocalPeer]struct{})
}

func (r *roster) register(name string, f PeerServiceFunc) error {
	if err := identity.ValidServiceName(name); err != nil {
		return fmt.Errorf("%w: %w", ErrBadName, err)
	}
	if strings.HasPrefix(name, libraryPrefix) {
		return fmt.Errorf("%w: names that begin with %q are the library's own", ErrBadName, libraryPrefix)
	}
	if f == nil {
		return fmt.Errorf("peer: service %q has no function", name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.services[name]; ok {
		return fmt.Errorf("%w: %q", ErrDuplicateName, name)
	}
	r.services[name] = f
	return nil
}

// A starter says who starts a peer, of which service, and for how long.
type starter struct {
	node    *Node
	ctx     context.Context // the peer's life
	service string
	by      identity.NodeID // zero: this node
	account identity.NodeID // under which it counts as what others have started; zero: it does not
}

// start starts a peer of a registered service.
func (r *roster) start(s starter) (*LocalPeer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.startLocked(s)
}

func (r *roster) startLocked(s starter) (*LocalPeer, error) {
	f, ok := r.services[s.service]
	if !ok {
		return nil, fmt.Errorf("%w: %.80q", ErrUnknownService, s.service)
	}
	if s.account.IsZero() {
		return r.launch(s, f)
	}
	if _, err := s.node.ledger.Acquire(limit.Peers, s.account, 1); err != nil {
		return nil, err
	}
	p, err := r.launch(s, f)
	if err != nil {
		s.node.ledger.Release(limit.Peers, s.account, 1)
	}
	return p, err
}

// launch starts a peer that runs f.
func (r *roster) launch(s starter, f PeerServiceFunc) (*LocalPeer, error) {
	if r.closed {
		return nil, ErrNodeClosed
	}
	seed := circuit.NewID()
	p := &LocalPeer{
		node: s.node, seed: seed, id: seed.Peer(s.node.ID()), service: s.service, startedBy: s.by, account: s.account, started: time.Now(),
		newCircuits: make(chan *circuit.Circuit, newCircuitQueue),
		done:        make(chan struct{}),
		circuits:    make(map[*circuit.Circuit]*link),
	}
	p.text = p.id.String()
	p.life = s.ctx
	p.ctx, p.cancel = context.WithCancelCause(context.WithoutCancel(s.ctx))
	r.peers[p.id] = p
	r.running[p.service] = append(r.running[p.service], p)
	r.alive[p] = struct{}{}
	p.watch()
	go p.run(f)
	return p, nil
}

// find returns the running peer of that ID and service.
func (r *roster) find(id circuit.ID, service string) (*LocalPeer, bool) {
	p, ok := r.byID(id)
	return p, ok && p.service == service
}

// byID returns the running peer of that ID.
func (r *roster) byID(id circuit.ID) (*LocalPeer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.peers[id]
	return p, ok
}

// any returns the running peer of the service that was started first.
func (r *roster) any(service string) (*LocalPeer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.anyLocked(service)
}

func (r *roster) anyLocked(service string) (*LocalPeer, bool) {
	if ps := r.running[service]; len(ps) > 0 {
		return ps[0], true
	}
	return nil, false
}

// anyOrStart is any, or else start. Openings that come together find the same
// peer.
func (r *roster) anyOrStart(s starter) (*LocalPeer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.anyLocked(s.service); ok {
		return p, nil
	}
	return r.startLocked(s)
}

// knows tells whether the service is registered.
func (r *roster) knows(service string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.services[service]
	return ok
}

// remove makes a peer that has ended unknown to others.
func (r *roster) remove(p *LocalPeer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.peers, p.id)
	ps := slices.DeleteFunc(r.running[p.service], func(q *LocalPeer) bool { return q == p })
	if len(ps) == 0 {
		delete(r.running, p.service)
		return
	}
	r.running[p.service] = ps
}

// returned forgets a peer whose service function has returned.
func (r *roster) returned(p *LocalPeer) {
	r.mu.Lock()
	delete(r.alive, p)
	r.mu.Unlock()
	if !p.account.IsZero() {
		p.node.ledger.Release(limit.Peers, p.account, 1)
	}
}

// count returns how many peers are running, the node's own service left out.
func (r *roster) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for service, ps := range r.running {
		if service != nodeService {
			n += len(ps)
		}
	}
	return n
}

// close starts no more peers, and returns those whose service functions have
// not returned.
func (r *roster) close() []*LocalPeer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	var ps []*LocalPeer
	for p := range r.alive {
		ps = append(ps, p)
	}
	return ps
}

// all returns the running peers in the order of their start.
func (r *roster) all() []*LocalPeer {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ps []*LocalPeer
	for _, p := range r.peers {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b *LocalPeer) int {
		return cmp.Or(a.started.Compare(b.started), cmp.Compare(a.PeerID(), b.PeerID()))
	})
	return ps
}
