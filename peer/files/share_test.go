//go:build unix

package files_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/files"
	"ckt.local/peer/peertest"
	"ckt.local/transport/simnet"
)

// A crowd is a files peer in simulated time on the last of three nodes, and a
// peer to send from on each of the others.
type crowd struct {
	net     *simnet.Network
	dir     string
	url     string
	senders [2]*peer.LocalPeer
}

func newCrowd(t *testing.T, cfg files.Config) *crowd {
	t.Helper()
	time.Sleep(40 * 365 * 24 * time.Hour)
	net := simnet.New(1)
	t.Cleanup(func() { net.Close() })
	net.SetDefault(simnet.Link{Latency: 5 * time.Millisecond})
	service, err := files.Service(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cluster := peertest.Config{Network: net}.NewCluster(t, 3)
	cluster.Register(files.Name, service)
	cluster.Register("sender", wait)
	return &crowd{
		net: net, dir: cfg.Dir, url: cluster.Start(2, files.Name).URL(),
		senders: [2]*peer.LocalPeer{cluster.Start(0, "sender"), cluster.Start(1, "sender")},
	}
}

// begin has sender i begin n files, without an end.
func (c *crowd) begin(t *testing.T, i, n int) (begun []*circuit.Circuit) {
	t.Helper()
	for k := range n {
		b, _, err := c.senders[i].NewCircuitToPeerURL(c.url, put(fmt.Sprintf("half-%d-%d", i, k), 1000), 0)
		if err != nil {
			t.Fatal(err)
		}
		begun = append(begun, b)
	}
	return begun
}

// want lets things settle, and says how many files are being received.
func (c *crowd) want(t *testing.T, why string, n int) {
	t.Helper()
	time.Sleep(10 * time.Second)
	if got, err := filepath.Glob(filepath.Join(c.dir, ".ckt-*.part")); len(got) != n || err != nil {
		t.Errorf("%s: %d files are being received, want %d", why, len(got), n)
	}
}

func (c *crowd) push(t *testing.T, i int, path string) {
	t.Helper()
	start := time.Now()
	report, err := files.Push(t.Context(), c.senders[i], c.url, path, files.PushOptions{})
	if err != nil || report.Files != 1 || time.Since(start) > 5*time.Second {
		t.Errorf("after %v: %+v, %v", time.Since(start), report, err)
	}
}

// A sender that holds all the places it may have keeps nobody else out, and
// gives them back when its files end, or it vanishes.
func TestOneSenderHasAShareOfThePlaces(t *testing.T) {
	dir, file := t.TempDir(), writeFile(t)
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, files.Config{Dir: dir, MaxOpen: 4, MaxOpenPerNode: 3})
		begun := c.begin(t, 0, 10)
		c.want(t, "ten begun", 3)
		c.push(t, 1, file)
		for _, b := range begun[:8] {
			b.Close()
		}
		c.want(t, "eight given up", 2)
		c.begin(t, 0, 10)
		c.want(t, "ten more", 3)
		c.net.Partition(peertest.Host(0), peertest.Host(2))
		time.Sleep(3 * time.Minute)
		c.want(t, "vanished", 0)
		begun = c.begin(t, 1, 3)
		c.want(t, "of the other", 3)
		for _, b := range begun {
			b.Close()
		}
		c.push(t, 1, file)
	})
}

// A push that has more under way than there are places for it is only slower.
func TestPushOfMoreThanThePlaces(t *testing.T) {
	dir, src := t.TempDir(), t.TempDir()
	const n = 40
	for i := range n {
		write(t, fmt.Sprintf("%s/%d", src, i), make([]byte, 1000*i), 0o644)
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, files.Config{Dir: dir, MaxOpenPerNode: 2})
		report, err := files.Push(t.Context(), c.senders[0], c.url, src, files.PushOptions{Parallel: 16})
		if err != nil || report.Files != n || len(report.Failed) > 0 {
			t.Errorf("%+v, %v", report, err)
		}
	})
}

// A push whose files all wait behind others of the same sender does not take
// that for a standstill, as long as those move.
func TestPushWaitsForItsTurn(t *testing.T) {
	dir, big, small := t.TempDir(), filepath.Join(t.TempDir(), "big"), writeFile(t)
	write(t, big, make([]byte, 4<<20), 0o644)
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, files.Config{Dir: dir, MaxOpenPerNode: 1})
		c.net.SetDefault(simnet.Link{Latency: 5 * time.Millisecond, Bandwidth: 48 << 10})
		first := make(chan error, 1)
		start := time.Now()
		go func() {
			_, err := files.Push(t.Context(), c.senders[0], c.url, big, files.PushOptions{})
			first <- err
		}()
		c.want(t, "the big one", 1)
		report, err := files.Push(t.Context(), c.senders[0], c.url, small, files.PushOptions{})
		if err != nil || report.Files != 1 || time.Since(start) < time.Minute {
			t.Errorf("after %v: %+v, %v", time.Since(start), report, err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}
