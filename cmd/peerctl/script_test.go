package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

// patience bounds everything that a test waits for.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"peerctl": func() {
		detach()
		main()
	}})
}

// TestScripts runs the transcripts in testdata/script, each with a directory,
// a configuration and a node key of its own. Besides the commands that
// testscript knows, which come first if a name is one of theirs, they have:
//
//	serve NAME ARG…     runs "peerctl serve ARG…" until the script ends; $NAME is its URL, ${NAME}_ADDR its host:port
//	end NAME            ends it with SIGTERM, and wants exit code 0
//	kill9 NAME          kills it
//	logged NAME REGEXP  wants a line like that in the stderr of a server that has ended
//	exits CODE ARG…     runs "peerctl ARG…" and wants that exit code
//	capture VAR         sets $VAR to the last stdout
//	random FILE BYTES   writes a file of reproducible noise
//	rotation FILE OLDKEY NEWKEY FROM UNTIL  writes a statement that holds between two times from now
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_CONFIG_HOME", e.Getenv("WORK")+"/config")
			e.Setenv("SSH_AUTH_SOCK", "")
			// The race detector waits a second at each exit unless told not to.
			e.Setenv("GORACE", "atexit_sleep_ms=20")
			e.Values[serversKey{}] = servers{}
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "terminals" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			_, err := os.Stat("/dev/ptmx")
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve":   serveScript,
			"end":     endScript,
			"kill9":   kill9Script,
			"logged":  loggedScript,
			"exits":   exitsScript,
			"capture": captureScript,
			"random":  randomScript,

			"rotation": rotationScript,
		},
	})
}

// servers are the nodes that one script has started, by name; serversKey is
// where a script keeps them.
type (
	servers    map[string]*server
	serversKey struct{}
)

// ended comes before the name of a server that has ended.
const ended = "ended "

// A server is a "peerctl serve" that runs.
type server struct {
	cmd  *exec.Cmd
	log  syncBuffer // its stderr
	url  string
	done chan error // gets what Wait returns
}

// startServer returns when the first line of the server's output is there.
func startServer(dir string, env []string, program string, args ...string) (*server, error) {
	s := &server{done: make(chan error, 1)}
	s.cmd = exec.Command(program, append([]string{"serve"}, args...)...)
	s.cmd.Dir, s.cmd.Env, s.cmd.Stderr = dir, env, &s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("serve printed no line: %w, %w\n%s", err, s.cmd.Wait(), s.log.String())
	}
	s.url = strings.TrimSpace(line)
	go func() { s.done <- s.cmd.Wait() }()
	return s, nil
}

// end sends the signal and waits.
func (s *server) end(sig os.Signal) error {
	if err := s.cmd.Process.Signal(sig); err != nil {
		return err
	}
	select {
	case err := <-s.done:
		return err
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		return errors.New("does not end")
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "CKT_PASSPHRASE", "GORACE"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func serveScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: serve NAME ARG…")
	}
	program, err := exec.LookPath("peerctl")
	ts.Check(err)
	all := ts.Value(serversKey{}).(servers)
	s, err := startServer(ts.MkAbs("."), environ(ts), program, append([]string{"--listen", "127.0.0.1:0"}, args[1:]...)...)
	ts.Check(err)
	name := args[0]
	all[name] = s
	ts.Defer(func() {
		if all[name] == s {
			if err := s.end(syscall.SIGTERM); err != nil {
				ts.Logf("%s: %v", name, err)
			}
		}
		ts.Logf("[%s]\n%s", name, s.log.String())
	})
	ts.Setenv(name, s.url)
	_, addr, _ := strings.Cut(s.url, "@")
	ts.Setenv(name+"_ADDR", addr)
}

// take removes a server from those that end with the script.
func take(ts *testscript.TestScript, args []string) *server {
	all := ts.Value(serversKey{}).(servers)
	if len(args) != 1 || all[args[0]] == nil {
		ts.Fatalf("no such server: %v", args)
	}
	s := all[args[0]]
	delete(all, args[0])
	all[ended+args[0]] = s
	return s
}

func endScript(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(take(ts, args).end(syscall.SIGTERM))
}

func kill9Script(ts *testscript.TestScript, _ bool, args []string) {
	if err := take(ts, args).end(syscall.SIGKILL); err == nil {
		ts.Fatalf("the server has ended by itself")
	}
}

func loggedScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: logged NAME REGEXP")
	}
	s := ts.Value(serversKey{}).(servers)[ended+args[0]]
	if s == nil {
		ts.Fatalf("%s has not ended", args[0])
	}
	if log := s.log.String(); !regexp.MustCompile(args[1]).MatchString(log) {
		ts.Fatalf("%s has not logged %s:\n%s", args[0], args[1], log)
	}
}

func exitsScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE ARG…")
	}
	err := ts.Exec("peerctl", args[1:]...)
	code := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func captureScript(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func randomScript(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), noise(n), 0o644))
}

func rotationScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: rotation FILE OLDKEY NEWKEY FROM UNTIL")
	}
	var keys [2]*identity.Key
	var times [2]time.Time
	for i := range 2 {
		key, err := identity.ReadKeyFile(ts.MkAbs(args[1+i]), nil)
		ts.Check(err)
		after, err := time.ParseDuration(args[3+i])
		ts.Check(err)
		keys[i], times[i] = key, time.Now().Add(after)
	}
	r, err := trust.NewRotation(keys[0], keys[1], times[0], times[1])
	ts.Check(err)
	ts.Check(r.Write(ts.MkAbs(args[0])))
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

// cleanEnv is the environment of a process with a configuration of its own.
func cleanEnv(t *testing.T) []string {
	t.Helper()
	return append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir(), "SSH_AUTH_SOCK=", "GORACE=atexit_sleep_ms=20")
}

func wantExit(t *testing.T, err error, code int, stderr string) {
	t.Helper()
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code {
		t.Errorf("exit code %d, want %d\n%s", got, code, stderr)
	}
}
