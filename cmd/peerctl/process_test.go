//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func serveFor(t *testing.T, env []string, program string, args ...string) *server {
	t.Helper()
	s, err := startServer(t.TempDir(), env, program, append([]string{"--listen", "127.0.0.1:0"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			_ = s.end(syscall.SIGTERM)
		}
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	return s
}

// command is a peerctl that is killed if it outlives the test's patience.
func command(t *testing.T, env []string, program string, args ...string) *exec.Cmd {
	t.Helper()
	return commandFor(t, patience, env, program, args...)
}

// commandFor is a command that may run for longer than others.
func commandFor(t *testing.T, most time.Duration, env []string, program string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), most)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	return cmd
}

// endless gives noise until it is closed.
type endless struct{ r *io.PipeReader }

func startEndless(t *testing.T) endless {
	r, w := io.Pipe()
	t.Cleanup(func() { r.Close() })
	go func() {
		src := rand.NewChaCha8([32]byte{2})
		buf := make([]byte, 64<<10)
		for {
			_, _ = src.Read(buf) // never fails
			if _, err := w.Write(buf); err != nil {
				return // the test is over
			}
		}
	}()
	return endless{r}
}

// firstByte is closed once something is written to it; the rest is dropped.
type firstByte struct {
	came chan struct{}
	done bool
}

func (f *firstByte) Write(p []byte) (int, error) {
	if !f.done && len(p) > 0 {
		f.done = true
		close(f.came)
	}
	return len(p), nil
}

func (f *firstByte) wait(t *testing.T) {
	t.Helper()
	select {
	case <-f.came:
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
}

// sendEndlessly returns once data flows both ways.
func sendEndlessly(t *testing.T, env []string, url string) (cmd *exec.Cmd, stderr *syncBuffer) {
	t.Helper()
	in := startEndless(t)
	out := &firstByte{came: make(chan struct{})}
	stderr = &syncBuffer{}
	cmd = command(t, env, "peerctl", "send", url+"/echo", "--linger", "2s")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(stdin, in.r) }() // ends with the command
	out.wait(t)
	return cmd, stderr
}

func TestSendToANodeThatIsKilled(t *testing.T) {
	t.Parallel()
	env := cleanEnv(t)
	s := serveFor(t, env, "peerctl")
	cmd, stderr := sendEndlessly(t, env, s.url)
	start := time.Now()
	_ = s.end(syscall.SIGKILL) // its error is the kill
	err := cmd.Wait()
	wantExit(t, err, exitUnreachable, stderr.String())
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("noticed after %v", took)
	}
	if !strings.Contains(stderr.String(), "hint: is the node running") {
		t.Errorf("stderr: %s", stderr)
	}
}

func TestSendToANodeThatStops(t *testing.T) {
	env := cleanEnv(t)
	s := serveFor(t, env, "peerctl")
	cmd, stderr := sendEndlessly(t, env, s.url)
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Errorf("serve: %v", err)
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("short output looks like success: %s", stderr)
	}
}

func TestSendInterrupted(t *testing.T) {
	env := cleanEnv(t)
	s := serveFor(t, env, "peerctl")
	cmd, stderr := sendEndlessly(t, env, s.url)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	wantExit(t, cmd.Wait(), exitFailed, stderr.String())
	if got := strings.TrimSpace(stderr.String()); got != "peerctl: interrupted" {
		t.Errorf("stderr: %s", got)
	}
}

func TestSendWithNobodyReadingStdout(t *testing.T) {
	env := cleanEnv(t)
	s := serveFor(t, env, "peerctl")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	var stderr syncBuffer
	cmd := command(t, env, "peerctl", "send", s.url+"/echo")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(noise(1<<20)), w, &stderr
	wantExit(t, cmd.Run(), exitFailed, stderr.String())
	if !strings.Contains(stderr.String(), "broken pipe") {
		t.Errorf("stderr: %s", &stderr)
	}
}

// TestOneGiBThroughEcho is done with a program without the race detector,
// which multiplies memory: the resident set is what is measured.
func TestOneGiBThroughEcho(t *testing.T) {
	if testing.Short() {
		t.Skip("streams 1 GiB")
	}
	const total, limit = 1 << 30, 150 << 10 // bytes, KiB
	const last = 4 << 20                    // more than a pipe holds: while it is unread, the sender has not ended
	program := plainProgram(t)
	env := cleanEnv(t)
	s := serveFor(t, env, program)
	var stderr syncBuffer
	cmd := commandFor(t, 5*time.Minute, env, program, "send", s.url+"/echo")
	cmd.Stderr = &stderr
	cmd.Stdin = io.LimitReader(rand.NewChaCha8([32]byte{3}), total)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	want := rand.NewChaCha8([32]byte{3})
	same := sameAs(want, out, total-last)
	peak := highWater(t, cmd.Process.Pid)
	same = errors.Join(same, sameAs(want, out, last))
	if n, err := io.Copy(io.Discard, out); n != 0 || err != nil {
		t.Errorf("%d bytes too many, %v", n, err)
	}
	wantExit(t, cmd.Wait(), exitDone, stderr.String())
	if same != nil {
		t.Error(same)
	}
	t.Logf("1 GiB there and back in %.1f s; peak of the resident set: send %d KiB, serve %d KiB",
		time.Since(start).Seconds(), peak, highWater(t, s.cmd.Process.Pid))
	if serve := highWater(t, s.cmd.Process.Pid); peak > limit || serve > limit {
		t.Errorf("peak of the resident set: send %d KiB, serve %d KiB, limit %d", peak, serve, limit)
	}
}

// sameAs reads n bytes from both and compares them.
func sameAs(want, got io.Reader, n int) error {
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := 0; at < n; at += len(a) {
		if _, err := io.ReadFull(got, b); err != nil {
			return fmt.Errorf("after %d bytes: %w", at, err)
		}
		if _, err := io.ReadFull(want, a); err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			return fmt.Errorf("different after %d bytes", at)
		}
	}
	return nil
}

// highWater is the peak of a process's resident set in KiB; 0 if it is gone.
func highWater(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Log(err)
		return 0
	}
	m := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if m == nil {
		return 0
	}
	kib, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Error(err)
	}
	return kib
}

func TestSecondSignalEndsServeAtOnce(t *testing.T) {
	env := cleanEnv(t)
	s := serveFor(t, env, "peerctl")
	// Two at once: whichever way they fall, the process ends, and orderly or
	// with the code of a failure, not by the signal.
	err := errors.Join(s.cmd.Process.Signal(os.Interrupt), s.cmd.Process.Signal(syscall.SIGTERM))
	if err != nil {
		t.Fatal(err)
	}
	err = <-s.done
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() != exitFailed || !ok && err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestDemoLeavesNobodyBehind(t *testing.T) {
	dir := t.TempDir()
	for i := range 2000 {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), noise(1000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGKILL} {
		temp := t.TempDir()
		cmd := command(t, append(cleanEnv(t), "TMPDIR="+temp), "peerctl", "demo", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		other := otherProcess(t, out)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		// Its end closes the second process's stdout, which is a pipe that
		// only they had; ours ends when the first is gone.
		_, _ = io.Copy(io.Discard, out)
		err = cmd.Wait()
		if sig == os.Interrupt {
			wantExit(t, err, exitFailed, "")
			if left, _ := os.ReadDir(temp); len(left) > 0 {
				t.Errorf("%v: left behind: %v", sig, left)
			}
		}
		gone(t, other)
	}
}

// otherProcess reads from demo's output which process it has started.
func otherProcess(t *testing.T, out io.Reader) int {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := regexp.MustCompile(`B is process (\d+)`).FindStringSubmatch(lines.Text()); m != nil {
			pid, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatal("demo does not say which process it has started")
	return 0
}

// gone waits until a process that is not our child has ended. One whose
// parent has not asked for its exit code yet counts as ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	limit, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(status), ") Z ") {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("process %d still runs", pid)
		}
	}
}
