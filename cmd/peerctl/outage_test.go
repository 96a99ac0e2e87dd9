//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ckt.local/cmd/internal/nettest"
)

// throughRelay is the URL of a server's service, by way of a network that can
// be taken away.
func throughRelay(t *testing.T, s *server, service string) (url string, relay *nettest.Relay) {
	t.Helper()
	node, addr, _ := strings.Cut(s.url, "@")
	relay = nettest.NewRelay(t, addr, 0)
	return node + "@" + relay.Addr() + "/" + service, relay
}

// awaitText waits until that matches what was written.
func awaitText(t *testing.T, b *syncBuffer, pattern string) []string {
	t.Helper()
	limit, tick := time.After(patience), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for re := regexp.MustCompile(pattern); ; {
		if m := re.FindStringSubmatch(b.String()); m != nil {
			return m
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("no %s in %q", pattern, b.String())
		}
	}
}

// A sending is a "peerctl send" through a relay, with its input in hand.
type sending struct {
	cmd         *exec.Cmd
	in          io.WriteCloser
	out, stderr syncBuffer
	relay       *nettest.Relay
}

// startSending returns when the first bytes have come back. Their fragment may
// still be unacknowledged.
func startSending(t *testing.T, s *server, env []string, args ...string) *sending {
	t.Helper()
	url, relay := throughRelay(t, s, "echo")
	x := &sending{cmd: command(t, env, "peerctl", append([]string{"send", url}, args...)...), relay: relay}
	x.cmd.Stdout, x.cmd.Stderr = &x.out, &x.stderr
	var err error
	if x.in, err = x.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x.write(t, []byte("first"))
	awaitText(t, &x.out, "first")
	return x
}

func (x *sending) write(t *testing.T, b []byte) {
	t.Helper()
	if _, err := x.in.Write(b); err != nil {
		t.Fatal(err)
	}
}

// What is left of the linger is less where a process is late to say so;
// TestOutagesAreToldOnce knows it to the second.
const (
	lostLine    = `connection to 127\.0\.0\.1:\d+ lost \(nothing acknowledged for [0-9.]+s\): resuming, giving up in 1m5\ds at the latest`
	resumedLine = `resumed after (\d+)s, [1-9]\d* fragments? sent again`
)

func TestSendRidesThroughAnOutage(t *testing.T) {
	t.Parallel()
	env := cleanEnv(t)
	x := startSending(t, serveFor(t, env, "peerctl"), env)
	x.relay.Cut()
	x.write(t, []byte("second")) // short enough to be sent without a word from the other side
	awaitText(t, &x.stderr, lostLine)
	data := noise(3 << 20) // more than the first window
	go func() {
		_, _ = x.in.Write(data) // a short one shows in what comes back
		x.in.Close()
	}()
	<-time.After(2 * time.Second)
	x.relay.Heal()
	wantExit(t, x.cmd.Wait(), exitDone, x.stderr.String())
	if want := "firstsecond" + string(data); x.out.String() != want {
		t.Errorf("%d bytes come back, of %d, or others", len(x.out.String()), len(want))
	}
	if got := x.stderr.String(); !regexp.MustCompile(`^` + lostLine + "\n" + resumedLine + "\n$").MatchString(got) {
		t.Errorf("stderr: %s", got)
	}
}

func TestSendTellsProgramsOfAnOutage(t *testing.T) {
	t.Parallel()
	env := cleanEnv(t)
	x := startSending(t, serveFor(t, env, "peerctl"), env, "--json", "--linger", "1m")
	x.relay.Cut()
	x.write(t, []byte("second"))
	awaitText(t, &x.stderr, "detached")
	x.relay.Heal()
	awaitText(t, &x.stderr, "resumed")
	x.in.Close()
	wantExit(t, x.cmd.Wait(), exitDone, x.stderr.String())
	type line struct {
		Event *struct {
			Code, Message string
			Linger        float64 `json:"linger_s"`
			Seconds       float64
			Replayed      int64
		}
		Sent int `json:"sent_bytes"`
	}
	var lines []line
	for dec := json.NewDecoder(strings.NewReader(x.stderr.String())); dec.More(); {
		var l line
		if err := dec.Decode(&l); err != nil {
			t.Fatalf("%v: %s", err, &x.stderr)
		}
		lines = append(lines, l)
	}
	if len(lines) != 3 || lines[0].Event == nil || lines[1].Event == nil {
		t.Fatalf("stderr: %s", x.stderr.String())
	}
	if e := lines[0].Event; e.Code != "detached" || e.Linger != 60 || !strings.HasPrefix(e.Message, "connection to ") {
		t.Errorf("%+v", e)
	}
	if e := lines[1].Event; e.Code != "resumed" || e.Seconds < 1 || e.Replayed < 1 || e.Replayed > 2 {
		t.Errorf("%+v", e)
	}
	if lines[2].Sent != len("firstsecond") {
		t.Errorf("summary: %s", x.stderr.String())
	}
}

func TestSendInterruptedInAnOutage(t *testing.T) {
	t.Parallel()
	env := cleanEnv(t)
	s := serveFor(t, env, "peerctl")
	x := startSending(t, s, env)
	x.relay.Cut()
	x.write(t, []byte("second"))
	awaitText(t, &x.stderr, lostLine)
	start := time.Now()
	if err := x.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	wantExit(t, x.cmd.Wait(), exitFailed, x.stderr.String())
	// Else it would wait 5 s for acknowledgements, as at any other end.
	if took := time.Since(start); took > 4500*time.Millisecond {
		t.Errorf("ended after %v", took)
	}
	_ = s.end(syscall.SIGKILL) // it would wait for who is gone
	if got := x.stderr.String(); !regexp.MustCompile(`^` + lostLine + "\npeerctl: interrupted; of what was sent, [12] fragments? had not been acknowledged\n$").MatchString(got) {
		t.Errorf("stderr: %s", got)
	}
}

func TestSendAcrossARestart(t *testing.T) {
	t.Parallel()
	env := cleanEnv(t)
	s := serveFor(t, env, "peerctl")
	x := startSending(t, s, env)
	_, addr, _ := strings.Cut(s.url, "@")
	_ = s.end(syscall.SIGKILL) // its error is the kill
	x.write(t, []byte("second"))
	again, err := startServer(t.TempDir(), env, "peerctl", "--listen", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.end(syscall.SIGTERM) })
	start := time.Now()
	wantExit(t, x.cmd.Wait(), exitUnreachable, x.stderr.String())
	// Else it would wait out its linger of two minutes. How soon it can be
	// known is for TestRestartIsKnownWithinASecond to say, in virtual time.
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("noticed after %v", took)
	}
	const want = `peerctl: the node at 127\.0\.0\.1:\d+ has restarted; of what was sent, [12] fragments? had not been acknowledged\n` +
		`  hint: run this again from the beginning\n$`
	if got := x.stderr.String(); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("stderr: %s", got)
	}
}

func TestSendGivesUpAfterLinger(t *testing.T) {
	t.Parallel()
	env := cleanEnv(t)
	x := startSending(t, serveFor(t, env, "peerctl", "--linger", "2s"), env, "--linger", "1m")
	x.relay.Cut()
	x.write(t, []byte("second"))
	wantExit(t, x.cmd.Wait(), exitUnreachable, x.stderr.String())
	const want = `lost \(.*\): resuming, giving up in 5\ds at the latest\n` +
		`peerctl: the connection to 127\.0\.0\.1:\d+ is lost \(linger of 2s expired: nothing acknowledged for .*\); ` +
		`of what was sent, [12] fragments? had not been acknowledged\n` +
		`  hint: is the node running, and can it be reached\? peerctl ping ckt://\S+ tells\. Then run this again .* --linger .*\n$`
	if got := x.stderr.String(); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("stderr: %s", got)
	}
}

func TestPushRidesThroughAnOutage(t *testing.T) {
	t.Parallel()
	env, inbox, src := cleanEnv(t), t.TempDir(), t.TempDir()
	url, relay := throughRelay(t, serveFor(t, env, "peerctl", "--dir", inbox), "files")
	const count = 1500
	for i := range count {
		if err := os.WriteFile(filepath.Join(src, fmt.Sprint(i)), fmt.Append(nil, "file ", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var stderr syncBuffer
	var stdout bytes.Buffer
	cmd := command(t, env, "peerctl", "push", src, url)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	arrived := func() int {
		names, err := os.ReadDir(inbox)
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	for begin := time.Now(); arrived() < 50; <-time.After(5 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatal("nothing arrives")
		}
	}
	relay.Cut()
	if n := arrived(); n > count/2 {
		t.Logf("%d of %d files were there before the cut", n, count)
	}
	awaitText(t, &stderr, `connection to 127\.0\.0\.1:\d+ lost \(`)
	relay.Heal()
	wantExit(t, cmd.Wait(), exitDone, stderr.String())
	if !strings.HasPrefix(stdout.String(), fmt.Sprintf("%d files, ", count)) || arrived() != count {
		t.Errorf("%d of %d files; stdout %s", arrived(), count, &stdout)
	}
	if got := stderr.String(); !regexp.MustCompile(`^connection .*\nresumed after \d+s, \d+ fragments? sent again\n$`).MatchString(got) {
		t.Errorf("stderr: %s", got)
	}
}

// The bar must not garble what is said above it, nor be garbled.
func TestOutageAboveTheProgressBar(t *testing.T) {
	t.Parallel()
	const columns = 120
	env := cleanEnv(t)
	s := serveFor(t, env, "peerctl", "--dir", t.TempDir())
	node, addr, _ := strings.Cut(s.url, "@")
	relay := nettest.NewRelay(t, addr, 3<<20)
	src := filepath.Join(t.TempDir(), "f")
	// At the relay's rate that takes 5 s: the cut comes before its end.
	if err := os.WriteFile(src, noise(16<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	master, slave := terminal(t, columns)
	cmd := command(t, env, "peerctl", "push", src, node+"@"+relay.Addr()+"/files")
	cmd.Stdout, cmd.Stderr = slave, slave
	shown, read := &syncBuffer{}, make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(shown, master) // fails when the other end is closed
	}()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitText(t, shown, `[1-9]\.\d MiB / 16\.0 MiB`)
	relay.Cut()
	awaitText(t, shown, `connection to`)
	relay.Heal()
	err := cmd.Wait()
	slave.Close()
	<-read
	wantExit(t, err, exitDone, shown.String())
	// A line that stays is followed by a bar, or by the result.
	stays := regexp.MustCompile(`(?m)^(\x1b\[1A\x1b\[J)*(connection to .* at the latest|resumed after \d+s, \d+ fragments? sent again)\r?$`)
	if got := stays.FindAllString(shown.String(), -1); len(got) != 2 {
		t.Errorf("%d lines about the outage: %q", len(got), shown.String())
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(shown.String(), "\x1b[1A\x1b[J", ""), "\n") {
		if bar := strings.Contains(line, " / 16.0 MiB "); bar && !regexp.MustCompile(`^\s*\S+ \S+ / 16\.0 MiB `).MatchString(line) {
			t.Errorf("a garbled bar: %q", line)
		}
	}
}
