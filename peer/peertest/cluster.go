// Package peertest builds nodes that are connected to one another, for the
// tests of services.
//
// [NewCluster] makes them on real sockets of this machine, in real time:
//
//	func TestMyService(t *testing.T) {
//		nodes := peertest.NewCluster(t, 3).Nodes
//		nodes[0].PeerAPI.RegisterPeerServiceFunc("mine", serve)
//		...
//	}
//
// [NewSim] makes a world of simulated time, whose network can be cut, slowed
// down and mended, and whose hosts can be killed, started anew and moved. It is
// for what a service does about faults: an outage of minutes takes no time.
//
//	func TestMyServiceInAnOutage(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			sim := peertest.NewSim(t, 1)
//			a, b := sim.NewHost(setup), sim.NewHost(setup)
//			...
//			sim.Partition(a, b)
//			time.Sleep(time.Minute)
//			sim.Rejoin(a, b)
//			...
//		})
//	}
package peertest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/simnet"
)

// patience bounds what a cluster waits for while it is built and taken down.
const patience = 30 * time.Second

// Config says how a cluster is to be. The zero Config is that of [NewCluster].
type Config struct {
	// Circuit is the configuration of the circuits of all nodes.
	Circuit circuit.Config

	// Limits are the bounds of each node.
	Limits limit.Limits

	// Authorize is the policy of all nodes. Default: the nodes of the cluster
	// may do everything on one another, others nothing.
	Authorize peer.Policy

	// Adjust, if set, changes the configuration of node i before it is made:
	// its key, its policy, its socket.
	Adjust func(i int, cfg *peer.Config)

	// Network, if set, is what the nodes are on instead of the loopback
	// interface: node i is host 10.0.0.(i+1), port 4242. It is meant for
	// bubbles of testing/synctest, where time costs nothing. A bubble begins in
	// the year 2000, when no TLS certificate is valid yet:
	//
	//	synctest.Test(t, func(t *testing.T) {
	//		time.Sleep(40 * 365 * 24 * time.Hour)
	//		net := simnet.New(1)
	//		t.Cleanup(func() { net.Close() })
	//		cluster := peertest.Config{Network: net}.NewCluster(t, 2)
	//		...
	//	})
	Network *simnet.Network

	// Connect says which nodes are connected: it is called for each pair with
	// i < j. Default: all are.
	Connect func(i, j int) bool
}

// A Cluster is some nodes with keys of their own.
type Cluster struct {
	Nodes []*peer.Node

	t testing.TB
}

// NewCluster makes n nodes on sockets of the loopback interface, each with a
// fresh key, each allowed everything on the others, all connected. They are
// closed when the test and its subtests are over; a goroutine that they leave
// behind, or a service that does not return, fails the test.
func NewCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	return Config{}.NewCluster(t, n)
}

// NewCluster is the function of that name with a configuration.
func (cfg Config) NewCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	watchGoroutines(t)
	c := &Cluster{t: t}
	keys := make([]*identity.Key, n)
	ids := make([]identity.NodeID, n)
	for i := range n {
		key, err := identity.Generate()
		if err != nil {
			t.Fatalf("peertest: key of node %d: %v", i, err)
		}
		keys[i], ids[i] = key, key.ID()
	}
	for i := range n {
		node, err := peer.NewNode(cfg.node(t, i, keys[i], ids))
		if err != nil {
			t.Fatalf("peertest: node %d: %v", i, err)
		}
		t.Cleanup(func() { c.close(i, node) })
		c.Nodes = append(c.Nodes, node)
	}
	for j := range n {
		for i := range j {
			if cfg.Connect == nil || cfg.Connect(i, j) {
				c.Connect(i, j)
			}
		}
	}
	return c
}

// Host is the address of node i on a simulated network.
func Host(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}) }

// node is the configuration of node i.
func (cfg Config) node(t testing.TB, i int, key *identity.Key, ids []identity.NodeID) peer.Config {
	authorize := cfg.Authorize
	if authorize == nil {
		authorize = peer.AllowNodes(ids...)
	}
	node := peer.Config{
		ListenAddr: "127.0.0.1:0",
		Identity:   key,
		Authorize:  authorize,
		Circuit:    cfg.Circuit,
		Limits:     cfg.Limits,
		Logger:     slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", i),
	}
	if cfg.Network != nil {
		socket, err := cfg.Network.Host(Host(i)).Listen(4242)
		if err != nil {
			t.Fatalf("peertest: socket of node %d: %v", i, err)
		}
		node.PacketConn = socket
	}
	if cfg.Adjust != nil {
		cfg.Adjust(i, &node)
	}
	return node
}

// Connect connects node i to node j, which node i dials unless they are
// connected already.
func (c *Cluster) Connect(i, j int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := c.Nodes[i].Connect(ctx, c.Nodes[j].URL()); err != nil {
		c.t.Fatalf("peertest: connecting node %d to node %d: %v", i, j, err)
	}
}

// Register registers f by name on every node.
func (c *Cluster) Register(name string, f peer.PeerServiceFunc) {
	c.t.Helper()
	for i, n := range c.Nodes {
		if err := n.PeerAPI.RegisterPeerServiceFunc(name, f); err != nil {
			c.t.Fatalf("peertest: node %d: %v", i, err)
		}
	}
}

// Start starts a peer of the service on node i, which lives until the test is
// over or it ends by itself.
func (c *Cluster) Start(i int, service string) *peer.LocalPeer {
	c.t.Helper()
	p, err := c.Nodes[i].PeerAPI.StartLocalPeer(context.Background(), service)
	if err != nil {
		c.t.Fatalf("peertest: starting %q on node %d: %v", service, i, err)
	}
	return p
}

func (c *Cluster) close(i int, n *peer.Node) {
	if err := n.Close(); err != nil {
		c.t.Errorf("peertest: closing node %d: %v", i, err)
	}
}

// watchGoroutines marks the goroutine of the test, so that all goroutines
// that come from it bear the mark, and looks for marks when all is closed.
// Several clusters of one test share a mark, and the first one looks.
func watchGoroutines(t testing.TB) {
	mark := fmt.Sprintf("%q:%q", "peertest", fmt.Sprintf("%s at %p", t.Name(), t))
	if len(goroutinesWith(mark)) > 0 {
		return
	}
	labels := pprof.Labels("peertest", fmt.Sprintf("%s at %p", t.Name(), t))
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), labels))
	t.Cleanup(func() {
		pprof.SetGoroutineLabels(context.Background())
		deadline := time.After(patience)
		for {
			left := goroutinesWith(mark, "ckt.local/")
			if len(left) == 0 {
				return
			}
			select {
			case <-deadline:
				t.Errorf("peertest: goroutines are left behind:\n%s", strings.Join(left, "\n\n"))
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
}

// goroutinesWith returns the parts of the goroutine profile that contain all
// the texts: a mark, and a piece of a package path. A goroutine of the runtime
// that bears the mark is not the cluster's.
func goroutinesWith(texts ...string) []string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return nil
	}
	var found []string
	for block := range strings.SplitSeq(profile.String(), "\n\n") {
		if !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(block, s) }) {
			found = append(found, block)
		}
	}
	return found
}
