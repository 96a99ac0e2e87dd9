// Command bench measures ckt against its rivals: what each moves in a second
// and how long that takes, what it costs in processor time and memory. See
// -help, and RESULTS.md for what came of it.
//
// The orchestrator (run.go) starts two processes for each contender, a server
// and a client (child.go), which speak JSON lines with it; what they are told
// to do is a task, and which tasks there are is in workload.go. A contender is
// three interfaces in contender.go, and a file of its own. It needs Linux.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == childFlag {
		if err := runChild(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench: child:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := bencher(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// errFailed is for what was said when it happened.
var errFailed = errors.New("some measurements have failed, see above")

// bencher is the program: it measures and prints.
func bencher(ctx context.Context, args []string, out io.Writer) error {
	opt, err := parseOptions(args, out)
	if err != nil {
		return err
	}
	rep, err := measure(ctx, opt)
	if err != nil && rep == nil {
		return err
	}
	return errors.Join(err, rep.publish(opt, out), rep.failed())
}

// publish prints the results, and writes the report if one is wanted.
func (r *report) publish(opt options, out io.Writer) error {
	var err error
	if opt.json {
		err = r.writeJSON(out)
	} else {
		err = r.writeBench(out)
	}
	if opt.save != "" {
		var b bytes.Buffer
		err = errors.Join(err, r.writeJSON(&b))
		err = errors.Join(err, os.WriteFile(opt.save, b.Bytes(), 0o644))
	}
	if opt.report != "" {
		err = errors.Join(err, r.writeFolder(opt.report))
	}
	return err
}

func (r *report) writeJSON(out io.Writer) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "\t")
	return enc.Encode(r)
}

// failed is an error if a measurement has failed.
func (r *report) failed() error {
	for _, res := range r.Results {
		if res.Err != "" {
			return errFailed
		}
	}
	return nil
}
