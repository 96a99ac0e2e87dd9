package files

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"ckt.local/transport/identity"
)

// tellEvery is how often a sender whose file waits for a place is told so. It
// is well below the 10 s that peerctl gives the other node for an answer, and the
// default of [PushOptions.StallTimeout].
const tellEvery = 3 * time.Second

// The places of a peer are for the files that it receives at once. A file waits
// first among those of its own sender and then among all, so that a sender
// never has more in either than it may have places.
type places struct {
	all     chan struct{} // one element for each file being received; nil: any number
	perNode int           // not above 0: any number
	moved   atomic.Int64  // bytes of all files; who waits sees by it that this peer works

	mu    sync.Mutex // guards what follows, and is never held across a wait
	nodes map[identity.NodeID]*share
	held  map[*place]struct{}

	waiting int // for one of all
}

// A share is what one sender has of the places.
type share struct {
	taken chan struct{} // one element for each place

	// Files that have a place or wait for one, and those that wait for one of
	// taken; guarded by places.mu.
	users, waiting int
}

// A place is one file's.
type place struct {
	pace
	share *share
	give  func() // may be called often
}

// newPlaces reads the numbers of a Config.
func newPlaces(all, perNode int) *places {
	p := &places{perNode: perNode, nodes: make(map[identity.NodeID]*share), held: make(map[*place]struct{})}
	if all > 0 {
		p.all = make(chan struct{}, all)
	}
	if perNode == 0 {
		p.perNode = defaultPerNode
		if all > 0 {
			p.perNode = max(all/4, 1)
		}
	}
	return p
}

// take waits for a place for a file of node, as long as ctx lasts. The place is
// the caller's until it gives it back. While it waits, and other files move, turn
// is called every tellEvery.
func (p *places) take(ctx context.Context, node identity.NodeID, turn func()) (pl *place, ok bool) {
	mine := p.enter(node)
	if !p.claim(ctx, mine.taken, &mine.waiting, turn) {
		p.leave(node, mine)
		return nil, false
	}
	if !p.claim(ctx, p.all, &p.waiting, turn) {
		release(mine.taken)
		p.leave(node, mine)
		return nil, false
	}
	pl = &place{share: mine}
	pl.give = sync.OnceFunc(func() {
		p.mu.Lock()
		delete(p.held, pl)
		p.mu.Unlock()
		release(p.all)
		release(mine.taken)
		p.leave(node, mine)
	})
	return pl, true
}

func (p *places) enter(node identity.NodeID) *share {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.nodes[node]
	if s == nil {
		s = &share{}
		if p.perNode > 0 {
			s.taken = make(chan struct{}, p.perNode)
		}
		p.nodes[node] = s
	}
	s.users++
	return s
}

// leave forgets a sender of whom nothing is left.
func (p *places) leave(node identity.NodeID, s *share) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(p.nodes, node)
	}
}

// claim waits for room in q, as long as ctx lasts. A nil q has room for any
// number. Meanwhile it is one of those that waiting counts.
func (p *places) claim(ctx context.Context, q chan struct{}, waiting *int, turn func()) bool {
	if q == nil {
		return true
	}
	select {
	case q <- struct{}{}:
		return true
	default:
	}
	// Beside the wait: who breaks it off to tell has lost his turn.
	defer p.telling(turn)()
	p.add(waiting, 1)
	defer p.add(waiting, -1)
	select {
	case q <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *places) add(count *int, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*count += n
}

// telling calls turn now and then while enough moves, until stop is called and has returned.
func (p *places) telling(turn func()) (stop func()) {
	done := make(chan struct{})
	var teller sync.WaitGroup
	teller.Go(func() {
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		for seen := p.moved.Load(); ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			now := p.moved.Load()
			if now-seen >= leastMoved {
				turn()
			}
			seen = now
		}
	})
	return func() {
		close(done)
		teller.Wait()
	}
}

func release(q chan struct{}) {
	if q != nil {
		<-q
	}
}
