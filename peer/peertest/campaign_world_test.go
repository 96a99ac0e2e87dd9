package peertest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport/simnet"
)

// A world is one run of one plan.
type world struct {
	t     *testing.T
	plan  plan
	sim   *peertest.Sim
	nat   *simnet.NAT // nil: none
	hosts []*host
	start time.Time
	calm  chan struct{} // closed when everything is mended for good
	moves int

	ctx    context.Context // ends when probes are to end
	cancel context.CancelFunc
	probes sync.WaitGroup

	mu       sync.Mutex // guards what follows; never held across a wait
	lives    []*life
	opening  int                 // circuits that are being opened
	meetings map[string]*meeting // by circuit ID
	pairs    map[pair]*contact
	log      []string
	errs     []string
	sum      summary
}

// A host is a machine of the world, with its process of the moment.
type host struct {
	*peertest.SimHost
	life *life // nil while it is down
}

// A life is one process. Its context ends when it is killed or stopped.
type life struct {
	w      *world
	n      int // counts the processes of the world
	host   int
	node   *peer.Node
	peer   *peer.LocalPeer
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // goroutines of its ends
	bornAt time.Duration
	died   string // "killed" or "stopped"; guarded by world.mu, as is diedAt
	diedAt time.Duration
}

// A meeting is a circuit: what its ends know of one another.
type meeting struct {
	id    string
	known chan struct{} // closed when the opener's end is there

	mu   sync.Mutex
	ends [2]*end // opener, acceptor
}

func (m *meeting) end(side int) *end {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ends[side]
}

// sender is the number of the process that sends on one side: what it claims
// to be, unless more is known.
func (m *meeting) sender(side, claimed int) int {
	if e := m.end(side); e != nil {
		return e.life.n
	}
	return claimed
}

// openLimit is how long an opening waits for the answer.
const openLimit = 30 * time.Second

// service is what all peers of the campaign run.
const service = "load"

// newWorld makes the hosts of a plan and connects nobody.
func newWorld(t *testing.T, p plan) *world {
	w := &world{
		t: t, plan: p, calm: make(chan struct{}),
		meetings: make(map[string]*meeting),
		pairs:    make(map[pair]*contact),
		sum:      summary{Seed: p.seed, Faults: make(map[string]int)},
	}
	w.sim = peertest.SimConfig{
		Link:    p.link,
		Circuit: p.circuit,
		Limits:  p.limits,
		Adjust:  func(_ *peertest.SimHost, cfg *peer.Config) { cfg.Logger = slog.New(worldLog{w: w}) },
		Limit:   2 * time.Hour,
	}.NewSim(t, p.seed)
	w.start = time.Now()
	w.ctx, w.cancel = context.WithCancel(context.Background())
	for i := range p.hosts {
		h := &host{}
		w.hosts = append(w.hosts, h)
		setup := func(n *peer.Node) { w.live(h, i, n) }
		if i != p.behind {
			h.SimHost = w.sim.NewHost(setup)
			continue
		}
		var err error
		if w.nat, err = w.sim.Network.NAT(netip.MustParseAddr("10.2.0.1"), p.nat); err != nil {
			t.Fatal(err)
		}
		h.SimHost = w.sim.NewHostBehind(w.nat, setup)
	}
	for i := range p.hosts {
		for j := range i {
			w.pairs[pair{j, i}] = &contact{w: w, pair: pair{j, i}}
		}
	}
	for _, c := range w.pairs {
		c.update(func() {})
	}
	return w
}

// live begins the life of a process.
func (w *world) live(h *host, i int, n *peer.Node) {
	l := &life{w: w, host: i, node: n}
	w.mu.Lock()
	l.n, l.bornAt = len(w.lives), w.now()
	w.lives = append(w.lives, l)
	w.mu.Unlock()
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := n.PeerAPI.RegisterPeerServiceFunc(service, l.serve); err != nil {
		w.failf("registering: %v", err)
		return
	}
	p, err := n.PeerAPI.StartLocalPeer(context.Background(), service)
	if err != nil {
		w.failf("starting a peer: %v", err)
		return
	}
	l.peer, h.life = p, l
	w.logf("life %d begins on host %d", l.n, i)
}

// serve is the service of a process: it takes circuits.
func (l *life) serve(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	for {
		select {
		case <-ctx0.Done():
			return nil
		case c := <-newCircuitCh:
			if e := l.w.begin(l, c, 1, nil, 0); e != nil {
				l.w.logf("%v: has circuit %s", e, c.CircuitID())
			}
		}
	}
}

// open opens a circuit of the plan from the process that runs on its host just
// now. It waits for the answer in a goroutine.
func (w *world) open(plan *circuitPlan) {
	l := w.hosts[plan.from].life
	if l == nil {
		return
	}
	url := w.hosts[plan.to].URL(service)
	var first *circuit.Fragment
	if plan.first {
		first = flow{plan: plan, side: 0, life: l.n, seed: w.plan.seed}.fragment(1)
	}
	began := w.now()
	w.count(func(*summary) { w.opening++ })
	l.wg.Go(func() {
		defer w.count(func(*summary) { w.opening-- })
		c, err := w.dial(plan, l, url, first)
		if err != nil {
			w.notOpened(plan, l, began, err)
			return
		}
		sent := c.Stats().FragmentsSent
		if e := w.begin(l, c, 0, plan, sent); e != nil {
			w.logf("%v: open to life of host %d, circuit %s", e, plan.to, c.CircuitID())
		}
	})
}

// dial opens a circuit to the peer at url, or one more beside one that is open.
func (w *world) dial(plan *circuitPlan, l *life, url string, first *circuit.Fragment) (*circuit.Circuit, error) {
	if plan.again {
		for _, m := range w.all() {
			o, a := m.end(0), m.end(1)
			if o != nil && a != nil && o.life == l && a.life.host == plan.to && o.open() {
				c, _, err := o.c.NewCircuit()
				return c, err
			}
		}
	}
	c, _, err := l.peer.NewCircuitToPeerURL(url, first, openLimit)
	return c, err
}

// notOpened checks that there was a reason for it.
func (w *world) notOpened(plan *circuitPlan, l *life, began time.Duration, err error) {
	w.logf("circuit %d is not opened: %v", plan.id, err)
	w.count(func(s *summary) { s.NotOpened++ })
	if w.diedOf(l) == "" && !errors.Is(err, circuit.ErrPeerRestarted) && plan.to != w.plan.behind && w.pairs[pairOf(plan.from, plan.to)].longest(began-10*time.Second, w.now()) >= w.now()-began+10*time.Second {
		w.failf("circuit %d was not opened on a network that works: %v", plan.id, err)
	}
}

// enlist makes an end known to its meeting. It reports false if there is one
// already.
func (w *world) enlist(e *end) bool {
	id := e.c.CircuitID()
	w.mu.Lock()
	m := w.meetings[id]
	if m == nil {
		m = &meeting{id: id, known: make(chan struct{})}
		w.meetings[id] = m
	}
	w.mu.Unlock()
	m.mu.Lock()
	old := m.ends[e.side]
	if old == nil {
		e.m = m
		m.ends[e.side] = e
	}
	m.mu.Unlock()
	if old != nil {
		w.failf("circuit %s is at life %d, and has been at %v", id, e.life.n, old)
		return false
	}
	if e.side == 0 {
		close(m.known)
	}
	return true
}

// all returns the meetings in the order of their IDs.
func (w *world) all() []*meeting {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ms []*meeting
	for _, id := range slices.Sorted(maps.Keys(w.meetings)) {
		ms = append(ms, w.meetings[id])
	}
	return ms
}

// now is the time since the beginning of the run.
func (w *world) now() time.Duration { return time.Since(w.start) }

// slowly takes its time, unless all is calm: then nobody dawdles any more.
func (w *world) slowly(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-w.calm:
	}
}

// untilCalm waits until everything is mended, and a moment more: what happens
// at one instant would have no order.
func (w *world) untilCalm(ctx context.Context, moment time.Duration) {
	select {
	case <-ctx.Done():
	case <-w.calm:
		sleep(ctx, moment)
	}
}

// logf adds a line to the log of events.
func (w *world) logf(format string, args ...any) {
	line := fmt.Sprintf("%12.6f %s", w.now().Seconds(), fmt.Sprintf(format, args...))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, line)
}

// failf says that a promise was broken.
func (w *world) failf(format string, args ...any) {
	w.logf("BROKEN: "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.errs) < 20 { // one is enough, and a few more tell what it is
		w.errs = append(w.errs, fmt.Sprintf("at %.6f s: %s", w.now().Seconds(), fmt.Sprintf(format, args...)))
	}
}

func (w *world) count(change func(s *summary)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.sum)
}

func (w *world) arrived(bytes int) {
	w.count(func(s *summary) { s.Fragments++; s.Bytes += int64(bytes) })
}

// worldLog is the log of the nodes. Nobody misbehaves in this world, so a
// warning is a broken promise.
type worldLog struct {
	w     *world
	attrs string
}

func (h worldLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (h worldLog) WithGroup(string) slog.Handler                { return h }
func (h worldLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.attrs += " " + a.String()
	}
	return h
}

func (h worldLog) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message + h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(" " + a.String())
		return true
	})
	if r.Level >= slog.LevelWarn {
		h.w.failf("a node logs: %s", &b)
	} else {
		h.w.logf("a node logs: %s", &b)
	}
	return nil
}
