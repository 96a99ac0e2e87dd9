package quic

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/limit"
	"ckt.local/transport/simnet"
)

// bounded makes a ledger with these bounds on connections.
func bounded(l limit.Transport) *limit.Ledger { return limit.NewLedger(limit.Limits{Transport: l}) }

func used(g *limit.Ledger, r limit.Resource) int64 { return g.Uses()[r].Used }

// until waits for a condition that something on its way brings about.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for ctx := within(t, 20*time.Second); !f(); runtime.Gosched() {
		if ctx.Err() != nil {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func dialTo(t *testing.T, a, e *Endpoint) (transport.Conn, error) {
	t.Helper()
	return a.Dial(within(t, 20*time.Second), e.Addr().String(), e.Key())
}

func TestLimitErrorAtTheDialler(t *testing.T) {
	for _, test := range []struct {
		name  string
		limit limit.Transport
		same  bool // whether the Conn that is open has the same key
		want  transport.LimitError
	}{
		{"of one node", limit.Transport{ConnsPerNode: 1}, true, transport.LimitError{What: "connections of one node", Limit: 1, Remote: true}},
		{"of all", limit.Transport{Conns: 1}, false, transport.LimitError{What: "connections", Limit: 1, Remote: true}},
		{"per second", limit.Transport{ConnsPerSecond: 1}, true, transport.LimitError{What: "connections per second of one node", Limit: 1, Remote: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNet(t, 10*time.Millisecond, func(t *testing.T, n *simnet.Network) {
				e, key := endpointOn(t, n, 0, Config{Ledger: bounded(test.limit)}), newKey(t)
				defer e.Close()
				first := endpointOn(t, n, 1, Config{Key: key})
				defer first.Close()
				if _, err := dialTo(t, first, e); err != nil {
					t.Fatal(err)
				}
				if !test.same {
					key = newKey(t)
				}
				late := endpointOn(t, n, 2, Config{Key: key, HandshakeTimeout: 200 * time.Millisecond})
				defer late.Close()
				_, err := dialTo(t, late, e)
				r, ok := errors.AsType[*transport.RemoteError](err)
				l, typed := errors.AsType[*transport.LimitError](err)
				if !ok || r.Code != transport.CodeLimit || !typed || *l != test.want {
					t.Errorf("%v, want CodeLimit with %v", err, &test.want)
				}
			})
		})
	}
}

func TestPlacesAreGivenBack(t *testing.T) {
	// However Conns end, nothing stays booked on either side.
	a, b := endpoint(t), endpoint(t)
	open := func() (here, there transport.Conn) {
		here, err := dialTo(t, a, b)
		if err != nil {
			t.Fatal(err)
		}
		if there, err = b.Accept(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
		return here, there
	}
	for name, end := range map[string]func(here, there transport.Conn){
		"closed here":  func(here, _ transport.Conn) { here.Close(transport.CodeClosed, "") },
		"closed there": func(_, there transport.Conn) { there.Close(transport.CodeClosed, "") },
		"both": func(here, there transport.Conn) {
			var wg sync.WaitGroup
			for _, c := range []transport.Conn{here, there, here, there} {
				wg.Go(func() { c.Close(transport.CodeClosed, "") })
			}
			wg.Wait()
		},
	} {
		here, there := open()
		if used(a.cfg.Ledger, limit.Conns) != 1 || used(b.cfg.Ledger, limit.Conns) != 1 {
			t.Errorf("%s: %d and %d Conns are booked, want 1", name, used(a.cfg.Ledger, limit.Conns), used(b.cfg.Ledger, limit.Conns))
		}
		end(here, there)
		<-here.Context().Done()
		<-there.Context().Done()
		if used(a.cfg.Ledger, limit.Conns) != 0 || used(b.cfg.Ledger, limit.Conns) != 0 {
			t.Errorf("%s: %d and %d Conns stay booked", name, used(a.cfg.Ledger, limit.Conns), used(b.cfg.Ledger, limit.Conns))
		}
	}
	open()
	a.Close()
	b.Close()
	for _, e := range []*Endpoint{a, b} {
		for _, r := range []limit.Resource{limit.Conns, limit.Handshakes, limit.Receive} {
			if n := used(e.cfg.Ledger, r); n != 0 {
				t.Errorf("closed, and %d %v stay booked", n, r)
			}
		}
	}
}

// A muffled socket can be made to lose all that it sends.
type muffled struct {
	*net.UDPConn
	on atomic.Bool
}

func (m *muffled) muffle() { m.on.Store(true) }

func (m *muffled) WriteTo(b []byte, to net.Addr) (int, error) {
	if m.on.Load() {
		return len(b), nil
	}
	return m.UDPConn.WriteTo(b, to)
}

// WriteMsgUDP is not what this socket is used for.
func (m *muffled) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	if m.on.Load() {
		return len(b), len(oob), nil
	}
	return m.UDPConn.WriteMsgUDP(b, oob, to)
}

func TestReplacedConnGivesUpItsPlace(t *testing.T) {
	// With one place for the key, and it taken by a Conn that the dialler has
	// lost: in another process with its key at the same address, and in itself.
	e := endpointWith(t, Config{Ledger: bounded(limit.Transport{ConnsPerNode: 1, Conns: 1})})
	key, pc := newKey(t), &muffled{UDPConn: machine(t, "127.0.0.3")}
	first := endpointWith(t, Config{Key: key, Conn: pc})
	if _, err := dialTo(t, first, e); err != nil {
		t.Fatal(err)
	}
	old, err := e.Accept(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	pc.muffle() // its last word is not heard
	first.Close()
	same, err := net.ListenUDP("udp4", pc.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	again := endpointWith(t, Config{Key: key, Conn: same})
	if _, err := dialTo(t, again, e); err != nil {
		t.Errorf("Dial of the restarted process: %v", err)
	}
	<-old.Context().Done()
	if !errors.Is(context.Cause(old.Context()), errRestarted) {
		t.Errorf("the Conn before the restart has ended with %v", context.Cause(old.Context()))
	}
	lost, err := e.Accept(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	// The same process has lost it, and was not heard.
	here, err := again.connected(e.Key())
	if err != nil {
		t.Fatal(err)
	}
	again.forget(here)
	here.booking.end()
	if c, err := dialTo(t, again, e); err != nil || c == here {
		t.Errorf("Dial of who has lost its Conn: %v", err)
	}
	<-lost.Context().Done()
	if n := used(e.cfg.Ledger, limit.Conns); n != 1 {
		t.Errorf("%d Conns are booked, want 1", n)
	}
}

func TestDialledConnsAreNeverRefused(t *testing.T) {
	// Others have taken all places: this side still gets where it wants, and
	// what it has dialled counts.
	e := endpointWith(t, Config{Ledger: bounded(limit.Transport{Conns: 1})})
	if _, err := dialTo(t, endpoint(t), e); err != nil {
		t.Fatal(err)
	}
	b := endpoint(t)
	if _, err := dialTo(t, e, b); err != nil {
		t.Errorf("Dial with all places taken: %v", err)
	}
	if n := used(e.cfg.Ledger, limit.Conns); n != 2 {
		t.Errorf("%d Conns are booked, want 2", n)
	}
	e.Close()
	until(t, "places given back", func() bool { return used(e.cfg.Ledger, limit.Conns) == 0 })
}

func TestWindowsGrowOutOfTheLedger(t *testing.T) {
	inNet(t, 50*time.Millisecond, func(t *testing.T, n *simnet.Network) {
		const bound, amount = 8 << 20, 64 << 20
		ledger := bounded(limit.Transport{ReceivePerNode: bound})
		a, e := endpointOn(t, n, 1, Config{}), endpointOn(t, n, 2, Config{Ledger: ledger})
		here, err := dialTo(t, a, e)
		if err != nil {
			t.Fatal(err)
		}
		there, err := e.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// Read at once, so that the window grows as far as it may.
		out, err := here.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := out.Write(make([]byte, amount)); err != nil {
				t.Errorf("Write: %v", err)
			}
			out.Close()
		})
		in, err := there.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, in); err != nil || n != amount {
			t.Errorf("read %d bytes, %v", n, err)
		}
		wg.Wait()
		if grown := used(ledger, limit.Receive); grown < bound/2 || grown > bound {
			t.Errorf("the window has grown by %d bytes, want up to %d", grown, bound)
		}
		there.Close(transport.CodeClosed, "")
		if left := used(ledger, limit.Receive); left != 0 {
			t.Errorf("%d bytes stay booked", left)
		}
		a.Close()
		e.Close()
	})
}

// endpointOn makes an endpoint on a host of a simulated network, which lets
// everybody in, with a fresh key if cfg has none. The caller closes it.
func endpointOn(t *testing.T, n *simnet.Network, host int, cfg Config) *Endpoint {
	t.Helper()
	pc, err := n.Host(netip.AddrFrom4([4]byte{10, 1, byte(host >> 8), byte(host)})).Listen(7000)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Conn = pc
	if cfg.Key == nil {
		cfg.Key = newKey(t)
	}
	cfg.Authorize = func(ed25519.PublicKey, net.Addr) error { return nil }
	e, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestUnreadDataIsBounded(t *testing.T) {
	// A node that is allowed in opens many connections and streams that nobody
	// accepts, and writes as much as it can: what this side keeps of it is the
	// first window of each connection, and what the ledger has beyond that.
	const conns, bound = 12, 4 << 20
	ledger := bounded(limit.Transport{ReceivePerNode: bound})
	e := endpointWith(t, Config{Ledger: ledger})
	key := newKey(t)
	before := heap()
	var total int
	for range conns {
		a := endpointWith(t, Config{Key: key})
		here, err := dialTo(t, a, e)
		if err != nil {
			t.Fatal(err)
		}
		total += flood(t, here.(*conn).qc)
	}
	if most := conns*connectionWindow + bound; total > most+conns*1200 {
		t.Errorf("%d bytes were taken, want at most %d", total, most)
	}
	grown := heap() - before
	t.Logf("%d connections, %d KiB taken, heap +%d KiB", conns, total>>10, grown>>10)
	// Besides the data, both ends of the connections live in this process.
	if most := int64(conns*(connectionWindow+connectionWindow/2) + bound); grown > most {
		t.Errorf("the heap has grown by %d bytes, want at most %d", grown, most)
	}
	if n := used(ledger, limit.Receive); n > bound {
		t.Errorf("%d bytes are booked, want at most %d", n, bound)
	}
}

func TestResetStreamsAreBounded(t *testing.T) {
	// What the other side resets counts as read, so it may send as much again;
	// but nobody has read it, and it is still here.
	const bound = 4 << 20
	ledger := bounded(limit.Transport{ReceivePerNode: bound})
	e := endpointWith(t, Config{Ledger: ledger})
	here, err := dialTo(t, endpoint(t), e)
	if err != nil {
		t.Fatal(err)
	}
	there, err := e.Accept(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	clock, err := here.OpenStream(t.Context()) // is read, so that windows open again
	if err != nil {
		t.Fatal(err)
	}
	clock.Write([]byte{0})
	read, err := there.AcceptStream(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(io.Discard, read) })
	before := heap()
	qc, sent := here.(*conn).qc, 0
	for chunk := make([]byte, 400<<10); sent < 100<<20; sent += len(chunk) {
		s, err := qc.OpenStream()
		if err != nil {
			break
		}
		s.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := s.Write(chunk); err != nil {
			break
		}
		s.CancelWrite(0)
		if _, err := clock.Write([]byte{0}); err != nil {
			break
		}
	}
	grown := heap() - before
	t.Logf("%d MiB sent, heap +%d KiB, %v", sent>>20, grown>>10, context.Cause(there.Context()))
	if most := int64(2*connectionWindow + bound + 4<<20); grown > most {
		t.Errorf("the heap has grown by %d bytes, want at most %d", grown, most)
	}
	there.Close(transport.CodeClosed, "")
	wg.Wait()
	if left := used(ledger, limit.Receive); left != 0 {
		t.Errorf("%d bytes stay booked", left)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// flood writes to new streams, and returns how much the connection has taken.
func flood(t *testing.T, qc *quicgo.Conn) (taken int) {
	t.Helper()
	for chunk := make([]byte, 100<<10); ; {
		s, err := qc.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		s.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := s.Write(chunk)
		taken += n
		if err != nil {
			return taken
		}
	}
}
