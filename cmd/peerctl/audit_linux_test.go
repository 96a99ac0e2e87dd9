package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ckt.local/peer"
	"ckt.local/transport/identity"
)

// A guest is a node in the test's process that can ask for what peerctl would
// not ask for.
func newGuest(t *testing.T) *peer.Node {
	t.Helper()
	n, err := peer.NewNode(peer.Config{ListenAddr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// allowing writes an authorized_peers file.
func allowing(t *testing.T, entries ...identity.Entry) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "guests")
	for _, e := range entries {
		if err := identity.AppendAuthorized(path, e); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// auditRecords reads an audit log, of which each line has to be an object with
// nothing but what belongs there.
func auditRecords(t *testing.T, text string) []map[string]any {
	t.Helper()
	known := []string{
		"time", "level", "msg", "action", "node", "key", "from", "addr", "service", "peer", "circuit", "allowed", "reason", "n",
	}
	var records []map[string]any
	for line := range strings.Lines(text) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil || !strings.HasSuffix(line, "}\n") {
			t.Fatalf("%v: %q", err, line)
		}
		for name := range r {
			if !slices.Contains(known, name) {
				t.Errorf("%q does not belong into %s", name, line)
			}
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f || r == 0x202e || r == 0x9b }) {
			t.Errorf("a terminal would obey %q", line)
		}
		records = append(records, r)
	}
	return records
}

// times is how often something is recorded, as action, node, service and
// whether it was allowed.
func times(t *testing.T, records []map[string]any, want string) (n int) {
	t.Helper()
	for _, r := range records {
		if fmt.Sprint(r["action"], " ", r["node"], " ", r["service"], " ", r["allowed"]) != want {
			continue
		}
		n++
		if r["allowed"] == false && r["reason"] == nil {
			t.Errorf("no reason is given for %v", r)
		}
	}
	return n
}

func TestAuditSaysWhoDidWhat(t *testing.T) {
	t.Parallel()
	const payload = "what-was-sent-is-nobody-elses-business"
	env := cleanEnv(t)
	guest, stranger := newGuest(t), newGuest(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	guests := allowing(t, identity.Entry{ID: guest.ID(), Services: []string{"echo"}})
	s := serveFor(t, env, "peerctl", "--authorized", guests, "--audit", path)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, _, err := guest.PeerAPI.StartRemotePeer(ctx, "echo", s.url, 0); err != nil {
		t.Fatal(err)
	}
	hostile := []string{"\x1b[31mred", "two\nlines", "\u202egpj.exe", "\u009b2J", "no UTF-8 \xff", `"quoted"}{`, strings.Repeat("x", 65), "../files"}
	for _, name := range append(hostile, "files") {
		if _, _, err := guest.PeerAPI.StartRemotePeer(ctx, name, s.url, 0); err == nil {
			t.Errorf("%q was started", name)
		}
	}
	for range 50 {
		if _, err := stranger.Connect(ctx, s.url); err == nil {
			t.Fatal("a stranger is let in")
		}
	}
	cmd := command(t, env, "peerctl", "send", s.url+"/echo")
	cmd.Stdin = strings.NewReader(payload)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != payload {
		t.Fatalf("%v: %s", err, out)
	}
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}

	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), payload) {
		t.Error("a payload is in it")
	}
	records := auditRecords(t, string(text))
	for want, most := range map[string]int{
		fmt.Sprintf("connect %v <nil> true", guest.ID()):     len(records),
		fmt.Sprintf("start %v echo true", guest.ID()):        1,
		fmt.Sprintf("start %v files false", guest.ID()):      1,
		fmt.Sprintf("connect %v <nil> false", stranger.ID()): 2, // equal ones of a minute are counted
	} {
		if n := times(t, records, want); n == 0 || n > most {
			t.Errorf("%d times %q in\n%s", n, want, text)
		}
	}

	// The next run goes on where this one has ended.
	s = serveFor(t, env, "peerctl", "--authorized", guests, "--audit", path)
	if _, err := guest.Connect(ctx, s.url); err != nil {
		t.Error(err)
	}
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	more, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(more), string(text)) || len(auditRecords(t, string(more))) <= len(records) {
		t.Errorf("it was not gone on with: %v", err)
	}
}

func TestAuditToStderr(t *testing.T) {
	t.Parallel()
	env := cleanEnv(t)
	s := serveFor(t, env, "peerctl", "--audit", "-")
	if out, err := command(t, env, "peerctl", "ping", s.url, "-n", "1").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if log := s.log.String(); !strings.Contains(log, `"msg":"audit","action":"connect"`) {
		t.Error(log)
	}
}

func TestAuditThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, exit := range map[string]int{dir: exitFailed, filepath.Join(dir, "missing", "audit"): exitFailed, "": exitUsage} {
		out, err := command(t, cleanEnv(t), "peerctl", "serve", "--listen", "127.0.0.1:0", "--audit", path).CombinedOutput()
		wantExit(t, err, exit, string(out))
		if exit == exitFailed && !strings.Contains(string(out), "hint: give --audit a FILE") {
			t.Errorf("%s", out)
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	out, err := command(t, cleanEnv(t), "peerctl", "serve", "--listen", "127.0.0.1:0", "--audit", pipe).CombinedOutput()
	wantExit(t, err, exitUsage, string(out))
}

// A node whose audit log has no room goes on, and says so once.
func TestAuditToAFullDisk(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	env := cleanEnv(t)
	s := serveFor(t, env, "peerctl", "--audit", "/dev/full")
	for range 3 {
		if out, err := command(t, env, "peerctl", "ping", s.url, "-n", "1").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if n := strings.Count(s.log.String(), "audit records are being lost"); n != 1 {
		t.Errorf("it says so %d times:\n%s", n, s.log.String())
	}
}

// wantWithin polls what another process does: nothing tells when it is done.
func wantWithin(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	over, tick := time.After(limit), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
