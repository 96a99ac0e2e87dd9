package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/simnet"
)

// retrySocket hears nothing but Retry: it proves its address and never goes on.
type retrySocket struct{ net.PacketConn }

func (s retrySocket) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := s.PacketConn.ReadFrom(b)
		if err != nil || n > 0 && b[0]&0xf0 == 0xf0 { // long header of type Retry
			return n, from, err
		}
	}
}

// machine is a socket with an address that others in the test do not have.
func machine(t *testing.T, ip string) *net.UDPConn {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Skipf("loopback has one address only: %v", err)
	}
	return pc
}

// within ends ctx early enough for a failing test to say something.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestOneMachineTakesAllHandshakes(t *testing.T) {
	e := endpoint(t)
	retryAbove, maxSourceHandshakes := e.cfg.limits.RetryAbove, e.cfg.limits.HandshakesPerAddr
	pc := machine(t, "127.0.0.2")
	tr := &quicgo.Transport{Conn: socket(retrySocket{pc}, new(outage))}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
		tr.Close()
		pc.Close()
	}()
	for range e.cfg.limits.Handshakes + 100 {
		wg.Go(func() {
			for ctx.Err() == nil {
				tr.Dial(ctx, e.Addr(), e.dialTLS(e.Addr(), e.Key()), &quicgo.Config{HandshakeIdleTimeout: 5 * time.Second})
			}
		})
	}
	for e.arrivals.unfinished() < retryAbove+maxSourceHandshakes/2 && ctx.Err() == nil {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
	// Another machine does not notice.
	if _, err := endpoint(t).Dial(within(t, 20*time.Second), e.Addr().String(), e.Key()); err != nil {
		t.Errorf("Dial of another machine: %v", err)
	}
	if n, most := e.arrivals.unfinished(), retryAbove+1+maxSourceHandshakes; n > most {
		t.Errorf("%d handshakes are unfinished, want at most %d", n, most)
	}
	// Another process of that machine shares its places, and keeps asking until
	// the flood is over.
	time.AfterFunc(500*time.Millisecond, cancel)
	neighbour := endpointWith(t, Config{Conn: machine(t, "127.0.0.2"), HandshakeTimeout: 20 * time.Second})
	if _, err := neighbour.Dial(within(t, 30*time.Second), e.Addr().String(), e.Key()); err != nil {
		t.Errorf("Dial of the same machine: %v", err)
	}
}

func udpAddr(s string) net.Addr {
	a, err := net.ResolveUDPAddr("udp", s)
	if err != nil {
		panic(err)
	}
	return a
}

func TestSource(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1:1", "192.0.2.1:2", true},
		{"192.0.2.1:1", "[::ffff:192.0.2.1]:1", true},
		{"192.0.2.1:1", "192.0.2.2:1", false},
		{"[2001:db8::1]:1", "[2001:db8::ffff:0:0:1]:1", true},
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
	} {
		if same := sourceOf(udpAddr(test.a)) == sourceOf(udpAddr(test.b)); same != test.same {
			t.Errorf("%s and %s are one source: %v", test.a, test.b, same)
		}
	}
}

func TestArrivals(t *testing.T) {
	ledger := limit.NewLedger(limit.Limits{})
	bounds := ledger.Limits().Transport
	as := &arrivals{ledger: ledger, bounds: bounds, from: make(map[source]int)}
	victim, flood := sourceOf(udpAddr("192.0.2.1:1")), sourceOf(udpAddr("192.0.2.2:1"))
	var all []*arrival
	begin := func(from source, proof addressProof) bool {
		a := as.begin(from, proof)
		if a != nil {
			all = append(all, a)
		}
		return a != nil
	}
	for range bounds.RetryAbove {
		if !begin(victim, unproven) {
			t.Fatal("refused without need")
		}
	}
	// Somebody has used the victim's address; the victim still gets its places.
	for _, from := range []source{victim, flood} {
		for range bounds.HandshakesPerAddr {
			if !begin(from, proven) {
				t.Fatal("refused before the source has its places")
			}
		}
		if begin(from, proven) {
			t.Fatal("a source has too many places")
		}
	}
	// A place that gets free can be taken again, once.
	as.end(all[len(all)-1])
	as.end(all[len(all)-1])
	if !begin(flood, proven) || begin(flood, proven) {
		t.Error("the end of a handshake is not worth one place")
	}
	for i := byte(0); as.shaking < bounds.Handshakes; i++ {
		begin(sourceOf(&net.UDPAddr{IP: net.IPv4(198, 51, 100, i)}), proven)
	}
	if begin(sourceOf(udpAddr("203.0.113.1:1")), proven) {
		t.Error("there are more handshakes than the bound of all")
	}
	for _, a := range all {
		as.end(a)
		as.end(a)
	}
	if as.shaking != 0 || len(as.from) != 0 || ledger.Uses()[limit.Handshakes].Used != 0 {
		t.Errorf("what is left: %d, %v, %+v", as.shaking, as.from, ledger.Uses()[limit.Handshakes])
	}
}

// mute makes n connections that never say hello.
func mute(t *testing.T, e *Endpoint, key *identity.Key, n int) []*quicgo.Conn {
	t.Helper()
	cert, err := identity.Certificate(key)
	if err != nil {
		t.Fatal(err)
	}
	pc := udp(t)
	tr := &quicgo.Transport{Conn: pc}
	t.Cleanup(func() {
		tr.Close()
		pc.Close()
	})
	conf := baseTLS(tls.Certificate(cert))
	conf.InsecureSkipVerify = true
	qcs := make([]*quicgo.Conn, n)
	for i := range qcs {
		if qcs[i], err = tr.Dial(within(t, 20*time.Second), e.Addr(), conf, &quicgo.Config{}); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	return qcs
}

func TestOneKeyTakesAllHellos(t *testing.T) {
	e := endpointWith(t, Config{HandshakeTimeout: 3 * time.Second})
	key := newKey(t)
	const more = 12
	qcs := mute(t, e, key, maxKeyHellos+more)
	ended := make(chan *quicgo.Conn)
	for _, qc := range qcs {
		context.AfterFunc(qc.Context(), func() {
			select {
			case ended <- qc:
			case <-t.Context().Done():
			}
		})
	}
	for range more {
		select {
		case qc := <-ended:
			app, ok := errors.AsType[*quicgo.ApplicationError](context.Cause(qc.Context()))
			if !ok || transport.Code(app.ErrorCode) != transport.CodeLimit {
				t.Errorf("a connection without hello has ended with %v, want CodeLimit", app)
			}
		case <-within(t, 20*time.Second).Done():
			t.Fatal("more hellos of one key are under way than there may be")
		}
	}
	// Another key gets in at once; the same key when places become free.
	if _, err := endpoint(t).Dial(within(t, 20*time.Second), e.Addr().String(), e.Key()); err != nil {
		t.Errorf("Dial with another key: %v", err)
	}
	same := endpointWith(t, Config{Key: key, HandshakeTimeout: 20 * time.Second})
	if _, err := same.Dial(within(t, 20*time.Second), e.Addr().String(), e.Key()); err != nil {
		t.Errorf("Dial with the same key: %v", err)
	}
}

func TestUnopenedConnectionsCostLittle(t *testing.T) {
	e := endpointWith(t, Config{HandshakeTimeout: 20 * time.Second})
	for i, qc := range mute(t, e, newKey(t), 6) {
		// It ends with the second stream: what is on its way by then counts.
		if got := fill(t, qc, connectionWindow); got > streamWindow {
			t.Errorf("connection %d has taken %d bytes before hello", i, got)
		}
		select {
		case <-qc.Context().Done(): // QUIC ends the streams first
		case <-within(t, 10*time.Second).Done():
			t.Errorf("connection %d lives on with a second stream before hello", i)
		}
	}
}

// fill begins a hello and writes behind its back, until the connection has
// ended or taken more than want bytes, and returns how many. One that takes no
// more and does not end is found out by its deadline, and not by one that a
// busy machine needs to send the second stream at all.
func fill(t *testing.T, qc *quicgo.Conn, want int) (total int) {
	t.Helper()
	for b := []byte("\x07\x01"); total <= want; b = make([]byte, streamWindow) {
		s, err := qc.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		s.SetWriteDeadline(time.Now().Add(10 * time.Second))
		n, err := s.Write(b)
		total += n
		if err != nil {
			break
		}
	}
	return total
}

func TestConnsOfOneKey(t *testing.T) {
	inNet(t, 10*time.Millisecond, func(t *testing.T, n *simnet.Network) {
		e := endpointOn(t, n, 0, Config{Ledger: limit.NewLedger(limit.Limits{Transport: limit.Transport{ConnsPerNode: 2}})})
		defer e.Close()
		key := newKey(t)
		var all []*Endpoint
		defer func() {
			for _, a := range all {
				a.Close()
			}
		}()
		dial := func(cfg Config) error {
			a := endpointOn(t, n, 1+len(all), cfg)
			all = append(all, a)
			_, err := dialTo(t, a, e)
			return err
		}
		for range 2 {
			if err := dial(Config{Key: key}); err != nil {
				t.Fatal(err)
			}
		}
		err := dial(Config{Key: key, HandshakeTimeout: 300 * time.Millisecond})
		if r, ok := errors.AsType[*transport.RemoteError](err); !ok || r.Code != transport.CodeLimit {
			t.Errorf("a third Conn of one key: %v, want CodeLimit", err)
		}
		if err := dial(Config{}); err != nil {
			t.Errorf("a Conn of another key: %v", err)
		}
		// A dial that is refused finds the place that gets free meanwhile.
		time.AfterFunc(200*time.Millisecond, func() { all[0].Close() })
		if err := dial(Config{Key: key}); err != nil {
			t.Errorf("Dial when a Conn of the key has ended: %v", err)
		}
	})
}

func TestBusyServerIsAskedAgain(t *testing.T) {
	e := endpoint(t)
	places := e.cfg.limits.Handshakes
	e.Occupy(places)
	a := endpointWith(t, Config{HandshakeTimeout: 300 * time.Millisecond})
	if _, err := a.Dial(within(t, 20*time.Second), e.Addr().String(), e.Key()); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("Dial of a server that has no place: %v, want ErrUnreachable", err)
	}
	if _, err := a.Dial(within(t, 100*time.Millisecond), e.Addr().String(), e.Key()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial with little time: %v, want DeadlineExceeded", err)
	}
	time.AfterFunc(500*time.Millisecond, func() { e.Occupy(-places) })
	if _, err := endpoint(t).Dial(within(t, 20*time.Second), e.Addr().String(), e.Key()); err != nil {
		t.Errorf("Dial of a server that gets a place: %v", err)
	}
}
