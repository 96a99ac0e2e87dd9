package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/simnet"
)

// A recorder keeps what is sent, and hears nothing.
type recorder struct {
	deafSocket
	mu    sync.Mutex
	sent  [][]byte
	count int
	full  func() // when there are count packets
}

func (r *recorder) WriteTo(b []byte, _ net.Addr) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sent) < r.count {
		r.sent = append(r.sent, slices.Clone(b))
		if len(r.sent) == r.count {
			r.full()
		}
	}
	return len(b), nil
}

// firstFlights records the first packets of many honest dials. Each dial has
// connection IDs of its own, so to the server each is somebody new.
func firstFlights(t *testing.T, n int) [][]byte {
	t.Helper()
	cert, err := identity.Certificate(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	conf := baseTLS(cert)
	conf.InsecureSkipVerify = true
	ctx, cancel := context.WithCancel(t.Context())
	r := &recorder{
		deafSocket: deafSocket{PacketConn: udp(t), closed: make(chan struct{})},
		count:      n, full: cancel,
	}
	tr := &quicgo.Transport{Conn: r}
	var wg sync.WaitGroup
	for range min(n, 64) {
		wg.Go(func() {
			for ctx.Err() == nil { // two packets each time
				brief, stop := context.WithTimeout(ctx, 20*time.Millisecond)
				tr.Dial(brief, udpAddr("127.0.0.1:9"), conf, &quicgo.Config{})
				stop()
			}
		})
	}
	wg.Wait()
	tr.Close()
	r.Close()
	return r.sent
}

// resident is the memory that the process has from the system.
func resident() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased)
}

const (
	spoofed     = 100_000 // packets
	spoofedFor  = 10 * time.Second
	spoofSource = 250 // addresses
)

func TestSpoofedFirstPackets(t *testing.T) {
	flights := firstFlights(t, 1000)
	e := endpoint(t)
	var from []*net.UDPConn
	for i := range spoofSource {
		pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 1, byte(i>>4), byte(i))})
		if err != nil {
			t.Skipf("loopback has one address only: %v", err)
		}
		defer pc.Close()
		from = append(from, pc)
	}
	debug.FreeOSMemory()
	before := resident()
	to := e.Addr().(*net.UDPAddr).AddrPort()
	var sent, most, shaking atomic.Int64
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for began := time.Now(); sent.Load() < spoofed && t.Context().Err() == nil; <-tick.C {
			due := int64(min(1, float64(time.Since(began))/float64(spoofedFor)) * spoofed)
			for i := sent.Load(); i < due; i++ {
				from[i%spoofSource].WriteToUDPAddrPort(flights[i*7919%int64(len(flights))], to)
				sent.Add(1)
			}
			most.Store(max(most.Load(), resident()-before))
			shaking.Store(max(shaking.Load(), int64(e.arrivals.unfinished())))
		}
	}()
	// Somebody honest comes every two seconds. How long it takes depends on the
	// CPU that the machine has beside the flood, and on what else it does: here
	// it has to work, and TestSpoofedFirstPacketsSimulated wants 2 s at most.
	var slowest time.Duration
	dials := 0
	for over := false; !over; dials++ {
		began := time.Now()
		a := endpointWith(t, Config{HandshakeTimeout: 20 * time.Second})
		if _, err := dialTo(t, a, e); err != nil {
			t.Errorf("Dial in the flood: %v", err)
		}
		slowest = max(slowest, time.Since(began))
		a.Close()
		select {
		case <-flooded:
			over = true
		case <-time.After(2 * time.Second):
		}
	}
	t.Logf("%d packets, memory +%d KiB, %d dials, the slowest took %v", sent.Load(), most.Load()>>10, dials, slowest)
	if most.Load() > 32<<20 {
		t.Errorf("memory has grown by %d bytes, want at most 32 MiB", most.Load())
	}
	if n, above := int(shaking.Load()), e.cfg.limits.RetryAbove; n < above || n > above+2 {
		t.Errorf("%d handshakes were unfinished, want %d: the others have to prove their address", n, above)
	}
}

func TestSpoofedFirstPacketsSimulated(t *testing.T) {
	// The same on a slow path, where every packet is from an address of its own.
	flights := firstFlights(t, 1000)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * 365 * 24 * time.Hour) // see inBubble
		n := simnet.New(1)
		defer n.Close()
		n.SetDefault(simnet.Link{Latency: 50 * time.Millisecond})
		at := func(i int) *simnet.Host {
			return n.Host(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
		}
		e := endpointOn(t, n, 0, Config{})
		defer e.Close()
		var sources []net.PacketConn
		for i := range 2000 {
			pc, err := at(1000 + i).Listen(7000)
			if err != nil {
				t.Fatal(err)
			}
			defer pc.Close()
			sources = append(sources, pc)
		}
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			const steps = 1000
			for i := range steps {
				time.Sleep(spoofedFor / steps)
				for j := range spoofed / steps {
					k := i*spoofed/steps + j
					sources[k%len(sources)].WriteTo(flights[k*7919%len(flights)], e.Addr())
				}
			}
		})
		most := 0
		for i := range 8 {
			a := endpointOn(t, n, 1+i, Config{})
			began := time.Now()
			if _, err := a.Dial(t.Context(), e.Addr().String(), e.Key()); err != nil {
				t.Errorf("Dial in the flood: %v", err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("an honest dial has taken %v, want at most 2s", took)
			}
			most = max(most, e.arrivals.unfinished())
			a.Close()
			time.Sleep(time.Second)
		}
		if above := e.cfg.limits.RetryAbove; most < above || most > above+2 {
			t.Errorf("%d handshakes were unfinished, want %d: the others have to prove their address", most, above)
		}
	})
}

// rounds sends a byte there and back until ctx ends, and returns how long each
// round trip took.
func rounds(t *testing.T, ctx context.Context, a, b transport.Conn) []time.Duration {
	out, err := a.OpenStream(ctx)
	if err != nil {
		t.Error(err)
		return nil
	}
	var took []time.Duration
	var in transport.Stream
	for word := []byte{1}; ctx.Err() == nil; {
		began := time.Now()
		if _, err = out.Write(word); err == nil && in == nil {
			in, err = b.AcceptStream(ctx)
		}
		if err == nil {
			_, err = io.ReadFull(in, word)
		}
		if err == nil {
			_, err = in.Write(word)
		}
		if err == nil {
			_, err = io.ReadFull(out, word)
		}
		if err != nil {
			t.Errorf("the honest pair: %v", err)
			return nil
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took
}

func TestManyConnectionsOfOneKey(t *testing.T) {
	// Ten thousand connections of a key that is authorised, each as of another
	// process with that key.
	ledger := bounded(limit.Transport{ConnsPerSecond: -1})
	e := endpointWith(t, Config{Ledger: ledger})
	honest := endpoint(t)
	here, err := dialTo(t, honest, e)
	if err != nil {
		t.Fatal(err)
	}
	there, err := e.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // otherwise they would be too many for Accept
		for {
			if _, err := e.Accept(t.Context()); err != nil {
				return
			}
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	var calm, stormy []time.Duration
	quiet, over := context.WithTimeout(ctx, time.Second)
	calm = rounds(t, quiet, here, there)
	over()
	var pair sync.WaitGroup
	pair.Go(func() { stormy = rounds(t, ctx, here, there) })

	began := time.Now()
	in, typed := storm(t, e)
	took := time.Since(began)
	stop()
	pair.Wait()
	each := e.cfg.limits.ConnsPerNode
	if used(ledger, limit.Conns) > int64(each)+1 || in != int64(each) {
		t.Errorf("%d connections of one key are open and %d are booked, want %d and one more", in, used(ledger, limit.Conns), each)
	}
	if len(calm) == 0 || len(stormy) == 0 {
		t.Fatal("the honest pair has not made a round trip")
	}
	t.Logf("%d connections in %v: %d open, %d refused; round trips of others: %v (99 %%: %v) before, %v (99 %%: %v) meanwhile",
		crowd, took, in, typed, calm[len(calm)/2], calm[len(calm)*99/100], stormy[len(stormy)/2], stormy[len(stormy)*99/100])
	if slow := stormy[len(stormy)*99/100]; slow > time.Second {
		t.Errorf("1 of 100 round trips of others has taken more than %v", slow)
	}
	e.Close()
	wg.Wait()
}

// storm makes connections of one key, a few at a time and each at an address of
// its own: at one address, each would be the restarted process of before, and
// take its place. It returns how many are in, and how many the limit refused.
func storm(t *testing.T, e *Endpoint) (int64, int64) {
	t.Helper()
	cert, err := identity.Certificate(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	want := transport.LimitError{What: "connections of one node", Limit: int64(e.cfg.limits.ConnsPerNode), Remote: true}
	var serial, in, typed atomic.Int64
	one := func(n int64) {
		pc := udp(t)
		tr := &quicgo.Transport{Conn: pc}
		hangUp := func() {
			tr.Close()
			pc.Close()
		}
		l, err := knock(t, tr, cert, e, uint64(n))
		if err == nil {
			in.Add(1)
			t.Cleanup(hangUp)
			return
		}
		hangUp()
		if l == nil || *l != want {
			t.Errorf("connection %d: %v, want %v", n, err, &want)
			return
		}
		typed.Add(1)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := serial.Add(1); n <= crowd; n = serial.Add(1) {
				one(n)
			}
		})
	}
	wg.Wait()
	return in.Load(), typed.Load()
}

// knock says hello with a boot nonce of its own. The connection stays if it is
// let in.
func knock(t *testing.T, tr *quicgo.Transport, cert tls.Certificate, e *Endpoint, nonce uint64) (*transport.LimitError, error) {
	conf := baseTLS(cert)
	conf.InsecureSkipVerify = true
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	qc, err := tr.Dial(ctx, e.Addr(), conf, &quicgo.Config{KeepAlivePeriod: time.Second})
	if err != nil {
		return nil, err
	}
	qs, err := qc.OpenStream()
	if err != nil {
		return nil, err
	}
	if err := sayHello(qs, hello{BootNonce: nonce, Serial: 1}); err != nil {
		return nil, err
	}
	typ, body, err := transport.ReadFrame(qs, helloLimit)
	if err != nil {
		return nil, err
	}
	if typ == typeWelcome {
		return nil, qs.Close()
	}
	r, err := parseRefusal(body)
	qc.CloseWithError(0, "")
	if err != nil {
		return nil, err
	}
	return transport.RemoteLimit(r.Limit, r.Value), errors.New(r.Reason)
}
