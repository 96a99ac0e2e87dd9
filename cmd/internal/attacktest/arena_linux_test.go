package attacktest

import (
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ckt.local/peer"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// bounds are those of the node that is attacked, small enough to be met.
func bounds() limit.Limits {
	return limit.Limits{
		Transport: limit.Transport{
			Handshakes: 128, RetryAbove: 32, HandshakesPerAddr: 16,
			Conns: 32, ConnsPerNode: 8, ConnsPerSecond: 256,
			Streams: 4096, Receive: 16 << 20, ReceivePerNode: 8 << 20,
		},
		Circuit: limit.Circuit{
			Circuits: 1024, CircuitsPerNode: 256, OpensPerSecond: 2000, Payload: 256 << 10, Window: 256 << 10, MaxWindow: 1 << 20,
			Inbox: 24 << 20, InboxPerNode: 6 << 20, Replay: 24 << 20, ReplayPerNode: 6 << 20,
		},
		Peer: limit.Peer{Started: 64, StartedPerNode: 16},
	}
}

// budget is the memory that somebody who sets these bounds gives away: the
// sums of them, with 57 KiB for each handshake and the first 2 MiB of QUIC's
// window for each connection.
func budget(l limit.Limits) int64 {
	t, c := l.Transport, l.Circuit
	return int64(t.Handshakes)*57<<10 + int64(t.Conns)*2<<20 + t.Receive + c.Inbox + c.Replay
}

// room is what the node may take beside its budget. The race detector's shadow
// makes all memory several times as much.
func room(l limit.Limits) int64 {
	n := budget(l) + 64<<20
	if raceDetector {
		n *= 6
	}
	return n
}

// An arena is the node that is attacked, the honest pair beside it, and those
// who attack.
type arena struct {
	node, pair *process
	limits     limit.Limits
	base       int64 // what the node had in memory before the first case
	target     *net.UDPAddr
	url        peer.URL

	honest  *identity.Key // the pair's
	mallory *mallory      // is authorised, like all the following but the stranger
	second  *mallory
	drip    *mallory
	crowd   []*mallory
	unknown *mallory

	calm    *window // the pair's last window in quiet, and when that was
	calmAt  time.Time
	extra   int // newcomers so far
	secrets *secrets
	trickle *trickle

	pacing sync.Mutex
	due    time.Time // when the next try is

	heard   map[string]int // lines of the log so far, by message
	reacted int            // tries of this case that the node has done something about at once
}

const newcomers = 4

// newArena starts the processes. Keys and the list of who may do what are
// files, as they are for a real node.
func newArena(t *testing.T) *arena {
	t.Helper()
	a := &arena{limits: bounds(), heard: make(map[string]int)}
	dir := t.TempDir()
	list := filepath.Join(dir, "authorized_peers")
	newKey := func(name string, services ...string) (*identity.Key, string) {
		key := anyKey(t)
		file := writeKey(t, dir, name, key)
		if services != nil {
			if err := identity.AppendAuthorized(list, identity.Entry{ID: key.ID(), Services: services, Comment: name}); err != nil {
				t.Fatal(err)
			}
		}
		return key, file
	}
	_, nodeFile := newKey("node")
	var pairFile string
	a.honest, pairFile = newKey("pair", "echo")
	var extra []string
	for i := range newcomers {
		_, file := newKey(fmt.Sprint("newcomer", i), "echo")
		extra = append(extra, file)
	}
	open := []string{"echo", "source", "sink", "panic"}
	keys := make([]*identity.Key, 3+16)
	for i := range keys {
		keys[i], _ = newKey(fmt.Sprint("mallory", i), open...)
	}
	stranger, _ := newKey("stranger")

	a.node = start(t, "node", job{Role: "node", Key: nodeFile, Authorized: list, Limits: a.limits})
	a.pair = start(t, "pair", job{Role: "pair", Key: pairFile, Every: pace(), Extra: extra})
	var err error
	if a.url, err = peer.ParseURL(a.node.URL); err != nil {
		t.Fatal(err)
	}
	if a.target, err = net.ResolveUDPAddr("udp4", a.url.Addr); err != nil {
		t.Fatal(err)
	}
	a.mallory, a.second = newMallory(t, a.target, keys[0], 2, 24), newMallory(t, a.target, keys[1], 3, 4)
	a.drip, a.unknown = newMallory(t, a.target, keys[2], 4, 4), newMallory(t, a.target, stranger, 5, 24)
	for _, k := range keys[3:] {
		a.crowd = append(a.crowd, newMallory(t, a.target, k, 6, 4))
	}
	a.pair.must(t, order{Do: "open", URL: a.node.URL})
	a.pair.must(t, order{Do: "mark"})
	a.pair.must(t, order{Do: "await", N: samples})
	a.base = a.node.resident(t)
	return a
}

// pace waits until the next try of an attack is due, at so many in a second: a
// processor of the attacker's own would be as fast as that, and here it leaves
// some of the machine for those that are measured.
func (a *arena) pace(perSecond int) {
	a.pacing.Lock()
	defer a.pacing.Unlock()
	now := time.Now()
	if late := now.Add(-20 * time.Millisecond); a.due.Before(late) {
		a.due = late
	}
	a.due = a.due.Add(time.Second / time.Duration(perSecond))
	if wait := a.due.Sub(now); wait > 0 {
		<-time.After(wait)
	}
}

// Tries in a second.
const (
	paceConns = 250
	paceOpens = 5000
	pacePings = 2000 // writes of 50
	paceReset = 20_000
	paceSpoof = 10_000
)

// close ends what belongs to the arena before the test does.
func (a *arena) close(t *testing.T) {
	a.trickle.end()
	a.pair.end(t)
	a.node.end(t)
}

// samples is the least number of round trips that a figure is made of.
const samples = 200

// pace is the time between two fragments of the honest pair.
func pace() time.Duration {
	if raceDetector {
		return 2 * time.Millisecond
	}
	return time.Millisecond
}

// anyKey makes a key that nobody knows.
func anyKey(t testing.TB) *identity.Key {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writeKey(t testing.TB, dir, name string, key *identity.Key) (file string) {
	t.Helper()
	file = filepath.Join(dir, name)
	if err := identity.WriteKeyFile(file, key, nil, name); err != nil {
		t.Fatal(err)
	}
	return file
}

// keyFile makes a file with a fresh key.
func keyFile(t testing.TB, dir, name string) string {
	t.Helper()
	return writeKey(t, dir, name, anyKey(t))
}
