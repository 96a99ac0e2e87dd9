package attacktest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	ckt "ckt.local"
	"ckt.local/peer"
	"ckt.local/transport/identity"
)

// A victim is the node that is attacked.
type victim struct {
	node *peer.Node
	logs *counter

	mu      sync.Mutex
	sources map[source]int // fragments that echo got; at most maxSources keys
	wrong   []string       // fragments whose source was not that of their circuit
}

// A source is who sent a fragment, as the node says.
type source struct{ node, peer string }

const maxSources = 1 << 16

// A census is who is there, as the node itself says.
type census struct {
	Peers    map[string]int    // running, by service and who has started them
	IDs      map[string]string // of the node's own peers, by service
	Circuits map[string]int    // by service, remote node and remote peer
	Sources  map[string]int    // fragments that echo got, by node and peer
	Wrong    []string
	Links    int
}

func newVictim(j job) (*victim, error) {
	key, err := identity.ReadKeyFile(j.Key, nil)
	if err != nil {
		return nil, err
	}
	v := &victim{logs: newCounter(), sources: make(map[source]int)}
	v.node, err = peer.NewNode(peer.Config{
		ListenAddr: "127.0.0.1:0", Identity: key, Authorize: policyOf(j), Limits: j.Limits,
		Logger: slog.New(v.logs), Audit: slog.New(v.logs),
	})
	if err != nil {
		return nil, err
	}
	for name, f := range map[string]ckt.PeerServiceFunc{
		"echo": v.echo, "source": pour, "sink": hold, "secret": hold, "panic": fall,
	} {
		if err := v.node.PeerAPI.RegisterPeerServiceFunc(name, f); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"echo", "source", "sink", "secret"} {
		if _, err := v.node.PeerAPI.StartLocalPeer(context.Background(), name); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (v *victim) close() { v.node.Close() }

func (v *victim) obey(o order) answer {
	switch o.Do {
	case "hello":
		return answer{URL: v.node.URL()}
	case "logs":
		logs, samples := v.logs.take()
		return answer{Logs: logs, Samples: samples}
	case "census":
		return answer{Census: v.census()}
	case "files":
		return answer{FilesNow: openFiles()}
	}
	return failed(fmt.Errorf("a node cannot %q", o.Do))
}

// census asks the node itself.
func (v *victim) census() *census {
	ls := v.node.Listing()
	c := &census{Peers: make(map[string]int), IDs: make(map[string]string), Circuits: make(map[string]int), Sources: make(map[string]int), Links: len(ls.Links)}
	for _, p := range ls.Peers {
		by := "self"
		if p.StartedBy.IsZero() {
			c.IDs[p.Service] = p.PeerID
		}
		if !p.StartedBy.IsZero() {
			by = p.StartedBy.String()
		}
		c.Peers[p.Service+" "+by]++
	}
	for _, ci := range ls.Circuits {
		c.Circuits[ci.Service+" "+ci.RemoteNode.String()+" "+ci.RemotePeerID]++
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for s, n := range v.sources {
		c.Sources[s.node+" "+s.peer] = n
	}
	c.Wrong = v.wrong
	return c
}

// echo sends everything back, and looks at where it comes from.
func (v *victim) echo(_ *ckt.LocalPeer, ctx context.Context, circuits <-chan *ckt.Circuit) error {
	return each(ctx, circuits, func(c *ckt.Circuit) {
		from := source{c.RemoteNodeID().String(), c.RemotePeerID()}
		for f, err := range c.Fragments(ctx) {
			if err != nil || f == nil {
				return
			}
			v.note(from, f)
			if c.Send(ctx, f) != nil {
				return
			}
		}
	})
}

func (v *victim) note(from source, f *ckt.Fragment) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f.FromPeerID != from.peer && len(v.wrong) < 10 {
		v.wrong = append(v.wrong, fmt.Sprintf("from %s on a circuit of %s", f.FromPeerID, from.peer))
	}
	if _, ok := v.sources[from]; ok || len(v.sources) < maxSources {
		v.sources[from]++
	}
}

// each runs f on every circuit until ctx ends.
func each(ctx context.Context, circuits <-chan *ckt.Circuit, f func(*ckt.Circuit)) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case c := <-circuits:
			all.Go(func() {
				defer c.Close()
				f(c)
			})
		case <-ctx.Done():
			return nil
		}
	}
}

// pour is a service that sends as much as it can and reads nothing.
func pour(_ *ckt.LocalPeer, ctx context.Context, circuits <-chan *ckt.Circuit) error {
	return each(ctx, circuits, func(c *ckt.Circuit) {
		for payload := make([]byte, 16<<10); c.Send(ctx, &ckt.Fragment{Payload: payload}) == nil; {
		}
	})
}

// hold is a service that keeps its circuits and reads nothing.
func hold(_ *ckt.LocalPeer, ctx context.Context, circuits <-chan *ckt.Circuit) error {
	return each(ctx, circuits, func(c *ckt.Circuit) {
		select {
		case <-c.Context.Done():
		case <-ctx.Done():
		}
	})
}

// fall is a service that panics at its first circuit.
func fall(_ *ckt.LocalPeer, ctx context.Context, circuits <-chan *ckt.Circuit) error {
	select {
	case <-circuits:
		panic("the service has met something that it does not like")
	case <-ctx.Done():
		return nil
	}
}

// A counter is a [slog.Handler] that counts records by message.
type counter struct {
	mu    sync.Mutex
	count map[string]int
	first map[string]string
}

func newCounter() *counter {
	return &counter{count: make(map[string]int), first: make(map[string]string)}
}

var _ slog.Handler = (*counter)(nil)

// Enabled takes all levels: who looks for a fault turns them all on.
func (*counter) Enabled(context.Context, slog.Level) bool { return true }

// Handle counts the record, and keeps the first of its kind as text. Of the
// audit log, which has a record of each request that was allowed, it counts
// what was refused.
func (c *counter) Handle(_ context.Context, r slog.Record) error {
	allowed := false
	r.Attrs(func(a slog.Attr) bool {
		allowed = allowed || a.Key == "allowed" && a.Value.Bool()
		return true
	})
	if allowed {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[r.Message]++; c.count[r.Message] == 1 {
		text := r.Level.String()
		r.Attrs(func(a slog.Attr) bool {
			text += fmt.Sprintf(" %s=%.200q", a.Key, a.Value.Resolve().String())
			return true
		})
		c.first[r.Message] = text
	}
	return nil
}

// WithAttrs and WithGroup change nothing that is counted.
func (c *counter) WithAttrs([]slog.Attr) slog.Handler { return c }

// WithGroup is as WithAttrs.
func (c *counter) WithGroup(string) slog.Handler { return c }

// take returns the counts since the last call.
func (c *counter) take() (count map[string]int, first map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count, first = c.count, c.first
	c.count, c.first = make(map[string]int), make(map[string]string)
	return count, first
}
