package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"ckt.local/peer/files"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

func TestHintsOfRemoteLimits(t *testing.T) {
	self := identity.NodeID{2}
	mine := fmt.Sprintf("peerctl authorize %v --like %v ", self, self)
	for _, c := range []struct {
		what string
		has  []string
		not  string
	}{
		{limit.Circuits.String() + ofOne, []string{"this node's key: end what has circuits open there", mine + "--max-circuits N --replace, if its line there says max-circuits; else circuit.circuits_per_node in"}, ""},
		{limit.Opens.String() + ofOne, []string{"wait a second", mine + "--rate N --replace, if its line there says rate; else circuit.opens_per_second in"}, ""},
		{limit.Starts.String() + ofOne, []string{"wait a second", mine + "--rate N --replace", "peer.starts_per_second in"}, ""},
		{"requests per second" + ofOne, []string{"wait a second", mine + "--rate N --replace, if its line there says rate; else circuit.opens_per_second in"}, ""},
		{limit.Hellos.String() + ofOne, []string{"wait a second", "transport.conns_per_second in"}, "authorize"},
		{limit.Conns.String() + ofOne, []string{"try again later", "transport.conns_per_node in"}, "authorize"},
		{limit.Circuits.String(), []string{"for all nodes together", "circuit.circuits in"}, "authorize"},
		{limit.Conns.String(), []string{"for all nodes together", "transport.conns in"}, "authorize"},
		{limit.Peers.String() + ofOne, []string{"stop-remote-peer", "peer.started_per_node in"}, "authorize"},
		{limit.Peers.String(), []string{"stop-remote-peer", "for all nodes together", "peer.started in"}, "authorize"},
		{"of what it does not name", []string{"try again later", "on the other machine: the FILE of peerctl serve --limits"}, "authorize"},
	} {
		a := &app{addr: "node:1", self: self}
		v := a.judge(fmt.Errorf("%w", &transport.LimitError{What: c.what, Limit: 3, Remote: true}))
		if v.Code != "limit" || v.Exit != exitRefused || !strings.Contains(v.Message, "a limit of the node at node:1 is reached: 3 "+c.what) {
			t.Errorf("%s: %+v", c.what, v)
		}
		for _, has := range c.has {
			if !strings.Contains(v.Hint, has) {
				t.Errorf("%s: no %q in %q", c.what, has, v.Hint)
			}
		}
		if c.not != "" && strings.Contains(v.Hint, c.not) {
			t.Errorf("%s: %q in %q", c.what, c.not, v.Hint)
		}
	}
}

// The names in hints are those that a file of limits can have.
func TestLimitsInHintsHaveFields(t *testing.T) {
	for _, what := range []string{"connections", "circuits", "started peers"} {
		for _, name := range []string{what, what + ofOne} {
			wantField(t, name)
		}
	}
	for _, what := range []string{limit.Hellos.String(), limit.Opens.String(), limit.Starts.String()} {
		wantField(t, what+ofOne)
	}
	wantField(t, "service name bytes")
}

func wantField(t *testing.T, what string) {
	t.Helper()
	layer, field, _ := strings.Cut(raiserOf(what).field, ".")
	_, after, ok := strings.Cut(limitNames(), "  "+layer+"\n")
	if layer == "" || !ok || !strings.Contains(after, "    "+field+" ") {
		t.Errorf("%s: no field %s.%s", what, layer, field)
	}
}

func TestPushAtALimitSaysWhatToDo(t *testing.T) {
	a := &app{addr: "node:1"}
	reached := &transport.LimitError{What: limit.Circuits.String() + ofOne, Limit: 1, Remote: true}
	err := a.notPushed([]*files.FileError{{Path: "a", Err: errors.New("other")}, {Path: "b", Err: fmt.Errorf("%w", reached)}}, 3)
	v := a.judge(err)
	if v.Exit != exitFailed || v.Message != "not pushed: 2 of 3 files and directories" ||
		!strings.Contains(v.Hint, "a smaller --parallel") || !strings.Contains(v.Hint, "--max-circuits") {
		t.Errorf("%+v", v)
	}
	v = a.judge(a.notPushed([]*files.FileError{{Path: "a", Err: reached}, {Path: "b", Err: fmt.Errorf("%w", reached)}}, 3))
	if v.Exit != exitRefused || v.Code != "limit" || !strings.Contains(v.Hint, "a smaller --parallel") {
		t.Errorf("%+v", v)
	}
	if v := a.judge(a.notPushed([]*files.FileError{{Path: "a", Err: files.ErrChanged}}, 1)); v.Hint != "" {
		t.Errorf("%+v", v)
	}
}

func TestCommandsInHintsAreForAShell(t *testing.T) {
	for want, args := range map[string][]string{
		"peerctl authorize me.pub --services echo --add":     {"authorize", "me.pub", "--services", "echo"},
		`peerctl authorize 'it'\''s me' --from '10.*' --add`: {"authorize", "it's me", "--from", "10.*"},
		"peerctl authorize --start '' --add -- me.pub":       {"authorize", "--start", "", "--", "me.pub"},
	} {
		a := &app{args: args}
		if got := a.again("--add"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestCutLines(t *testing.T) {
	e := identity.Entry{ID: identity.NodeID{1}, Services: []string{"echo"}, Comment: "me@laptop"}
	if got, want := cutLine(e), `services="echo" ssh-ed25519 …AAAAAAAA me@laptop`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	e.Comment = strings.Repeat("ä", 300)
	if got := []rune(cutLine(e)); len(got) != longShown || got[longShown-1] != '…' {
		t.Errorf("%d characters: %s", len(got), string(got))
	}
	err := &listedError{again: (&app{}).again}
	for range 11 {
		err.lines = append(err.lines, e)
	}
	v := (&app{}).judge(err)
	if v.Exit != exitUsage || len(v.Lines) != mostShown+1 || v.Lines[mostShown] != "and 3 more" {
		t.Errorf("%+v", v)
	}
}
