package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ckt.local/transport/identity"
)

// ownKey is the node ID of a configuration.
func ownKey(t *testing.T, env []string) identity.NodeID {
	t.Helper()
	out, err := command(t, env, "peerctl", "id", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(out), `"id":"`)
	text, _, _ = strings.Cut(text, `"`)
	id, err := identity.ParseNodeID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A session of somebody whose key is revoked while it runs ends within some
// 5 s, at both ends, and no other begins.
func TestRevocationEndsASession(t *testing.T) {
	t.Parallel()
	// It is looked for every 5 s, which a test in virtual time knows exactly
	// (TestRevokedKeyIsRefusedAtOnceAndClosedSoon). Here each look starts a
	// process, which a busy machine takes seconds for; without an end there
	// would be no bound at all.
	const soon = 30 * time.Second
	client, server := cleanEnv(t), cleanEnv(t)
	id := ownKey(t, client)
	revoked := filepath.Join(t.TempDir(), "revoked")
	audit := filepath.Join(t.TempDir(), "audit")
	s := serveFor(t, server, "peerctl", "--authorized", allowing(t, identity.Entry{ID: id}), "--revoked", revoked, "--audit", audit)
	cmd, stderr := sendEndlessly(t, client, s.url)

	if out, err := command(t, server, "peerctl", "revoke", id.String(), "--revoked", revoked).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wantWithin(t, soon, "the server has no circuit of that key", func() bool {
		out, err := command(t, server, "peerctl", "ls", s.url, "--json").Output()
		var ls lsResult
		if err == nil {
			err = json.Unmarshal(out, &ls)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		connected := func(l lsLink) bool { return l.Node == id.String() }
		return len(ls.Circuits) == 0 && !slices.ContainsFunc(ls.Links, connected)
	})
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Errorf("short output looks like success: %s", stderr)
		}
	case <-time.After(patience):
		t.Fatal("the client does not notice")
	}
	if text := stderr.String(); !strings.Contains(text, "refused") && !strings.Contains(text, "revoked") {
		t.Errorf("the client is not told why: %s", text)
	}
	out, err := command(t, client, "peerctl", "ping", s.url, "-n", "1").CombinedOutput()
	wantExit(t, err, exitRefused, string(out))
	if log := s.log.String(); !strings.Contains(log, "revoked key") {
		t.Errorf("the server does not log it:\n%s", log)
	}
}

// What authorized_peers grants to one key is refused above, with the limit's
// name, and another key is not touched by it.
func TestCircuitsOfOneKeyAreBounded(t *testing.T) {
	t.Parallel()
	client, server := cleanEnv(t), cleanEnv(t)
	guests := allowing(t, identity.Entry{ID: ownKey(t, client), MaxCircuits: 1})
	s := serveFor(t, server, "peerctl", "--authorized", guests)
	cmd, _ := sendEndlessly(t, client, s.url)
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	for range 2 {
		out, err := sendText(t, client, s.url)
		wantExit(t, err, exitRefused, out)
		if !strings.Contains(out, "is reached: 1 circuits of one node") || !strings.Contains(out, " --max-circuits N --replace, if") {
			t.Errorf("%s", out)
		}
	}
	out, err := sendText(t, server, s.url)
	wantExit(t, err, exitDone, out)
}

// An interrupt at the question ends the command, and trusts nobody.
func TestQuestionIsInterrupted(t *testing.T) {
	client, server := cleanEnv(t), cleanEnv(t)
	s := serveFor(t, server, "peerctl", "--authorized", allowing(t, identity.Entry{ID: ownKey(t, client)}))
	_, addr, _ := strings.Cut(s.url, "@")
	known := filepath.Join(t.TempDir(), "known")
	master, slave := terminal(t, 80)
	var stderr syncBuffer
	cmd := command(t, client, "peerctl", "--known", known, "ping", addr)
	cmd.Stdin, cmd.Stderr = slave, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	shown, buf := "", make([]byte, 1024)
	for !strings.HasSuffix(shown, "its node ID)? ") {
		n, err := master.Read(buf)
		if err != nil {
			t.Fatalf("%v: %q, %s", err, shown, &stderr)
		}
		shown += string(buf[:n])
	}
	const interrupt = "\x03"
	if _, err := master.WriteString(interrupt); err != nil {
		t.Fatal(err)
	}
	wantExit(t, cmd.Wait(), exitFailed, stderr.String())
	if got := strings.TrimSpace(stderr.String()); got != "peerctl: interrupted" {
		t.Errorf("stderr: %s", got)
	}
	if _, err := os.Stat(known); err == nil {
		t.Error("something is known")
	}
}

func sendText(t *testing.T, env []string, url string) (string, error) {
	t.Helper()
	cmd := command(t, env, "peerctl", "send", url+"/echo")
	cmd.Stdin = strings.NewReader("text")
	out, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return string(out), err
}
