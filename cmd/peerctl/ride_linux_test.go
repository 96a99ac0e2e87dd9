package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ckt.local/cmd/internal/nettest"
)

const (
	blackout = 30 * time.Second
	ridden   = 12 << 20 // bytes that a ride carries
	pathBps  = 4 << 20  // bytes a second that its path takes

	// rideTime has room for the waits of awaitMiddle and finish, which judge,
	// and the blackout between them.
	rideTime = patience + blackout + patience
)

// A path is what lies between two processes and can be taken away.
type path interface {
	serve(args ...string) (*server, error) // starts "peerctl serve" at the far end
	url(s *server) string                  // where it can be reached
	start(cmd *exec.Cmd) error             // at the near end
	passed() int64                         // bytes so far
	cut()
	heal()
}

// relayed is a path over a relay on the loopback interface, for which nobody
// needs to be root.
type relayed struct {
	t     *testing.T
	env   []string
	relay *nettest.Relay
}

func (p *relayed) serve(args ...string) (*server, error) {
	s, err := startServer(p.t.TempDir(), p.env, "peerctl", append([]string{"--listen", "127.0.0.1:0"}, args...)...)
	if err == nil {
		_, addr, _ := strings.Cut(s.url, "@")
		p.relay = nettest.NewRelay(p.t, addr, pathBps)
	}
	return s, err
}

func (p *relayed) url(s *server) string {
	node, _, _ := strings.Cut(s.url, "@")
	return node + "@" + p.relay.Addr()
}

func (p *relayed) start(cmd *exec.Cmd) error { return cmd.Start() }
func (p *relayed) passed() int64             { return p.relay.Passed() }
func (p *relayed) cut()                      { p.relay.Cut() }
func (p *relayed) heal()                     { p.relay.Heal() }

// cabled is a path between two hosts.
type cabled struct {
	t         *testing.T
	env       []string
	near, far *nettest.Host
	unplug    bool // the machines see it, and say so to whoever sends
}

func newCabled(t *testing.T, env []string, unplug bool) *cabled {
	p := &cabled{t: t, env: env, unplug: unplug}
	p.near, p.far = nettest.Pair(t)
	p.near.Shape(8*pathBps, 200<<10)
	p.far.Shape(8*pathBps, 200<<10)
	return p
}

func (p *cabled) serve(args ...string) (s *server, err error) {
	dir := p.t.TempDir()
	args = append([]string{"--listen", p.far.Addr().String() + ":0"}, args...)
	err = p.far.Run(func() (err error) {
		s, err = startServer(dir, p.env, "peerctl", args...)
		return err
	})
	return s, err
}

func (p *cabled) url(s *server) string      { return s.url }
func (p *cabled) start(cmd *exec.Cmd) error { return p.near.Run(cmd.Start) }
func (p *cabled) passed() int64             { return p.near.Received() + p.far.Received() }

func (p *cabled) cut() {
	if p.unplug {
		p.near.Unplug()
		return
	}
	p.near.Lose(100)
	p.far.Lose(100)
}

func (p *cabled) heal() {
	if p.unplug {
		p.near.Plug()
		return
	}
	p.near.Lose(0)
	p.far.Lose(0)
}

// A ride is one command under way over a path.
type ride struct {
	path
	cmd    *exec.Cmd
	stderr *syncBuffer
	done   chan error // gets what the command's end was, when its output has been read
	check  func(t *testing.T)
}

// serving starts the far end; it ends with the test.
func serving(t *testing.T, p path, args ...string) *server {
	t.Helper()
	s, err := p.serve(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.done
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	return s
}

// rideSend sends to an echo, and wants back what it has sent.
func rideSend(t *testing.T, p path, env []string) *ride {
	t.Helper()
	data := noise(ridden)
	var back bytes.Buffer
	s := serving(t, p)
	r := &ride{path: p, stderr: &syncBuffer{}, done: make(chan error, 1)}
	r.cmd = commandFor(t, rideTime, env, "peerctl", "send", p.url(s)+"/echo")
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = bytes.NewReader(data), &back, r.stderr
	r.check = func(t *testing.T) {
		if !bytes.Equal(back.Bytes(), data) {
			t.Errorf("of %d bytes, %d came back, and they are not the same", len(data), back.Len())
		}
	}
	r.run(t)
	return r
}

// ridePush pushes a few files.
func ridePush(t *testing.T, p path, env []string) *ride {
	t.Helper()
	src, inbox := t.TempDir(), t.TempDir()
	data := noise(ridden)
	sizes := map[string]int{"big": ridden / 2, "small": 100, "middle": ridden / 4, "other": ridden / 4, "empty": 0}
	for name, size := range sizes {
		if err := os.WriteFile(filepath.Join(src, name), data[:size], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := serving(t, p, "--dir", inbox)
	r := &ride{path: p, stderr: &syncBuffer{}, done: make(chan error, 1)}
	r.cmd = commandFor(t, rideTime, env, "peerctl", "push", src, p.url(s)+"/files")
	r.cmd.Stdout, r.cmd.Stderr = io.Discard, r.stderr
	r.check = func(t *testing.T) {
		for name, size := range sizes {
			got, err := os.ReadFile(filepath.Join(inbox, name))
			if err != nil || !bytes.Equal(got, data[:size]) {
				t.Errorf("%s: %d bytes of %d, %v", name, len(got), size, err)
			}
		}
	}
	r.run(t)
	return r
}

// run starts the command and takes its network away in the middle.
func (r *ride) run(t *testing.T) {
	t.Helper()
	if err := r.start(r.cmd); err != nil {
		t.Fatal(err)
	}
	go func() { r.done <- r.cmd.Wait() }()
	r.awaitMiddle(t)
	r.cut()
}

// awaitMiddle returns when a quarter has been carried.
func (r *ride) awaitMiddle(t *testing.T) {
	t.Helper()
	limit, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for r.passed() < ridden/4 {
		select {
		case <-tick.C:
		case err := <-r.done:
			t.Fatalf("%s has ended before the outage: %v\n%s", r.cmd.Args[1], err, r.stderr)
		case <-limit:
			t.Fatalf("%s does not get on\n%s", r.cmd.Args[1], r.stderr)
		}
	}
}

// finish checks how a command has come through.
func (r *ride) finish(t *testing.T, healed time.Time) {
	t.Helper()
	name := r.cmd.Args[1]
	select {
	case err := <-r.done:
		wantExit(t, err, exitDone, r.stderr.String())
	case <-time.After(patience):
		t.Fatalf("%s does not end\n%s", name, r.stderr)
	}
	t.Logf("%s: done %v after the heal; stderr:\n%s", name, time.Since(healed).Round(time.Millisecond), r.stderr)
	r.check(t)
	if !regexp.MustCompile(`(?s)connection to \S+ lost .*resuming.*\n.*resumed after \d`).MatchString(r.stderr.String()) {
		t.Errorf("%s does not say that the connection was lost, and that it is resuming and has resumed", name)
	}
	if lines := strings.Count(r.stderr.String(), "\n"); lines > 10 {
		t.Errorf("%s says too much: %d lines", name, lines)
	}
}

// TestOutage takes the network away from send and push for half a minute. They
// ride through it, and say so: over a relay, and where
// this process may make hosts, over cables that are pulled out or cut in the
// middle.
func TestOutage(t *testing.T) {
	t.Parallel()
	env := cleanEnv(t)
	rides := []*ride{
		rideSend(t, &relayed{t: t, env: env}, env),
		ridePush(t, &relayed{t: t, env: env}, env),
	}
	if err := nettest.Allowed(); err != nil {
		t.Logf("only over a relay: %v", err)
	} else {
		for _, unplug := range []bool{true, false} {
			rides = append(rides, rideSend(t, newCabled(t, env, unplug), env), ridePush(t, newCabled(t, env, unplug), env))
		}
	}
	<-time.After(blackout)
	healed := time.Now()
	for _, r := range rides {
		r.heal()
	}
	for _, r := range rides {
		r.finish(t, healed)
	}
}
