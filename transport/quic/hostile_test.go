package quic_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/quic"
)

// certificate makes the certificate of a fresh node key.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := identity.Certificate(generate(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// otherCertificate makes a self-signed certificate of some other kind of key.
func otherCertificate(t *testing.T, kind string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	var c tls.Certificate
	var der []byte
	switch kind {
	case "rsa":
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err = x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
		if err != nil {
			t.Fatal(err)
		}
		c.PrivateKey = k
	case "ecdsa":
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err = x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
		if err != nil {
			t.Fatal(err)
		}
		c.PrivateKey = k
	}
	c.Certificate = [][]byte{der}
	return c
}

func twoCertificates(t *testing.T) tls.Certificate {
	c := certificate(t)
	c.Certificate = append(c.Certificate, certificate(t).Certificate...)
	return c
}

// rawTLS is what an honest dialler would use, for others to break.
func rawTLS(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"ckt/1"},
		Certificates:       certs,
		ClientAuth:         tls.RequireAnyClientCert,
	}
}

func rawTransport(t *testing.T) *quicgo.Transport {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	tr := &quicgo.Transport{Conn: pc}
	t.Cleanup(func() {
		tr.Close()
		pc.Close()
	})
	return tr
}

func seconds(t testing.TB, n int) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// rawDial returns the connection, or why there is none. A dialler's handshake
// may end well before the server has looked at its certificate.
func rawDial(t *testing.T, e *quic.Endpoint, conf *tls.Config) (*quicgo.Conn, error) {
	t.Helper()
	return rawTransport(t).Dial(seconds(t, 20), e.Addr(), conf, &quicgo.Config{})
}

// rawEnd waits for the end of a raw connection.
func rawEnd(t *testing.T, qc *quicgo.Conn) error {
	t.Helper()
	select {
	case <-qc.Context().Done():
		return context.Cause(qc.Context())
	case <-seconds(t, 20).Done():
		t.Fatal("the endpoint has not closed the connection")
		return nil
	}
}

// honest checks that e still serves somebody who behaves, and that nobody else
// is in the queue of Accept.
func honest(t *testing.T, e *quic.Endpoint) {
	t.Helper()
	a := listen(t, quic.Config{})
	if _, err := a.Dial(seconds(t, 20), e.Addr().String(), e.Key()); err != nil {
		t.Fatalf("Dial: %v", err)
	}
	c, err := e.Accept(seconds(t, 20))
	if err != nil || !c.Info().RemoteKey.Equal(a.Key()) {
		t.Fatalf("Accept returned somebody else, or an error: %v", err)
	}
}

func TestHostileCertificates(t *testing.T) {
	e := listen(t, quic.Config{})
	noALPN := rawTLS(certificate(t))
	noALPN.NextProtos = nil
	otherALPN := rawTLS(certificate(t))
	otherALPN.NextProtos = []string{"ckt/2"}
	for name, conf := range map[string]*tls.Config{
		"no certificate":   rawTLS(),
		"RSA":              rawTLS(otherCertificate(t, "rsa")),
		"ECDSA":            rawTLS(otherCertificate(t, "ecdsa")),
		"two certificates": rawTLS(twoCertificates(t)),
		"no ALPN":          noALPN,
		"another major":    otherALPN,
	} {
		t.Run(name, func(t *testing.T) {
			qc, err := rawDial(t, e, conf)
			if err == nil {
				err = rawEnd(t, qc)
			}
			te, ok := errors.AsType[*quicgo.TransportError](err)
			if !ok || !te.Remote || !te.ErrorCode.IsCryptoError() {
				t.Errorf("%v, want a TLS alert of the endpoint", err)
			}
		})
	}
	honest(t, e)
}

func TestHostileHello(t *testing.T) {
	e := listen(t, quic.Config{HandshakeTimeout: 20 * time.Second})
	// It has the time that a handshake takes on a busy machine, and no more.
	brief := listen(t, quic.Config{HandshakeTimeout: 3 * time.Second})
	for _, test := range []struct {
		name  string
		bytes string
		want  transport.Code
	}{
		{"garbage", "GET / HTTP/1.1\r\nHost: " + strings.Repeat("x", 100), transport.CodeProtocol},
		{"no tuple", "\x03\x01\xc0\xc0", transport.CodeProtocol},
		{"a length over the limit", "\xff\xff\xff\x7f\x01", transport.CodeProtocol},
		{"a length without end", "\xff\xff\xff\xff\xff\xff", transport.CodeProtocol},
		{"a length of nothing", "\x00", transport.CodeProtocol},
		{"a welcome", "\x05\x02\x93\x00\x00\x01", transport.CodeProtocol},
		{"bytes after hello", "\x08\x01\x96\x00\x00\x01\x01\x00\x90more", transport.CodeProtocol},
		{"serial 0", "\x08\x01\x96\x00\x00\x01\x00\x00\x90", transport.CodeProtocol},
		{"half a hello", "\x08\x01\x96", transport.CodeLimit},
		{"a welcome not taken", "\x08\x01\x96\x00\x00\x01\x01\x00\x90", transport.CodeLimit},
		{"never a hello", "", transport.CodeLimit},
	} {
		t.Run(test.name, func(t *testing.T) {
			at := e
			if test.want == transport.CodeLimit {
				at = brief
			}
			qc, err := rawDial(t, at, rawTLS(certificate(t)))
			if err != nil {
				t.Fatal(err)
			}
			if test.bytes != "" {
				s, err := qc.OpenStream()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Write([]byte(test.bytes)); err != nil {
					t.Fatal(err)
				}
			}
			app, ok := errors.AsType[*quicgo.ApplicationError](rawEnd(t, qc))
			if !ok || !app.Remote || transport.Code(app.ErrorCode) != test.want {
				t.Errorf("%v, want code %v of the endpoint", app, test.want)
			}
		})
	}
	honest(t, e)
	honest(t, brief)
}

func TestKeyExchange(t *testing.T) {
	e := listen(t, quic.Config{})
	qc, err := rawDial(t, e, rawTLS(certificate(t)))
	if err != nil {
		t.Fatal(err)
	}
	cs := qc.ConnectionState().TLS
	if cs.CurveID != tls.X25519MLKEM768 || cs.Version != tls.VersionTLS13 {
		t.Errorf("key exchange %v with TLS %x, want the post-quantum hybrid and TLS 1.3", cs.CurveID, cs.Version)
	}
}

func TestStrangersAreBounded(t *testing.T) {
	// Far more strangers than are told in words, none of which says a word:
	// all of them are turned away, and the one who is known gets in meanwhile.
	friend := generate(t)
	const busy = 30 * time.Second // what so many handshakes at once may take, at either side
	e := listen(t, quic.Config{HandshakeTimeout: busy, Authorize: func(key ed25519.PublicKey, _ net.Addr) error {
		if !key.Equal(friend.Public()) {
			return errors.New("unknown")
		}
		return nil
	}})
	const strangers = 60
	ends := make(chan error, strangers)
	conf, tr, ctx := rawTLS(certificate(t)), rawTransport(t), seconds(t, 60)
	var wg sync.WaitGroup
	for range strangers {
		wg.Go(func() {
			qc, err := tr.Dial(ctx, e.Addr(), conf, &quicgo.Config{HandshakeIdleTimeout: busy})
			if err == nil {
				<-qc.Context().Done()
				err = context.Cause(qc.Context())
			}
			ends <- err
		})
	}
	a := listen(t, quic.Config{Key: friend, HandshakeTimeout: busy})
	if _, err := a.Dial(ctx, e.Addr().String(), e.Key()); err != nil {
		t.Errorf("Dial of the friend: %v", err)
	}
	wg.Wait()
	close(ends)
	for err := range ends {
		app, ok := errors.AsType[*quicgo.ApplicationError](err)
		if ok && transport.Code(app.ErrorCode) == transport.CodeRefused {
			continue
		}
		// QUIC itself turns away whom the accept loop has not got to yet.
		if te, ok := errors.AsType[*quicgo.TransportError](err); !ok || te.ErrorCode != quicgo.ConnectionRefused {
			t.Errorf("a stranger's connection ended with %v", err)
		}
	}
}

// wantAlert checks that the endpoint has broken the handshake off.
func wantAlert(t *testing.T, name string, err error) {
	t.Helper()
	te, ok := errors.AsType[*quicgo.TransportError](err)
	if !ok || !te.Remote || !te.ErrorCode.IsCryptoError() {
		t.Errorf("%s: %v, want a TLS alert of the endpoint", name, err)
	}
}
