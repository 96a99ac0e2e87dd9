package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
)

// childFlag is the first argument of a child.
const childFlag = "-child"

// A command is one line that a child reads.
type command struct {
	Op        string
	Contender string `json:",omitempty"` // of opServe and opDial
	Crowd     crowd  `json:",omitempty"` // the same
	Addr      string `json:",omitempty"` // of opDial
	Task      task   // of opPrepare
	File      string `json:",omitempty"` // of opProfile
}

// What a child can be told. A server gets opServe, a client opDial first.
const (
	opServe   = "serve"
	opDial    = "dial"
	opPrepare = "prepare"
	opRun     = "run"
	opFinish  = "finish"
	opUsage   = "usage"
	opSettle  = "settle"
	opProfile = "profile" // into the file, or no longer if there is none
)

// A reply is the line that answers a command.
type reply struct {
	Err     string  `json:",omitempty"`
	Addr    string  `json:",omitempty"`
	Usage   usage   // of opUsage and opSettle
	Metrics metrics `json:",omitempty"`
}

// runChild does what it is told until its input ends: it never outlives who has
// started it.
func runChild(in io.Reader, out io.Writer) error {
	// An interrupt at the terminal reaches all processes. The parent decides.
	signal.Ignore(syscall.SIGINT)
	var c child
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var cmd command
		if err := dec.Decode(&cmd); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		r, err := c.do(cmd)
		if err != nil {
			r.Err = err.Error()
		}
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
}

// A child is the state of one process between commands.
type child struct {
	bench *bench
	job   job
	prof  profile
}

var errNoJob = errors.New("nothing is prepared")

func (c *child) do(cmd command) (r reply, err error) {
	switch cmd.Op {
	case opServe, opDial:
		r.Addr, err = c.start(cmd)
	case opPrepare:
		if c.bench == nil {
			return r, errors.New("this child has not dialled")
		}
		c.job, err = c.bench.prepare(cmd.Task)
	case opRun:
		if c.job == nil {
			return r, errNoJob
		}
		r.Metrics, err = c.job.run()
	case opFinish:
		if c.job == nil {
			return r, errNoJob
		}
		err = c.job.finish()
		c.job = nil
	case opUsage:
		r.Usage, err = usageNow()
	case opSettle:
		r.Usage, err = usageSettled()
	case opProfile:
		if cmd.File == "" {
			return r, c.prof.stop()
		}
		err = c.prof.start(cmd.File)
	default:
		err = fmt.Errorf("no command is called %q", cmd.Op)
	}
	return r, err
}

// start makes a server, or a client, of this child.
func (c *child) start(cmd command) (addr string, err error) {
	cs, err := pick([]string{cmd.Contender})
	if err != nil {
		return "", err
	}
	if cmd.Op == opServe {
		return cs[0].serve(cmd.Crowd)
	}
	dial := func(ctx context.Context) (client, error) { return cs[0].dial(ctx, cmd.Crowd, cmd.Addr) }
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	first, err := dial(ctx)
	c.bench = &bench{client: first, dial: dial}
	return "", err
}
