package quic

import (
	"crypto/ed25519"
	"errors"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/simnet"
)

// deafSocket sends and never hears: the sender of packets with a false address.
type deafSocket struct {
	net.PacketConn
	closed chan struct{}
	once   sync.Once
}

func (d *deafSocket) ReadFrom([]byte) (int, net.Addr, error) {
	<-d.closed
	return 0, nil, net.ErrClosed
}

func (d *deafSocket) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.PacketConn.Close()
}

// SetReadDeadline is how quic-go ends its reading.
func (d *deafSocket) SetReadDeadline(time.Time) error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

func udp(t *testing.T) *net.UDPConn {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return pc
}

func endpoint(t *testing.T) *Endpoint {
	t.Helper()
	return endpointWith(t, Config{})
}

// endpointWith makes an endpoint that lets everybody in, on loopback and with
// a fresh key if cfg does not say otherwise.
func endpointWith(t *testing.T, cfg Config) *Endpoint {
	t.Helper()
	if cfg.Conn == nil {
		cfg.Conn = udp(t)
	}
	if cfg.Key == nil {
		cfg.Key = newKey(t)
	}
	if cfg.Authorize == nil {
		cfg.Authorize = func(ed25519.PublicKey, net.Addr) error { return nil }
	}
	e, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// inNet runs a test in a bubble, with a simulated network whose paths have a
// latency: how long something takes there is not up to the machine.
func inNet(t *testing.T, latency time.Duration, test func(t *testing.T, n *simnet.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * 365 * 24 * time.Hour) // see inBubble
		n := simnet.New(1)
		defer n.Close()
		n.SetDefault(simnet.Link{Latency: latency})
		test(t, n)
	})
}

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestHandshakeFlood(t *testing.T) {
	e := endpoint(t)
	d := &deafSocket{PacketConn: udp(t), closed: make(chan struct{})}
	tr := &quicgo.Transport{Conn: d}
	var wg sync.WaitGroup
	defer func() {
		tr.Close()
		d.Close()
		wg.Wait()
	}()
	const flood = 300
	retryAbove := e.cfg.limits.RetryAbove
	for range flood {
		wg.Go(func() {
			tr.Dial(t.Context(), e.Addr(), e.dialTLS(e.Addr(), e.Key()), &quicgo.Config{HandshakeIdleTimeout: time.Second})
		})
	}
	deadline := time.Now().Add(10 * time.Second)
	for e.arrivals.unfinished() <= retryAbove && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if n := e.arrivals.unfinished(); n <= retryAbove {
		t.Fatalf("%d unfinished handshakes: the flood did not come", n)
	}
	// From here on an address has to be proved. An honest dialler does.
	other := endpoint(t)
	if _, err := other.Dial(t.Context(), e.Addr().String(), e.Key()); err != nil {
		t.Fatalf("Dial in the flood: %v", err)
	}
	if n := e.arrivals.unfinished(); n > retryAbove+2 {
		t.Errorf("%d handshakes are unfinished, want no more than %d", n, retryAbove+2)
	}
}

func TestNobodyAccepts(t *testing.T) {
	inNet(t, 10*time.Millisecond, func(t *testing.T, n *simnet.Network) {
		e := endpointOn(t, n, 0, Config{})
		defer e.Close()
		var all []*Endpoint
		defer func() {
			for _, a := range all {
				a.Close()
			}
		}()
		dial := func(cfg Config) error {
			a := endpointOn(t, n, 1+len(all), cfg)
			all = append(all, a)
			_, err := a.Dial(t.Context(), e.Addr().String(), e.Key())
			return err
		}
		for i := range maxBacklog {
			if err := dial(Config{}); err != nil {
				t.Fatalf("Dial %d: %v", i, err)
			}
		}
		err := dial(Config{HandshakeTimeout: 300 * time.Millisecond}) // asks again for so long
		if r, ok := errors.AsType[*transport.RemoteError](err); !ok || r.Code != transport.CodeLimit {
			t.Fatalf("Dial beyond the backlog: %v, want CodeLimit", err)
		}
		// A Conn that ends leaves the queue, so does one that is accepted.
		gone, err := e.connected(all[0].Key())
		if err != nil {
			t.Fatal(err)
		}
		all[0].Close()
		<-gone.Context().Done()
		if err := dial(Config{}); err != nil {
			t.Errorf("Dial after a Conn has ended: %v", err)
		}
		if _, err := e.Accept(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := dial(Config{}); err != nil {
			t.Errorf("Dial after Accept: %v", err)
		}
	})
}
