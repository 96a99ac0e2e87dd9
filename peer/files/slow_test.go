//go:build unix

package files_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer/files"
)

// dribble sends size bytes of a file, n after each pause and with the end, and
// gives the receiver's last word.
func (c *crowd) dribble(t *testing.T, i int, name string, size, n int, pause time.Duration) <-chan *circuit.Fragment {
	t.Helper()
	text := string(make([]byte, size))
	b, _, err := c.senders[i].NewCircuitToPeerURL(c.url, put(name, size), 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer b.Close()
		for left := size; left > 0; left -= n {
			time.Sleep(pause)
			if b.Send(b.Context, data(text[:min(n, left)])) != nil {
				return
			}
		}
		_ = b.Send(b.Context, end(text))
		<-b.Context.Done()
	}()
	last := make(chan *circuit.Fragment, 1)
	go func() {
		var word *circuit.Fragment
		for f := range b.Fragments(t.Context()) {
			if f != nil {
				word = f
			}
		}
		last <- word
	}()
	return last
}

// Who sends a byte now and then does not move: others do not take it for that,
// and get the place after a while, of which the sender is told.
func TestDribblersLoseTheirPlaces(t *testing.T) {
	dir, file := t.TempDir(), writeFile(t)
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, files.Config{Dir: dir, MaxOpen: 3, MaxOpenPerNode: 3})
		var words []<-chan *circuit.Fragment
		for k := range 3 {
			words = append(words, c.dribble(t, 0, fmt.Sprint("slow-", k), 1000, 1, 9*time.Second))
		}
		c.want(t, "three that dribble", 3)
		start := time.Now()
		_, err := files.Push(t.Context(), c.senders[1], c.url, file, files.PushOptions{})
		if took := time.Since(start); !errors.Is(err, files.ErrStalled) || took > 40*time.Second {
			t.Errorf("while they are new: after %v: %v", took, err)
		}
		time.Sleep(5 * time.Minute)
		c.want(t, "nobody waits", 3)
		start = time.Now()
		report, err := files.Push(t.Context(), c.senders[1], c.url, file, files.PushOptions{})
		if took := time.Since(start); err != nil || report.Files != 1 || took > 15*time.Second {
			t.Errorf("when they are slow: after %v: %+v, %v", took, report, err)
		}
		for _, word := range words {
			if f := <-word; f == nil || f.FragOp != 5 || f.Args["code"] != string(files.CodeSlow) || f.Err == "" {
				t.Errorf("their sender is told %+v", f)
			}
		}
		c.want(t, "nothing is left", 0)
	})
}

// What is slow and honest is received: while nobody waits however slow it is,
// and while others do if it makes a kilobyte a second.
func TestSlowSendersArrive(t *testing.T) {
	dir, file := t.TempDir(), writeFile(t)
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, files.Config{Dir: dir, MaxOpen: 1})
		word := c.dribble(t, 0, "very-slow", 9000, 10, time.Second)
		if f := <-word; f == nil || f.FragOp != 4 {
			t.Errorf("10 B/s alone: %+v", f)
		}
		word = c.dribble(t, 0, "slow", 400<<10, 1<<10, time.Second)
		c.want(t, "1 KiB/s", 1)
		start := time.Now()
		opts := files.PushOptions{StallTimeout: 10 * time.Minute}
		report, err := files.Push(t.Context(), c.senders[1], c.url, file, opts)
		if took := time.Since(start); err != nil || report.Files != 1 || took < 6*time.Minute {
			t.Errorf("who waits for it: after %v: %+v, %v", took, report, err)
		}
		if f := <-word; f == nil || f.FragOp != 4 {
			t.Errorf("1 KiB/s while another one waits: %+v", f)
		}
	})
}

// A push of many files through few places, some of which have to wait for the
// word that they may go on, is only slower.
func TestManyFilesThroughFewPlaces(t *testing.T) {
	dir, src := t.TempDir(), t.TempDir()
	const n = 12
	for i := range n {
		write(t, fmt.Sprintf("%s/%d", src, i), make([]byte, (i%4)*400<<10), 0o644)
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, files.Config{Dir: dir, MaxOpen: 2, MaxOpenPerNode: 2})
		for i := range c.senders {
			report, err := files.Push(t.Context(), c.senders[i], c.url, src, files.PushOptions{Parallel: 12})
			if err != nil || report.Files != n || len(report.Failed) > 0 {
				t.Errorf("%+v, %v", report, err)
			}
		}
	})
	onlyWhole(t, dir)
}
