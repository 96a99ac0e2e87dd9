//go:build unix

package files_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/files"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
	"ckt.local/transport/simnet"
)

// An outage is a push in simulated time during which the network is away.
type outage struct {
	cut, heal time.Duration // after the begin; heal 0: never
	opts      files.PushOptions
	circuits  circuit.Config
	link      simnet.Link

	dir                   string // what has arrived
	opened, waits, resent int64
	report                files.Report
	err                   error
}

// run pushes src.
func (o *outage) run(t *testing.T, src string) {
	t.Helper()
	o.dir = t.TempDir()
	service, err := files.Service(files.Config{Dir: o.dir})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.SimConfig{Circuit: o.circuits, Link: o.link}.NewSim(t, 1)
		setup := func(n *peer.Node) {
			for name, f := range map[string]peer.PeerServiceFunc{files.Name: service, "pusher": wait} {
				if err := n.PeerAPI.RegisterPeerServiceFunc(name, f); err != nil {
					t.Error(err)
				}
			}
		}
		from, to := sim.NewHost(setup), sim.NewHost(setup)
		me := from.StartPeer("pusher")
		time.AfterFunc(o.cut, func() { sim.Partition(from, to) })
		if o.heal > 0 {
			time.AfterFunc(o.heal, func() { sim.Rejoin(from, to) })
		}
		var opened, waits, resent atomic.Int64
		opts := o.opts
		opts.Waiting = func(error) { waits.Add(1) }
		opts.Opened = func(c *circuit.Circuit) {
			opened.Add(1)
			context.AfterFunc(c.Context, func() { resent.Add(c.Stats().Replayed) })
		}
		o.report, o.err = files.Push(t.Context(), me, to.URL(files.Name), src, opts)
		synctest.Wait()
		o.opened, o.waits, o.resent = opened.Load(), waits.Load(), resent.Load()
	})
}

// wait is a service that does nothing.
func wait(_ *peer.LocalPeer, ctx0 context.Context, _ <-chan *circuit.Circuit) error {
	<-ctx0.Done()
	return nil
}

func wantSame(t *testing.T, src, dir string, count int) {
	t.Helper()
	same, err := files.Compare(t.Context(), src, dir)
	if err != nil || !same.Equal() || same.Files != count {
		t.Errorf("compared: %+v, %v", same, err)
	}
}

// smallFiles makes a directory with that many files.
func smallFiles(t *testing.T, count int) string {
	t.Helper()
	src := t.TempDir()
	for i := range count {
		if err := os.WriteFile(filepath.Join(src, fmt.Sprint("f", i)), fmt.Append(nil, "file ", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return src
}

// TestPushOfSmallFilesRidesThroughAnOutage takes the network away in each step
// of a file's way: its circuit is being opened, it is sent, it is answered.
func TestPushOfSmallFilesRidesThroughAnOutage(t *testing.T) {
	const count, length = 40, 30 * time.Second
	src := smallFiles(t, count)
	waits, resent := int64(0), int64(0)
	for _, parallel := range []int{1, 8} {
		for step := range 12 {
			o := outage{cut: 200*time.Millisecond + time.Duration(step)*7*time.Millisecond, opts: files.PushOptions{Parallel: parallel, StallTimeout: 10 * time.Second}}
			o.heal = o.cut + length
			o.run(t, src)
			if o.err != nil || o.report.Files != count {
				t.Errorf("%d at once, cut after %v: %+v, %v", parallel, o.cut, o.report, o.err)
			}
			if d := o.report.Elapsed; d < length || d > length+9*time.Second {
				t.Errorf("%d at once, cut after %v: took %v", parallel, o.cut, d)
			}
			wantSame(t, src, o.dir, count)
			waits, resent = waits+o.waits, resent+o.resent
		}
	}
	if waits == 0 || resent == 0 {
		t.Errorf("%d openings had to wait, %d fragments were sent again: the outages miss a step", waits, resent)
	}
}

func TestPushOfALargeFileRidesThroughAnOutage(t *testing.T) {
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "large"), make([]byte, 8<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	// The files' own bounds on what does not move are shorter than the outage.
	o := outage{
		cut: time.Second, heal: 4 * time.Minute, link: simnet.Link{Latency: 20 * time.Millisecond, Bandwidth: 2 << 20},
		circuits: circuit.Config{Linger: 5 * time.Minute}, opts: files.PushOptions{StallTimeout: 10 * time.Second},
	}
	o.run(t, src)
	if o.err != nil || o.report.Files != 1 || o.report.Elapsed < o.heal-o.cut || o.resent == 0 {
		t.Errorf("%+v, %v, %d fragments sent again", o.report, o.err, o.resent)
	}
	wantSame(t, src, o.dir, 1)
}

// TestPushEndsWithLinger: what does not come back ends the push, whatever the
// push was at.
func TestPushEndsWithLinger(t *testing.T) {
	const linger = 20 * time.Second
	src := smallFiles(t, 40)
	lost, unreachable := 0, 0
	for step := range 12 {
		o := outage{
			cut:      200*time.Millisecond + time.Duration(step)*7*time.Millisecond,
			opts:     files.PushOptions{Parallel: 1, Linger: linger},
			circuits: circuit.Config{Linger: linger},
		}
		o.run(t, src)
		switch {
		case errors.Is(o.err, circuit.ErrPeerLost):
			lost++
		case errors.Is(o.err, transport.ErrUnreachable):
			unreachable++
		default:
			t.Errorf("cut after %v: %+v, %v", o.cut, o.report, o.err)
		}
		if d := o.report.Elapsed; d < linger || d > o.cut+5*time.Second+linger+5*time.Second {
			t.Errorf("cut after %v: took %v", o.cut, d)
		}
	}
	if lost == 0 || unreachable == 0 {
		t.Errorf("%d times lost, %d times unreachable: the outages miss a step", lost, unreachable)
	}
}

// TestPushDoesNotWaitForWhoIsThere: a receiver that is connected and says
// neither yes nor no is not waited for as one whose connection is lost.
func TestPushDoesNotWaitForWhoIsThere(t *testing.T) {
	const wait = 500 * time.Millisecond
	asked, over := make(chan struct{}, 1), make(chan struct{})
	cluster := peertest.Config{Authorize: func(r peer.Request) error {
		if r.Action != peer.ActionOpen {
			return nil
		}
		select {
		case asked <- struct{}{}: // the first one
		default:
			<-over
		}
		return nil
	}}.NewCluster(t, 2)
	t.Cleanup(func() { close(over) })
	service, err := files.Service(files.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cluster.Register(files.Name, service)
	cluster.Register("pusher", deaf)
	me, url := cluster.Start(0, "pusher"), cluster.Start(1, files.Name).URL()
	start := time.Now()
	err = pushTo(t, me, url, smallFiles(t, 1), files.PushOptions{OpenTimeout: wait})
	if took := time.Since(start); !errors.Is(err, circuit.ErrOpenTimeout) || took > patience/2 {
		t.Errorf("after %v: %v", took, err)
	}
}
