//go:build unix

package files_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/files"
	"ckt.local/peer/peertest"
	"ckt.local/transport/simnet"
)

// A liar is a receiver that reads all and has words of its own about a file.
type liar struct {
	script func(ctx context.Context, c *circuit.Circuit)
	took   atomic.Int64 // bytes of files
}

func (l *liar) serve(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	for {
		select {
		case <-ctx0.Done():
			return nil
		case c := <-newCircuitCh:
			go l.receive(ctx0, c)
		}
	}
}

func (l *liar) receive(ctx context.Context, c *circuit.Circuit) {
	defer c.Close()
	for f := range c.Fragments(ctx) {
		switch {
		case f == nil:
			return
		case f.FragOp == 1 && f.Args["kind"] == "dir":
			_ = c.SendOneWay(&circuit.Fragment{FragOp: 4})
			return
		case f.FragOp == 1:
			go l.script(c.Context, c)
		}
		l.took.Add(int64(len(f.Payload)))
	}
}

// say says op, and again after each pause until ctx ends; a pause of 0: once.
func say(ctx context.Context, c *circuit.Circuit, op int, pause time.Duration) {
	for {
		_ = c.SendOneWay(&circuit.Fragment{FragOp: op})
		if pause == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// pushToLiar returns how long a push of files of these sizes has taken, and its
// error.
func pushToLiar(t *testing.T, l *liar, sizes ...int) (took time.Duration, err error) {
	t.Helper()
	src := t.TempDir()
	for i, size := range sizes {
		write(t, filepath.Join(src, fmt.Sprint(i)), make([]byte, size), 0o644)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * 365 * 24 * time.Hour)
		net := simnet.New(1)
		t.Cleanup(func() { net.Close() })
		net.SetDefault(simnet.Link{Latency: 5 * time.Millisecond})
		cluster := peertest.Config{Network: net}.NewCluster(t, 2)
		cluster.Register("liar", l.serve)
		cluster.Register("sender", wait)
		sender, url := cluster.Start(0, "sender"), cluster.Start(1, "liar").URL()
		start := time.Now()
		_, err = files.Push(t.Context(), sender, url, src, files.PushOptions{})
		took = time.Since(start)
	})
	return took, err
}

// Whatever a receiver says of others that move, a push to it ends: soon if the
// file has got a place, and after an hour if it never gets one.
func TestPushDoesNotWaitForEver(t *testing.T) {
	const goes, waits, pause = 7, 6, 20 * time.Second
	for why, c := range map[string]struct {
		script func(context.Context, *circuit.Circuit)
		want   error
		most   time.Duration
	}{
		"a place, and others move for ever": {func(ctx context.Context, c *circuit.Circuit) {
			say(ctx, c, goes, 0)
			time.Sleep(10 * time.Second)
			say(ctx, c, waits, pause)
		}, files.ErrNotFiles, 11 * time.Second},
		"a place again and again": {func(ctx context.Context, c *circuit.Circuit) {
			say(ctx, c, goes, pause)
		}, files.ErrNotFiles, 21 * time.Second},
		"a place, and nothing more": {func(ctx context.Context, c *circuit.Circuit) {
			say(ctx, c, goes, 0)
		}, files.ErrStalled, 2 * time.Minute},
		"no place": {func(ctx context.Context, c *circuit.Circuit) {
			say(ctx, c, waits, pause)
		}, files.ErrStalled, time.Hour + 2*time.Minute},
	} {
		l := liar{script: c.script}
		took, err := pushToLiar(t, &l, 3<<20, 5)
		if !errors.Is(err, c.want) || took > c.most {
			t.Errorf("%s: after %v: %v", why, took, err)
		}
		if got := l.took.Load(); why == "no place" && got != 1<<20+5 {
			t.Errorf("%s: %d bytes were sent", why, got)
		}
	}
}
