package simnet_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"ckt.local/transport/simnet"
)

// quicBubble is bubble for quic-go, whose clock is negative in a bubble until
// 40 years have passed: it counts from the start of the process, and bubbles
// begin in 2000. With times below zero, its "never" lies in the future.
func quicBubble(t *testing.T, seed uint64, f func(t *testing.T, n *simnet.Network)) {
	t.Helper()
	bubble(t, seed, func(t *testing.T, n *simnet.Network) {
		time.Sleep(40 * 365 * 24 * time.Hour)
		f(t, n)
	})
}

// credentials makes the TLS configurations of a server and its client.
func credentials(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"bob"},
		NotBefore:    time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), // bubbles begin in 2000
		NotAfter:     time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	server = &tls.Config{
		NextProtos:   []string{"echo"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
	return server, &tls.Config{NextProtos: []string{"echo"}, RootCAs: roots, ServerName: "bob"}
}

var quicConfig = &quic.Config{
	HandshakeIdleTimeout: time.Minute,
	MaxIdleTimeout:       30 * time.Second,
	KeepAlivePeriod:      10 * time.Second,
}

// echo starts a server on the host that sends back what streams bring. It runs
// until its transport is closed.
func echo(t *testing.T, n *simnet.Network, addr netip.Addr, conf *tls.Config) *quic.Transport {
	t.Helper()
	tr := &quic.Transport{Conn: open(t, n, addr)}
	ln, err := tr.Listen(conf, quicConfig)
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	go func() { // synctest joins them
		for {
			conn, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				for {
					s, err := conn.AcceptStream(context.Background())
					if err != nil {
						return
					}
					go func() {
						defer s.Close()
						io.Copy(s, s) // the client sees what went wrong
					}()
				}
			}()
		}
	}()
	return tr
}

func dial(t *testing.T, tr *quic.Transport, to netip.Addr, conf *tls.Config) *quic.Conn {
	t.Helper()
	conn, err := tr.Dial(t.Context(), udp(to), conf, quicConfig)
	if err != nil {
		t.Fatalf("dialling: %v", err)
	}
	return conn
}

// bounce sends data through an echo stream and checks what comes back.
func bounce(t *testing.T, conn *quic.Conn, data []byte) {
	t.Helper()
	s, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatalf("opening a stream: %v", err)
	}
	written := make(chan error, 1)
	go func() {
		_, err := s.Write(data)
		written <- errors.Join(err, s.Close())
	}()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back of %d, or not the same: %v", len(got), len(data), err)
	}
	if err := <-written; err != nil {
		t.Errorf("writing: %v", err)
	}
}

func closeTransport(t *testing.T, tr *quic.Transport) {
	t.Helper()
	if err := errors.Join(tr.Close(), tr.Conn.Close()); err != nil {
		t.Errorf("closing a transport: %v", err)
	}
}

func TestQUICEcho(t *testing.T) {
	data := make([]byte, 1<<20)
	rand.Read(data)
	for name, link := range map[string]simnet.Link{
		"perfect": {},
		"clean":   {Latency: 20 * ms},
		"narrow":  {Latency: 20 * ms, Bandwidth: 1 << 20, Queue: 64 << 10},
		"bad":     {Latency: 20 * ms, Jitter: 20 * ms, Loss: 0.05, Duplicate: 0.05, Corrupt: 0.02},
		"awful":   {Latency: 20 * ms, Jitter: 40 * ms, Loss: 0.2, Duplicate: 0.1, Corrupt: 0.05, MTU: 1280},
	} {
		for _, hosts := range [][2]string{{"10.0.0.1", "10.0.0.2"}, {"fd00::1", "fd00::2"}} {
			t.Run(name+" "+hosts[0], func(t *testing.T) {
				quicBubble(t, 1, func(t *testing.T, n *simnet.Network) {
					n.SetDefault(link)
					client, server := netip.MustParseAddr(hosts[0]), netip.MustParseAddr(hosts[1])
					serverTLS, clientTLS := credentials(t)
					srv := echo(t, n, server, serverTLS)
					cli := &quic.Transport{Conn: open(t, n, client)}
					start := time.Now()
					conn := dial(t, cli, server, clientTLS)
					bounce(t, conn, data)
					t.Logf("1 MiB there and back in %v: %+v", time.Since(start), counters(n, client, server))
					conn.CloseWithError(0, "")
					closeTransport(t, cli)
					closeTransport(t, srv)
				})
			})
		}
	}
}

func TestQUICIdleWithKeepAlives(t *testing.T) {
	quicBubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 20 * ms})
		serverTLS, clientTLS := credentials(t)
		srv := echo(t, n, bob, serverTLS)
		cli := &quic.Transport{Conn: open(t, n, alice)}
		conn := dial(t, cli, bob, clientTLS)
		bounce(t, conn, []byte("before"))
		before := counters(n, alice, bob).Delivered

		time.Sleep(10 * time.Minute)
		if err := context.Cause(conn.Context()); err != nil {
			t.Errorf("the connection has ended: %v", err)
		}
		if got := counters(n, alice, bob).Delivered - before; got < 60 {
			t.Errorf("%d packets in ten minutes with keep-alives every ten seconds", got)
		}
		bounce(t, conn, []byte("after"))
		closeTransport(t, cli)
		closeTransport(t, srv)
	})
}

func TestQUICServerVanishesAndComesBack(t *testing.T) {
	quicBubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 20 * ms})
		serverTLS, clientTLS := credentials(t)
		srv := echo(t, n, bob, serverTLS)
		cli := &quic.Transport{Conn: open(t, n, alice)}
		conn := dial(t, cli, bob, clientTLS)
		bounce(t, conn, []byte("before"))

		n.Host(bob).Vanish()
		closeTransport(t, srv) // its farewells go nowhere
		gone := time.Now()
		<-conn.Context().Done()
		if _, ok := errors.AsType[*quic.IdleTimeoutError](context.Cause(conn.Context())); !ok {
			t.Errorf("the client ends with %v, want an idle timeout", context.Cause(conn.Context()))
		}
		if after := time.Since(gone); after < quicConfig.MaxIdleTimeout-time.Second {
			t.Errorf("the client has noticed after %v: somebody has told it", after)
		}

		srv = echo(t, n, bob, serverTLS)
		bounce(t, dial(t, cli, bob, clientTLS), []byte("after"))
		closeTransport(t, cli)
		closeTransport(t, srv)
	})
}

// Closing the network ends every goroutine of quic-go, of ghosts as well: a
// test that fails early leaves nothing behind.
func TestQUICEndsWithTheNetwork(t *testing.T) {
	quicBubble(t, 1, func(t *testing.T, n *simnet.Network) {
		n.SetDefault(simnet.Link{Latency: 20 * ms})
		serverTLS, clientTLS := credentials(t)
		echo(t, n, bob, serverTLS)
		echo(t, n, carol, serverTLS)
		cli := &quic.Transport{Conn: open(t, n, alice)}
		conn := dial(t, cli, bob, clientTLS)
		dial(t, cli, carol, clientTLS)
		n.Host(carol).Vanish()
		n.Close()
		synctest.Wait()
		if err := context.Cause(conn.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the connection ends with %v, want %v", err, net.ErrClosed)
		}
	})
}
