package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ckt.local/transport"
)

func pingCmd(a *app) *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:   "ping ADDR [-n N]",
		Short: "Measure round-trip times over a circuit",
		Long: `Measure N round trips over one circuit to the node at ADDR, one after the other,
and print their minimum, median and 99th percentile. Interrupted, it prints
what there is, and exits with 1. Where that node lets this key ask only so often
in a second, it waits, and goes on.`,
		Example: "  peerctl ping build7:4242 -n 1000",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 1 {
				return usagef("-n must be at least 1")
			}
			return a.ping(cmd.Context(), args[0], count)
		},
	}
	cmd.Flags().IntVarP(&count, "count", "n", 100, "how many round trips")
	return cmd
}

func (a *app) ping(ctx context.Context, addr string, count int) error {
	s, err := a.connect(ctx, addr)
	if err != nil {
		return err
	}
	defer s.close()
	show := !a.asJSON && isTerminal(a.stderr)
	var rtts []time.Duration
	ping := func(n int, each func(time.Duration)) error { return s.node.PeerAPI.Ping(ctx, addr, n, each) }
	err = a.pingOn(ctx, count, ping, func(rtt time.Duration) {
		rtts = append(rtts, rtt)
		if show {
			fmt.Fprintf(a.stderr, "\r%d of %d: %v\x1b[K", len(rtts), count, rtt)
		}
	})
	if show {
		fmt.Fprint(a.stderr, "\r\x1b[K")
	}
	if len(rtts) > 0 {
		if e := a.print(newPingResult(rtts)); err == nil {
			err = e
		}
	}
	return err
}

// pingOn pings until there are count round trips, with a pause where the other
// node lets this key ask only so often. If for --timeout not one gets through,
// others with the key use up what it may, and that is the answer.
func (a *app) pingOn(ctx context.Context, count int, ping func(n int, each func(time.Duration)) error, each func(time.Duration)) error {
	const pause = time.Second // every rate is one of a second
	done, last, told := 0, time.Now(), false
	for {
		err := ping(count-done, func(rtt time.Duration) {
			done, last = done+1, time.Now()
			each(rtt)
		})
		e, ok := errors.AsType[*transport.LimitError](err)
		if !ok || !e.Remote || !strings.Contains(e.What, "per second") || time.Since(last) >= a.timeout {
			return err
		}
		if !told {
			told = true
			if !a.asJSON && isTerminal(a.stderr) {
				fmt.Fprint(a.stderr, "\r\x1b[K") // what each has written there
			}
			a.say("the other node takes %d %s: waiting in between", e.Limit, e.What)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// connect is dial, and a connection to the node at addr.
func (a *app) connect(ctx context.Context, addr string) (*session, error) {
	a.addr = addr
	s, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	err = a.asking(ctx, func() error {
		wait, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		_, err := s.node.Connect(wait, addr)
		return err
	})
	if err != nil {
		_ = s.close() // the connection's error is the one to tell
		return nil, err
	}
	return s, nil
}

type pingResult struct {
	Count  int     `json:"count"`
	Min    float64 `json:"min_ms"`
	Median float64 `json:"median_ms"`
	P99    float64 `json:"p99_ms"`
}

// newPingResult sorts rtts, of which there is at least one. Percentiles are
// by nearest rank: each is a time that was measured.
func newPingResult(rtts []time.Duration) pingResult {
	slices.Sort(rtts)
	rank := func(percent int) float64 {
		i := (len(rtts)*percent + 99) / 100
		return float64(rtts[max(i, 1)-1]) / float64(time.Millisecond)
	}
	return pingResult{Count: len(rtts), Min: rank(0), Median: rank(50), P99: rank(99)}
}

func (r pingResult) text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s: min %.3f ms, median %.3f ms, p99 %.3f ms\n", number(r.Count, "round trip"), r.Min, r.Median, r.P99)
	return err
}
