package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// A process is a child as its parent sees it. One goroutine uses it.
type process struct {
	cmd    *exec.Cmd
	kill   context.CancelFunc
	in     io.WriteCloser
	enc    *json.Encoder
	dec    *json.Decoder
	stderr tail
}

// start runs this program as a child, until stop or the end of ctx.
func start(ctx context.Context) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &process{cmd: exec.CommandContext(ctx, self, childFlag), kill: cancel}
	// quic-go would complain on standard error about the kernel's buffers.
	p.cmd.Env = append(os.Environ(), "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
	p.cmd.WaitDelay = time.Second
	p.cmd.Stderr = &p.stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	p.in, p.enc, p.dec = in, json.NewEncoder(in), json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	return p, nil
}

// patience is how much longer than its task a command may take. Opening
// 100,000 channels is the longest.
const patience = 90 * time.Second

// ask sends a command and waits for the reply. A child that does not answer in
// time has to say what its goroutines wait for, and ends with that.
func (p *process) ask(cmd command) (reply, error) {
	began := time.Now()
	late := time.AfterFunc(patience+cmd.Task.duration(), func() { p.cmd.Process.Signal(syscall.SIGQUIT) })
	defer late.Stop()
	var r reply
	err := p.enc.Encode(cmd)
	if err == nil {
		err = p.dec.Decode(&r)
	}
	if err != nil {
		p.stop() // what it has said last is here when it has ended
		return r, fmt.Errorf("%s: the child has gone after %v (%v): %w%s",
			cmd.Op, time.Since(began).Round(time.Millisecond), p.cmd.ProcessState, err, p.stderr.text())
	}
	if r.Err != "" {
		return r, fmt.Errorf("%s: %s", cmd.Op, r.Err)
	}
	return r, nil
}

// stop kills the child: what it has open is of no use to anybody, and the
// goodbyes of 10,000 channels would only take time.
func (p *process) stop() {
	p.in.Close()
	p.kill()
	p.cmd.Wait()
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if extra := t.buf.Len() - tailSize; extra > 0 {
		t.buf.Next(extra)
	}
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.buf.Len() == 0 {
		return ""
	}
	return "\n" + t.buf.String()
}

// A pair is a server and a client of one contender.
type pair struct{ server, client *process }

// startPair returns when the client has reached the server.
func startPair(ctx context.Context, contender string, c crowd) (*pair, error) {
	server, err := start(ctx)
	if err != nil {
		return nil, err
	}
	r, err := server.ask(command{Op: opServe, Contender: contender, Crowd: c})
	if err != nil {
		server.stop()
		return nil, fmt.Errorf("server: %w", err)
	}
	client, err := start(ctx)
	if err != nil {
		server.stop()
		return nil, err
	}
	p := &pair{server, client}
	if _, err := client.ask(command{Op: opDial, Contender: contender, Crowd: c, Addr: r.Addr}); err != nil {
		p.stop()
		return nil, fmt.Errorf("client: %w", err)
	}
	return p, nil
}

func (p *pair) stop() {
	p.client.stop()
	p.server.stop()
}

// usage asks both sides for opUsage or opSettle.
func (p *pair) usage(op string) (client, server usage, err error) {
	rc, cerr := p.client.ask(command{Op: op})
	rs, serr := p.server.ask(command{Op: op})
	return rc.Usage, rs.Usage, errors.Join(cerr, serr)
}

// measure runs a task once and adds what both sides have used for it. Profiles
// begin with that path, if there is one.
func (p *pair) measure(t task, profiles string) (metrics, error) {
	op := opUsage
	if t.forMemory() {
		op = opSettle
	}
	if _, err := p.client.ask(command{Op: opPrepare, Task: t}); err != nil {
		return nil, err
	}
	c0, s0, err := p.usage(op)
	if err != nil {
		return nil, err
	}
	m0, err := ticksNow()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	r, err := p.profiled(profiles, func() (reply, error) { return p.client.ask(command{Op: opRun, Task: t}) })
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	m1, err := ticksNow()
	if err != nil {
		return nil, err
	}
	c1, s1, err := p.usage(op)
	if err != nil {
		return nil, err
	}
	spent := expense{client: [2]usage{c0, c1}, server: [2]usage{s0, s1}, machine: [2]ticks{m0, m1}, took: took}
	spent.addTo(r.Metrics, t)
	if t.forMemory() { // what is open stays for the next task
		return r.Metrics, nil
	}
	_, err = p.client.ask(command{Op: opFinish})
	return r.Metrics, err
}

// profiled runs f while both sides write profiles.
func (p *pair) profiled(path string, f func() (reply, error)) (reply, error) {
	if path == "" {
		return f()
	}
	_, cerr := p.client.ask(command{Op: opProfile, File: path + "-client.pprof"})
	_, serr := p.server.ask(command{Op: opProfile, File: path + "-server.pprof"})
	if err := errors.Join(cerr, serr); err != nil {
		return reply{}, err
	}
	r, err := f()
	_, cerr = p.client.ask(command{Op: opProfile})
	_, serr = p.server.ask(command{Op: opProfile})
	return r, errors.Join(err, cerr, serr)
}
