package peer_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/trust"
)

// The hosts of a siege. All but the first try what they may not.
const (
	besieged  = iota
	guest     // may open echo, and start nothing
	full      // may open and start files, and has reached its limit
	late      // is connected, and its line has expired since
	elsewhere // is connected, and its line is for other addresses now
	unlisted  // was never listed
	thieving  // is listed, connected, and its key is revoked
	besiegers
)

// tries is how many each of them makes. Those that are not connected make a
// handshake for each.
func tries(who int) int {
	if who == unlisted || who == thieving {
		return 150
	}
	return 2600
}

// may is the model: what is allowed to whom.
func may(who int, action, service string) bool {
	switch {
	case who == guest:
		return action == "connect" || action == "open" && service == "echo"
	case who == full:
		return action == "connect" || action == "open" && service == "files"
	}
	return false
}

// A siege is a world in which hosts try what they may not.
type siege struct {
	*peertest.Sim
	peers   []*peer.LocalPeer // of the besieged
	ids     []circuit.ID      // of those
	started []string          // by full, before its limit
	callers map[int]*peer.LocalPeer
	raw     map[int]*circuit.Circuit // to the besieged node's own service
	begun   bool                     // guarded by mu

	mu       sync.Mutex
	made     int            // tries
	controls int            // of what is allowed
	breaches []string       // what went through
	ends     map[string]int // what became of tries, in a few words
}

func (s *siege) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breaches = append(s.breaches, fmt.Sprintf(format, args...))
}

func (s *siege) who(id identity.NodeID) int {
	for _, h := range s.Hosts() {
		if n := h.Node(); n != nil && n.ID() == id {
			return h.Index()
		}
	}
	return -1
}

// Enabled, Handle, WithAttrs and WithGroup make it the handler of the besieged
// node's audit log: whatever that calls allowed has to be.
func (s *siege) Enabled(context.Context, slog.Level) bool { return true }
func (s *siege) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *siege) WithGroup(string) slog.Handler            { return s }

func (s *siege) Handle(_ context.Context, r slog.Record) error {
	at := make(map[string]slog.Value)
	r.Attrs(func(a slog.Attr) bool { at[a.Key] = a.Value; return true })
	s.mu.Lock()
	begun := s.begun
	s.mu.Unlock()
	if !begun || !at["allowed"].Bool() {
		return nil
	}
	id, _ := identity.ParseNodeID(at["node"].String())
	if who, action, service := s.who(id), at["action"].String(), at["service"]; !may(who, action, service.String()) {
		s.note("the audit log allows host %d to %s %v", who, action, service)
	}
	return nil
}

// serve is what all services of the besieged do: whoever opens a circuit has to
// be allowed to.
func (s *siege) serve(p *peer.LocalPeer, ctx0 context.Context, circuits <-chan *circuit.Circuit) error {
	for {
		select {
		case <-ctx0.Done():
			return nil
		case c := <-circuits:
			if who := s.who(c.RemoteNodeID()); who != besieged && !may(who, "open", p.ServiceName()) {
				s.note("a peer of %s got a circuit of host %d", p.ServiceName(), who)
			}
			c.Close()
		}
	}
}

func newSiege(t *testing.T) *siege {
	t.Helper()
	dir := t.TempDir()
	list := filepath.Join(dir, "authorized_peers")
	revoked, err := trust.OpenRevoked(filepath.Join(dir, "revoked"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &siege{callers: map[int]*peer.LocalPeer{}, raw: map[int]*circuit.Circuit{}, ends: map[string]int{}}
	s.Sim = peertest.SimConfig{
		Limits: limit.Limits{
			Transport: limit.Transport{ConnsPerSecond: -1},
			Circuit:   limit.Circuit{OpensPerSecond: -1},
			Peer:      limit.Peer{StartedPerNode: 2, StartsPerSecond: -1}, // or the rate would refuse what the policy must
		},
		Adjust: func(h *peertest.SimHost, cfg *peer.Config) {
			cfg.Logger = nil
			if h.Index() == besieged {
				cfg.Authorize, cfg.Revoked, cfg.Audit = peer.AllowFile(list), revoked.Check, slog.New(s)
			}
		},
	}.NewSim(t, 1)
	for range besiegers {
		s.NewHost(func(n *peer.Node) {
			for _, name := range []string{"echo", "files", "private", "admin"} {
				register(t, n, name, s.serve)
			}
		})
	}
	add := func(who int, e identity.Entry) {
		e.ID = s.Hosts()[who].Node().ID()
		if err := identity.AppendAuthorized(list, e); err != nil {
			t.Fatal(err)
		}
	}
	soon := time.Now().Add(time.Hour)
	add(guest, identity.Entry{Services: []string{"echo"}, Start: []string{}})
	add(full, identity.Entry{Services: []string{"files"}, Start: []string{"files"}})
	add(late, identity.Entry{Expires: soon})
	add(elsewhere, identity.Entry{From: []string{"10.0.0.0/8"}, Expires: soon})
	add(elsewhere, identity.Entry{From: []string{"10.99.0.0/16"}})
	add(thieving, identity.Entry{})
	s.enter(t)
	time.Sleep(2 * time.Hour)
	if err := revoked.Add(s.Hosts()[thieving].Node().ID(), ""); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.begun = true
	s.mu.Unlock()
	return s
}

// enter does what is allowed before the siege begins.
func (s *siege) enter(t *testing.T) {
	t.Helper()
	hosts := s.Hosts()
	for _, name := range []string{"echo", "files", "private"} { // nobody runs admin
		p := hosts[besieged].StartPeer(name)
		s.peers, s.ids = append(s.peers, p), append(s.ids, idOf(t, p.PeerID()))
	}
	for i := guest; i < besiegers; i++ {
		s.callers[i] = hosts[i].StartPeer("echo")
		if i == unlisted {
			continue
		}
		raw := peer.URL{Node: hosts[besieged].Node().ID(), Addr: hosts[besieged].Node().Addr().String(), Service: "ckt.node"}
		s.raw[i] = open(t, s.callers[i], raw.String(), nil)
	}
	for range 2 {
		url, _, err := hosts[full].Node().PeerAPI.StartRemotePeer(t.Context(), "files", hosts[besieged].URL(""), 0)
		if err != nil {
			t.Fatal(err)
		}
		s.started = append(s.started, url)
	}
}

// A try is one thing that must not work; it returns whether it did, and how not.
type try func(s *siege, r *rand.Rand, who int) error

func (s *siege) try(r *rand.Rand, who int) {
	kinds := []struct {
		name string
		do   try
	}{{"start", tryStart}, {"open", tryOpen}, {"stop", tryStop}, {"list", tryList}, {"raw", tryRaw}}
	k := kinds[r.IntN(len(kinds))]
	err := k.do(s, r, who)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	if err == nil {
		s.breaches = append(s.breaches, fmt.Sprintf("host %d: %s works", who, k.name))
		return
	}
	how := fmt.Sprintf("%T", err)
	if refused, ok := err.(*circuit.RefusedError); ok {
		how = refused.Code.String()
	}
	s.ends[k.name+": "+how]++
}

// name draws a name of a service that who may not start; some can be none.
func name(r *rand.Rand) string {
	names := []string{
		"echo", "files", "private", "admin", "ckt.node", "ckt.", "Echo", "ECHO", "echo.", "echo ", " echo", "echo\x00", "echo\n", "echo/files",
		"echo,files", "../echo", "*", "", "ckt.node/echo", "ech\u043e", strings.Repeat("e", 64), strings.Repeat("e", 65), strings.Repeat("e", 4000),
	}
	if r.IntN(4) > 0 {
		return names[r.IntN(len(names))]
	}
	b := make([]byte, r.IntN(40))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func tryStart(s *siege, r *rand.Rand, who int) error {
	remote := []string{s.Hosts()[besieged].URL(""), s.Hosts()[besieged].URL("echo"), s.Hosts()[besieged].Node().ID().String()}
	_, _, err := s.Hosts()[who].Node().PeerAPI.StartRemotePeer(context.Background(), name(r), remote[r.IntN(len(remote))], time.Second)
	return err
}

// tryOpen draws a URL of what is there and may not be opened, or of nothing.
func tryOpen(s *siege, r *rand.Rand, who int) error {
	u := peer.URL{Node: s.Hosts()[besieged].Node().ID(), Service: name(r)}
	if identity.ValidServiceName(u.Service) != nil && r.IntN(5) > 0 {
		u.Service = []string{"echo", "files", "private", "admin"}[r.IntN(4)] // the others do not get as far as the wire
	}
	if r.IntN(2) == 0 {
		u.Addr = s.Hosts()[besieged].Node().Addr().String()
	}
	switch r.IntN(3) {
	case 0:
		u.PeerID = s.ids[r.IntN(len(s.ids))]
	case 1:
		u.PeerID = circuit.NewID()
	}
	if u.Service == "ckt.node" || u.PeerID.IsZero() && may(who, "open", u.Service) {
		u.Service = "private"
	}
	if i := slices.IndexFunc(s.peers, func(p *peer.LocalPeer) bool { return p.PeerID() == u.PeerID.String() }); i >= 0 && may(who, "open", s.peers[i].ServiceName()) {
		u.Service = "private" // with the ID of a peer of another service
	}
	first := &circuit.Fragment{FragOp: r.IntN(10), Args: map[string]string{"service": "echo", "peer": u.PeerID.String()}, FromPeerID: s.peers[0].PeerID()}
	c, _, err := s.callers[who].NewCircuitToPeerURL(u.String(), first, time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

func tryStop(s *siege, r *rand.Rand, who int) error {
	urls := []string{s.peers[r.IntN(len(s.peers))].URL(), s.Hosts()[besieged].URL("echo") + "/" + circuit.NewID().String()}
	if who != full {
		urls = append(urls, s.started...)
	}
	return s.Hosts()[who].Node().PeerAPI.StopRemotePeer(context.Background(), urls[r.IntN(len(urls))])
}

func tryList(s *siege, r *rand.Rand, who int) error {
	api := s.Hosts()[who].Node().PeerAPI
	if r.IntN(2) == 0 {
		_, err := api.Limits(context.Background(), s.Hosts()[besieged].URL(""))
		return err
	}
	_, err := api.List(context.Background(), s.Hosts()[besieged].URL(""))
	return err
}

// tryRaw says something to the node's own service, on a circuit that was opened
// while that was allowed. Only pings and the address may be had.
func tryRaw(s *siege, r *rand.Rand, who int) error {
	const refused, ping, addr = 1, 2, 6
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c := s.raw[who]
	if c == nil || c.Context.Err() != nil {
		return circuit.ErrClosed
	}
	f := &circuit.Fragment{FragOp: r.IntN(12) - 1, FragPart: r.Int64(), Args: map[string]string{
		"service": name(r), "peer": s.peers[r.IntN(len(s.peers))].PeerID(), "code": "0", "addr": "127.0.0.1:1",
	}}
	if err := c.Send(ctx, f); err != nil {
		return err
	}
	select {
	case a, ok := <-c.Reads:
		switch {
		case !ok:
			return circuit.ErrClosed
		case a.FragOp == refused:
			code, err := strconv.Atoi(a.Args["code"])
			if err != nil {
				return err
			}
			return &circuit.RefusedError{Code: circuit.RefuseCode(code)}
		case (a.FragOp == ping || a.FragOp == addr) && may(who, "connect", ""):
			return &circuit.RefusedError{Code: circuit.RefusedBadRequest} // allowed, and nothing to be had
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// control does what is allowed, so that what refuses everything fails too.
func (s *siege) control(who int) {
	service := map[int]string{guest: "echo", full: "files"}[who]
	if service == "" {
		return
	}
	c, _, err := s.callers[who].NewCircuitToPeerURL(s.Hosts()[besieged].URL(service), nil, 5*time.Second)
	if err != nil {
		s.note("host %d may open %s and cannot: %v", who, service, err)
		return
	}
	c.Close()
	s.mu.Lock()
	s.controls++
	s.mu.Unlock()
}

// The proof by trying: nothing of what is not allowed can be had, by the node's
// interface, by its service's protocol, with whatever names and IDs.
func TestTenThousandUnauthorisedTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSiege(t)
		before := s.Hosts()[besieged].Node().Listing().Peers
		var all sync.WaitGroup
		for who := guest; who < besiegers; who++ {
			all.Go(func() {
				r := rand.New(rand.NewPCG(4, uint64(who)))
				for i := range tries(who) {
					s.try(r, who)
					if i%25 == 0 {
						s.control(who)
					}
				}
			})
		}
		all.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if after := s.Hosts()[besieged].Node().Listing().Peers; len(after) != len(before) {
			t.Errorf("%d peers run, were %d", len(after), len(before))
		}
		for _, b := range s.breaches[:min(20, len(s.breaches))] {
			t.Error(b)
		}
		if s.made < 10_000 || s.controls < 200 {
			t.Errorf("only %d tries and %d controls", s.made, s.controls)
		}
		t.Logf("%d tries, %d allowed; %d of %d controls", s.made, len(s.breaches), s.controls, 2*tries(guest)/25)
		for _, how := range slices.Sorted(maps.Keys(s.ends)) {
			t.Logf("%6d %s", s.ends[how], how)
		}
	})
}
