package attacktest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ckt "ckt.local"
	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/transport/identity"
)

// patience bounds everything that is waited for and has no bound of its own.
const patience = 60 * time.Second

// A pair is an honest node with an open circuit to the victim's echo, on which
// it measures round trips without pause.
type pair struct {
	job  job
	node *peer.Node
	me   *peer.LocalPeer
	url  string // the victim's

	mu     sync.Mutex
	c      *ckt.Circuit
	sentAt []time.Time // of numbers from base on: those not back yet
	base   uint64      // the next number to come back
	rtts   []time.Duration
	first  int // attachments at the beginning of the window
	fault  error
	more   chan struct{} // closed at the next echo
	ended  sync.WaitGroup
}

// A window is what the pair has seen since the last mark.
type window struct {
	N           int // round trips
	P50, P99    time.Duration
	Max         time.Duration
	Circuit     string // ID
	Peer        string // ID
	Attachments int    // more than at the mark
}

func newPair(j job) (*pair, error) {
	key, err := identity.ReadKeyFile(j.Key, nil)
	if err != nil {
		return nil, err
	}
	p := &pair{job: j, more: make(chan struct{})}
	if p.node, err = peer.NewNode(peer.Config{ListenAddr: "127.0.0.1:0", Identity: key, Limits: j.Limits}); err != nil {
		return nil, err
	}
	if err := p.node.PeerAPI.RegisterPeerServiceFunc("pair", hold); err != nil {
		return nil, err
	}
	p.me, err = p.node.PeerAPI.StartLocalPeer(context.Background(), "pair")
	return p, err
}

func (p *pair) close() {
	p.node.Close()
	p.ended.Wait()
}

func (p *pair) obey(o order) answer {
	var a answer
	var err error
	switch o.Do {
	case "hello":
		a.URL = p.node.URL()
	case "open":
		p.url, err = o.URL, p.open(o.URL)
	case "mark":
		p.mark()
	case "await": // N round trips since the mark
		err = p.await(func() bool { return len(p.rtts) >= o.N })
	case "count":
		p.mu.Lock()
		a.N, err = len(p.rtts), p.fault
		p.mu.Unlock()
	case "window":
		a.Window, err = p.window()
	case "newcomer":
		a.Took, err = p.newcomer(o.N)
	case "visit": // a node that will not let it in
		if _, _, refused := p.me.NewCircuitToPeerURL(o.URL, nil, 5*time.Second); refused == nil {
			err = errors.New("the attacker's node has taken the circuit")
		}
	case "many":
		a.N, a.Took, err = p.many(o.N)
	case "files":
		a.FilesNow = openFiles()
	default:
		err = fmt.Errorf("a pair cannot %q", o.Do)
	}
	if err != nil {
		return failed(err)
	}
	return a
}

func (p *pair) open(url string) error {
	c, _, err := p.me.NewCircuitToPeerURL(url+"/echo", nil, patience)
	if err != nil {
		return err
	}
	p.c = c
	p.ended.Go(p.send)
	p.ended.Go(p.receive)
	return nil
}

// send sends one number after the other at a fixed pace, however late the
// echoes are.
func (p *pair) send() {
	tick := time.NewTicker(p.job.Every)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		select {
		case <-tick.C:
		case <-p.c.Context.Done():
			return
		}
		p.mu.Lock()
		p.sentAt = append(p.sentAt, time.Now())
		p.mu.Unlock()
		payload := binary.BigEndian.AppendUint64(make([]byte, 0, 64), n)[:64]
		if p.c.Send(p.c.Context, &ckt.Fragment{FragPart: int64(n), Payload: payload}) != nil {
			return
		}
	}
}

func (p *pair) receive() {
	for f, err := range p.c.Fragments(context.Background()) {
		if err == nil && f != nil {
			err = p.take(f)
		}
		if err != nil {
			p.fail(err)
			return
		}
	}
	p.fail(errors.New("the circuit has ended"))
}

func (p *pair) take(f *ckt.Fragment) error {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := binary.BigEndian.Uint64(f.Payload)
	switch {
	case len(f.Payload) != 64 || n != p.base || f.FragPart != int64(n):
		return fmt.Errorf("number %d (part %d) has come, want %d", n, f.FragPart, p.base)
	case f.FromPeerID != p.c.RemotePeerID():
		return fmt.Errorf("number %d is from %q, not from the echo", n, f.FromPeerID)
	}
	p.rtts = append(p.rtts, now.Sub(p.sentAt[0]))
	p.sentAt = p.sentAt[1:]
	p.base++
	p.tellLocked()
	return nil
}

func (p *pair) tellLocked() {
	close(p.more)
	p.more = make(chan struct{})
}

func (p *pair) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil {
		p.fault = fmt.Errorf("after %d echoes: %w", p.base, err)
	}
	p.tellLocked()
}

func (p *pair) mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rtts, p.first = nil, p.c.Stats().Attachments
}

// await waits until ok, which is asked with mu held.
func (p *pair) await(ok func() bool) error {
	late := time.After(patience)
	for {
		p.mu.Lock()
		done, fault, more := ok(), p.fault, p.more
		p.mu.Unlock()
		switch {
		case fault != nil:
			return fault
		case done:
			return nil
		}
		select {
		case <-more:
		case <-late:
			return errors.New("the echoes do not come")
		}
	}
}

// window waits for what is under way, so that a late echo counts.
func (p *pair) window() (*window, error) {
	p.mu.Lock()
	upto := p.base + uint64(len(p.sentAt))
	p.mu.Unlock()
	if err := p.await(func() bool { return p.base >= upto }); err != nil {
		return nil, err
	}
	p.mu.Lock()
	rtts := slices.Clone(p.rtts)
	w := &window{N: len(rtts), Circuit: p.c.CircuitID(), Peer: p.me.PeerID(), Attachments: p.c.Stats().Attachments - p.first}
	p.mu.Unlock()
	if w.N == 0 {
		return w, nil
	}
	slices.Sort(rtts)
	w.P50, w.P99, w.Max = rtts[w.N/2], rtts[w.N*99/100], rtts[w.N-1]
	return w, nil
}

// newcomer connects a node of its own with the i-th of the extra keys, and has
// one fragment echoed.
func (p *pair) newcomer(i int) (time.Duration, error) {
	key, err := identity.ReadKeyFile(p.job.Extra[i%len(p.job.Extra)], nil)
	if err != nil {
		return 0, err
	}
	n, err := peer.NewNode(peer.Config{ListenAddr: "127.0.0.1:0", Identity: key})
	if err != nil {
		return 0, err
	}
	defer n.Close()
	if err := n.PeerAPI.RegisterPeerServiceFunc("new", hold); err != nil {
		return 0, err
	}
	me, err := n.PeerAPI.StartLocalPeer(context.Background(), "new")
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = echoOnce(me, p.url+"/echo", "who am I")
	return time.Since(start), err
}

// echoOnce opens a circuit, has one text echoed and closes it.
func echoOnce(me *peer.LocalPeer, url, text string) error {
	c, _, err := me.NewCircuitToPeerURL(url, &ckt.Fragment{FragSubject: text}, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return echoed(ctx, c, text)
}

func echoed(ctx context.Context, c *circuit.Circuit, text string) error {
	for f, err := range c.Fragments(ctx) {
		if err != nil {
			return err
		}
		if f.FragSubject != text {
			return fmt.Errorf("%q has come back as %q", text, f.FragSubject)
		}
		return nil
	}
	return errors.New("closed before the echo came")
}

// many opens n circuits, all at a time, and has one fragment echoed on each.
func (p *pair) many(n int) (open int, took time.Duration, err error) {
	start := time.Now()
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	circuits := make([]*ckt.Circuit, n)
	turn := make(chan struct{}, 256)
	for i := range n {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			text := fmt.Sprint("circuit ", i)
			c, _, err := p.me.NewCircuitToPeerURL(p.url+"/echo", &ckt.Fragment{FragSubject: text}, patience)
			if err == nil {
				circuits[i] = c
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				err = echoed(ctx, c, text)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				open++
			} else {
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	took = time.Since(start)
	if len(errs) > 0 {
		err = fmt.Errorf("%d of %d failed, the first with: %w", len(errs), n, errs[0])
	}
	return open, took, err
}
