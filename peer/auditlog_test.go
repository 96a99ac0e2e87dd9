package peer_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
	"ckt.local/transport/identity"
)

// An auditLog collects what a node's audit log says.
type auditLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (a *auditLog) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.b.Write(p)
}

func (a *auditLog) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(a, nil)) }

// take returns the records since the last call, each as "action service allowed
// or refused", and the whole text.
func (a *auditLog) take(t *testing.T) (short []string, text string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	text = a.b.String()
	a.b.Reset()
	for line := range strings.Lines(text) {
		var r struct {
			Action, Service, Node, Reason, Peer, Circuit string
			Allowed                                      bool
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if _, err := identity.ParseNodeID(r.Node); err != nil && r.Action != "dial" {
			t.Errorf("whose is %s", line)
		}
		if r.Allowed == (r.Reason != "") {
			t.Errorf("neither allowed nor refused for a reason: %s", line)
		}
		if r.Action == "open" && r.Circuit == "" || r.Action == "start" && r.Allowed && r.Peer == "" {
			t.Errorf("of what: %s", line)
		}
		s := strings.Join(strings.Fields(r.Action+" "+r.Service), " ")
		if !r.Allowed {
			s += " refused"
		}
		short = append(short, s)
	}
	return short, text
}

func TestAuditLogSaysWhoDidWhat(t *testing.T) {
	log := new(auditLog)
	secret := []byte("a key that is shared by all of us")
	nodes := peertest.Config{
		Connect: func(i, j int) bool { return false },
		Adjust: func(i int, cfg *peer.Config) {
			cfg.PreSharedKeys = [][]byte{secret}
			if i == 0 {
				cfg.Audit = log.logger()
				all := cfg.Authorize
				cfg.Authorize = func(r peer.Request) error {
					if r.Service == "private" {
						return &identity.DeniedError{ID: r.Node, Service: r.Service, Reason: "line 3: other services only"}
					}
					return all(r)
				}
			}
		},
	}.NewCluster(t, 2)
	nodes.Register("echo", echo)
	nodes.Register("private", echo)
	here, asker := nodes.Nodes[0], nodes.Nodes[1].PeerAPI
	want := func(what ...string) string {
		t.Helper()
		var got []string
		var text string
		eventually(t, strings.Join(what, ", "), func() bool {
			short, more := log.take(t)
			got, text = append(got, short...), text+more
			return len(got) >= len(what)
		})
		if strings.Join(got, ", ") != strings.Join(what, ", ") {
			t.Errorf("the log has %q, want %q", got, what)
		}
		return text
	}

	url, _, err := asker.StartRemotePeer(t.Context(), "echo", here.URL(), 0)
	if err != nil {
		t.Fatal(err)
	}
	want("connect", "start echo")
	caller := nodes.Start(1, "echo")
	payload := "the payload of a fragment"
	c, _, err := caller.NewCircuitToPeerURL(url, &circuit.Fragment{Payload: []byte(payload), FragSubject: payload}, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := want("open echo")
	if !strings.Contains(text, `"circuit":"`+c.CircuitID()+`"`) || !strings.Contains(text, `"node":"`+nodes.Nodes[1].ID().String()+`"`) ||
		strings.Contains(text, payload) || strings.Contains(text, string(secret)) {
		t.Errorf("the record of the opening: %s", text)
	}
	_, _, err = caller.NewCircuitToPeerURL(peer.URL{Node: here.ID(), Service: "private"}.String(), nil, 0)
	wantRefused(t, err, circuit.RefusedUnauthorized)
	if text = want("open private refused"); !strings.Contains(text, "line 3: other services only") {
		t.Errorf("the reason is missing: %s", text)
	}
	wantRefused(t, startOn(t, nodes, 1, "private")(), circuit.RefusedUnauthorized)
	want("start private refused")
	wantRefused(t, startOn(t, nodes, 1, "a\nname \x1b[1m that is none")(), circuit.RefusedBadRequest)
	if text = want("start a name \x1b[1m that is none refused"); strings.Count(text, "\n") != 1 || strings.Contains(text, "\x1b") {
		t.Errorf("a hostile name gets through: %q", text)
	}
	if _, err := asker.List(t.Context(), here.URL()); err != nil {
		t.Fatal(err)
	}
	if err := asker.StopRemotePeer(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, asker.StopRemotePeer(t.Context(), nodes.Start(0, "echo").URL()), circuit.RefusedUnauthorized)
	want("list", "stop echo", "stop refused")
	// What is asked for without end, and allowed, is not in it.
	if _, err := nodes.Nodes[1].Connect(t.Context(), here.URL()); err != nil {
		t.Fatal(err)
	}
	if short, _ := log.take(t); len(short) != 0 {
		t.Errorf("the log has %q", short)
	}
}

func TestAuditLogOfDialsAndStrangers(t *testing.T) {
	log := new(auditLog)
	mine, theirs := newKey(t), newKey(t)
	here := newNode(t, peer.Config{Identity: mine, Audit: log.logger(), Authorize: peer.AllowNodes(theirs.ID())})
	there := newNode(t, peer.Config{Identity: theirs, Authorize: peer.AllowNodes(mine.ID())})
	stranger := newNode(t, peer.Config{})
	shy := newNode(t, peer.Config{Identity: theirs, PreSharedKeys: [][]byte{bytes.Repeat([]byte("s"), 32)}, Authorize: peer.AllowNodes(mine.ID())})
	ctx := t.Context()
	dial := func(addr string) { here.Connect(ctx, addr) }
	dial(there.URL())
	dial(there.URL()) // is connected
	dial(stranger.Addr().String())
	dial(peer.URL{Node: theirs.ID(), Addr: stranger.Addr().String()}.String())
	dial(shy.URL())
	dial("127.0.0.1:1x")
	if _, err := stranger.Connect(ctx, here.URL()); err == nil {
		t.Error("a stranger is let in")
	}
	short, text := log.take(t)
	if got, want := strings.Join(short, ", "), "dial, dial refused, dial refused, dial refused, connect refused"; got != want {
		t.Errorf("the log has %s, want %s\n%s", got, want, text)
	}
	if !strings.Contains(text, "pre-shared key") || !strings.Contains(text, `"addr":"`+shy.Addr().String()+`"`) {
		t.Errorf("no word of the pre-shared key: %s", text)
	}
	for range 20 {
		stranger.Connect(ctx, here.URL())
	}
	if short, _ := log.take(t); len(short) != 0 {
		t.Errorf("the same refusal is repeated: %q", short)
	}
	if err := here.Close(); err != nil {
		t.Fatal(err)
	}
	short, text = log.take(t)
	var last struct{ N int }
	if err := json.Unmarshal([]byte(text), &last); err != nil || len(short) != 1 {
		t.Fatalf("what was left out: %s, %v", text, err)
	}
	// Where a handshake is slow another one is begun beside it, and judged too.
	if last.N < 19 || last.N > 2*20 {
		t.Errorf("%d are counted of 19: %s", last.N, text)
	}
}
