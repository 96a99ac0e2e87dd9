package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"ckt.local/circuit"
	"ckt.local/peer/files"
)

// The operations of send, as FragOp. Data is what a service does that knows
// nothing of send: fragments with a payload and nothing else.
const (
	sendData = 0 // Payload: the next bytes
	sendEnd  = 1 // no more data; Args: bytes, the sum of all payloads sent
)

const (
	sendChunk = 64 << 10 // bytes in a fragment
	argBytes  = "bytes"
)

const sendHelp = `Open a circuit to the peer at PEERURL, stream FILE (or stdin) to it, and write
what comes back to stdout, both at once.

Bytes travel as fragments of at most 64 KiB with FragOp 0. After the last one
comes a fragment with FragOp 1 and the argument "bytes", the number of bytes
sent. The other side answers in the same way: any number of fragments, whose
payloads go to stdout in order, then one with FragOp 1 to say that this was
all; its "bytes", if given, must be what has arrived. The service echo does so
by sending back what it gets. A circuit that ends before is an error: short
output never looks like success.

When the connection is lost, the circuit waits for another one for --linger, and
what was under way is sent again: nothing is missing then, and nothing comes
twice. stderr says when that begins and when it is over.

With --json the summary goes to stderr: stdout is for the data.`

func sendCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "send PEERURL [FILE]",
		Short:   "Stream a file or stdin to a peer, and its answer to stdout",
		Long:    sendHelp,
		Example: "  echo=$(peerctl start-remote-peer echo build7:4242)\n  peerctl send $echo <f | cmp - f",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := "-"
			if len(args) == 2 {
				file = args[1]
			}
			return a.send(cmd.Context(), args[0], file)
		},
	}
	a.lingerFlag(cmd)
	return cmd
}

func (a *app) send(ctx context.Context, peerURL, file string) error {
	if err := a.aim(peerURL); err != nil {
		return err
	}
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	s, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	c, _, err := s.me.NewCircuitToPeerURL(peerURL, nil, a.timeout)
	if err != nil {
		return err
	}
	x := &exchange{c: c, in: in, out: a.stdout, start: time.Now()}
	if !isTerminal(a.stdout) {
		x.total = fileSize(in)
		x.meter = a.newMeter(x.total)
	}
	out := a.watchOutages(ctx, x.meter)
	out.follow(c)
	err = x.run(ctx)
	out.close()
	x.meter.close()
	c.CloseWith(err)
	if _, ok := errors.AsType[*circuit.RemoteError](err); ok && a.service == files.Name {
		if file == "-" {
			file = "PATH"
		}
		return advise(err, "a files peer takes files from: peerctl push %s %s", file, peerURL)
	}
	if err == nil && a.asJSON {
		err = json.NewEncoder(a.stderr).Encode(sendResult{x.sent.Load(), x.received, time.Since(x.start).Seconds()})
	}
	return err
}

type sendResult struct {
	Sent     int64   `json:"sent_bytes"`
	Received int64   `json:"received_bytes"`
	Seconds  float64 `json:"seconds"`
}

// An exchange is one send under way: one goroutine reads the input and sends,
// the caller's receives and writes. Neither waits for the other, or a peer
// that answers while it is still sent to would stop both.
type exchange struct {
	c     *circuit.Circuit
	in    io.Reader
	out   io.Writer
	start time.Time
	meter *meter
	total int64 // bytes of input; 0: not known

	sent     atomic.Int64
	received int64 // owned by the receiving goroutine
}

// run returns when the answer is complete. The sending goroutine is not
// joined: it may be reading a terminal that nobody types on, which nothing
// can interrupt. It ends with the circuit, or with the process.
func (x *exchange) run(ctx context.Context) error {
	inputErr := make(chan error, 1)
	go func() {
		if err := x.pump(ctx); err != nil {
			inputErr <- err
			x.c.CloseWith(err)
		}
	}()
	err := x.receive(ctx)
	select {
	case e := <-inputErr: // that is why the circuit was closed
		return e
	default:
		return err
	}
}

// pump sends the input. Its error is about the input: that the circuit has
// ended, the receiving side tells.
func (x *exchange) pump(ctx context.Context) error {
	buf := make([]byte, sendChunk)
	for part := int64(1); ; part++ {
		n, err := x.in.Read(buf)
		if n > 0 {
			f := &circuit.Fragment{FragOp: sendData, FragPart: part, Payload: buf[:n]}
			if x.c.Send(ctx, f) != nil {
				return nil
			}
			x.meter.update(x.sent.Add(int64(n)), x.total)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	_ = x.c.Send(ctx, &circuit.Fragment{
		FragOp: sendEnd,
		Args:   map[string]string{argBytes: strconv.FormatInt(x.sent.Load(), 10)},
	})
	return nil
}

// receive writes what comes to the output, until the other side says that
// this was all.
func (x *exchange) receive(ctx context.Context) error {
	for f, err := range x.c.Fragments(ctx) {
		switch {
		case err != nil:
			return err
		case f.FragOp == sendEnd:
			return x.complete(f)
		}
		if _, err := x.out.Write(f.Payload); err != nil {
			return err
		}
		x.received += int64(len(f.Payload))
	}
	return fmt.Errorf("the peer has closed the circuit before the end of its answer: %d bytes came", x.received)
}

func (x *exchange) complete(end *circuit.Fragment) error {
	text, ok := end.Args[argBytes]
	if !ok {
		return nil
	}
	if want, err := strconv.ParseInt(text, 10, 64); err != nil || want != x.received {
		return fmt.Errorf("the peer says that it sent %.40q bytes, and %d came", text, x.received)
	}
	return nil
}

// fileSize is the length of a regular file, else 0.
func fileSize(f *os.File) int64 {
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		return info.Size()
	}
	return 0
}
