package files_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/files"
	"ckt.local/peer/peertest"
	"ckt.local/transport/simnet"
)

// Senders that go quiet keep neither a place nor a half-received file.
func TestQuietSendersGiveWay(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * 365 * 24 * time.Hour)
		net := simnet.New(1)
		t.Cleanup(func() { net.Close() })
		net.SetDefault(simnet.Link{Latency: 5 * time.Millisecond})
		cluster := peertest.Config{Network: net}.NewCluster(t, 2)
		service, err := files.Service(files.Config{Dir: dir, MaxOpen: 1})
		if err != nil {
			t.Fatal(err)
		}
		cluster.Register("files", service)
		cluster.Register("sender", func(_ *peer.LocalPeer, ctx0 context.Context, _ <-chan *circuit.Circuit) error {
			<-ctx0.Done()
			return nil
		})
		sender, url := cluster.Start(0, "sender"), cluster.Start(1, "files").URL()
		put := &circuit.Fragment{FragOp: 1, FragSubject: "f", Args: map[string]string{
			"kind": "file", "size": "5", "mode": "644", "mtime": "2026-01-02T03:04:05Z",
		}}
		quiet, _, err := sender.NewCircuitToPeerURL(url, put, 0) // takes the one place
		if err != nil {
			t.Fatal(err)
		}
		mute, _, err := sender.NewCircuitToPeerURL(url, nil, 0) // takes none
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for _, c := range []*circuit.Circuit{quiet, mute} {
			<-c.Context.Done()
			if _, ok := errors.AsType[*circuit.RemoteError](context.Cause(c.Context)); !ok {
				t.Errorf("a quiet circuit ends with %v", context.Cause(c.Context))
			}
		}
		if d := time.Since(start); d > 3*time.Minute {
			t.Errorf("they were given up after %v", d)
		}
		report, err := files.Push(t.Context(), sender, url, writeFile(t), files.PushOptions{})
		if err != nil || report.Files != 1 {
			t.Errorf("push after them: %+v, %v", report, err)
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("in the directory: %v, %v", left, err)
	}
}

// writeFile makes a file to push.
func writeFile(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/pushed"
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
