package files_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/files"
	"ckt.local/peer/peertest"
)

const patience = 20 * time.Second

// A bench is a files peer on one node, receiving into dir, and a peer on
// another node to push from.
type bench struct {
	dir string
	url string
	me  *peer.LocalPeer
}

func newBench(t *testing.T, cfg files.Config) *bench {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	service, err := files.Service(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cluster := peertest.NewCluster(t, 2)
	cluster.Register(files.Name, service)
	cluster.Register("pusher", func(_ *peer.LocalPeer, ctx0 context.Context, _ <-chan *circuit.Circuit) error {
		<-ctx0.Done()
		return nil
	})
	return &bench{dir: cfg.Dir, url: cluster.Start(1, files.Name).URL(), me: cluster.Start(0, "pusher")}
}

func (b *bench) push(t *testing.T, path string, opts files.PushOptions) files.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	report, err := files.Push(ctx, b.me, b.url, path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// raw sends fragments as a sender that keeps to no rules, and returns the
// first that comes back.
func (b *bench) raw(t *testing.T, sent ...*circuit.Fragment) *circuit.Fragment {
	t.Helper()
	c, _, err := b.me.NewCircuitToPeerURL(b.url, sent[0], patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, f := range sent[1:] {
		if err := c.Send(ctx, f); err != nil {
			break // the answer says why
		}
	}
	for f, err := range c.Fragments(ctx) {
		if f == nil {
			t.Fatal(err)
		}
		return f
	}
	t.Fatal("closed without an answer")
	return nil
}

// The protocol, once more and by hand: a change of it must show here.
func put(path string, size int) *circuit.Fragment {
	return &circuit.Fragment{FragOp: 1, FragSubject: path, Args: map[string]string{
		"kind": "file", "size": fmt.Sprint(size), "mode": "640", "mtime": "2001-02-03T04:05:06.000000007Z",
	}}
}

func data(p string) *circuit.Fragment {
	return &circuit.Fragment{FragOp: 2, FragPart: 1, Payload: []byte(p)}
}

func end(p string) *circuit.Fragment {
	sum := blake3.Sum256([]byte(p))
	return &circuit.Fragment{FragOp: 3, Args: map[string]string{"hash": hex.EncodeToString(sum[:]), "bytes": fmt.Sprint(len(p))}}
}

func write(t *testing.T, path string, content []byte, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// onlyWhole fails the test if anything temporary is left in dir.
func onlyWhole(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".part") {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// eventually polls, because the receiver cleans up after the sender is gone.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit, tick := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("not so: " + what)
		}
	}
}

func count(dir string) int {
	entries, _ := os.ReadDir(dir)
	return len(entries)
}
