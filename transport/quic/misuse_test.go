package quic_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"log/slog"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/quic"
	"ckt.local/transport/simnet"
)

// goodHello is one of boot nonce 1 and serial 1.
const goodHello = "\x08\x01\x96\x00\x00\x01\x01\x00\x90"

// dated makes a certificate of a node key with these dates, and something in it
// that has so many bytes.
func dated(t *testing.T, from, until time.Time, padding int) tls.Certificate {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: until,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: make([]byte, padding)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// rawHello sends bytes as the first ones of a connection's first stream.
func rawHello(t *testing.T, qc *quicgo.Conn, bytes string) *quicgo.Stream {
	t.Helper()
	s, err := qc.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte(bytes)); err != nil {
		t.Fatal(err)
	}
	return s
}

// rawAnswer reads the answer to a hello.
func rawAnswer(t *testing.T, s *quicgo.Stream) transport.FrameType {
	t.Helper()
	s.SetReadDeadline(time.Now().Add(20 * time.Second))
	typ, _, err := transport.ReadFrame(s, 1<<10)
	if err != nil {
		t.Fatalf("no answer to hello: %v", err)
	}
	return typ
}

const welcomed, refused transport.FrameType = 2, 3

func TestDatesOfACertificateSayNothing(t *testing.T) {
	// A key is good for as long as it is listed.
	e := listen(t, quic.Config{})
	now := time.Now()
	for name, cert := range map[string]tls.Certificate{
		"expired": dated(t, now.Add(-48*time.Hour), now.Add(-24*time.Hour), 0),
		"not yet": dated(t, now.Add(24*time.Hour), now.Add(48*time.Hour), 0),
	} {
		qc, err := rawDial(t, e, rawTLS(cert))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if typ := rawAnswer(t, rawHello(t, qc, goodHello)); typ != welcomed {
			t.Errorf("%s: the answer is %d, want a welcome", name, typ)
		}
	}
}

func TestHugeCertificates(t *testing.T) {
	e := listen(t, quic.Config{})
	now := time.Now()
	chain := certificate(t)
	for range 200 {
		chain.Certificate = append(chain.Certificate, chain.Certificate[0]) // 64 KiB
	}
	for name, cert := range map[string]tls.Certificate{
		"over the bound": dated(t, now, now.Add(time.Hour), 2<<10),
		"60 KiB":         dated(t, now, now.Add(time.Hour), 60<<10),
		"a long chain":   chain,
	} {
		qc, err := rawDial(t, e, rawTLS(cert))
		if err == nil {
			err = rawEnd(t, qc)
		}
		// quic-go bounds what a handshake may send, TLS what a message may have.
		if te, ok := errors.AsType[*quicgo.TransportError](err); !ok || !te.Remote {
			t.Errorf("%s: %v, want that the endpoint breaks the handshake off", name, err)
		}
	}
	honest(t, e)
}

func TestNoEarlyData(t *testing.T) {
	// A client that remembers sessions gets none to remember: it shows its
	// certificate again each time, and nothing is read before.
	e := listen(t, quic.Config{})
	conf := rawTLS(certificate(t))
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	conf.ServerName = "ckt"
	tr := rawTransport(t)
	for range 3 {
		qc, err := tr.DialEarly(seconds(t, 20), e.Addr(), conf, &quicgo.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s := rawHello(t, qc, goodHello)
		if rawAnswer(t, s) == 0 {
			t.Error("no answer")
		}
		if st := qc.ConnectionState(); st.Used0RTT || st.TLS.DidResume {
			t.Errorf("early data %v, resumed %v", st.Used0RTT, st.TLS.DidResume)
		}
		qc.CloseWithError(0, "")
	}
}

func TestReplayedHello(t *testing.T) {
	// The same bytes on another connection: of the same key they name the Conn
	// that there is, of another key another node. The Conn does not notice.
	e := listen(t, quic.Config{})
	mine := certificate(t)
	qc, err := rawDial(t, e, rawTLS(mine))
	if err != nil {
		t.Fatal(err)
	}
	s := rawHello(t, qc, goodHello)
	if typ := rawAnswer(t, s); typ != welcomed {
		t.Fatalf("the answer is %d, want a welcome", typ)
	}
	s.Close()
	c, err := e.Accept(seconds(t, 20))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		cert tls.Certificate
		want transport.FrameType
	}{{"the same key", mine, refused}, {"another key", certificate(t), welcomed}} {
		other, err := rawDial(t, e, rawTLS(test.cert))
		if err != nil {
			t.Fatal(err)
		}
		if typ := rawAnswer(t, rawHello(t, other, goodHello)); typ != test.want {
			t.Errorf("%s: the answer is %d, want %d", test.name, typ, test.want)
		}
	}
	wantAlive(t, c)
}

func TestHostileHelloBytes(t *testing.T) {
	e := listen(t, quic.Config{HandshakeTimeout: 20 * time.Second}) // none of these is to run into it
	tests := map[string]string{
		"hello twice":                goodHello + goodHello,
		"an open before hello":       "\x03\x12\x91\x00" + goodHello,
		"settings before hello":      "\x02\x10\x90" + goodHello,
		"an optional frame before":   "\x02\x80\x90" + goodHello,
		"a refusal":                  "\x02\x03\x90",
		"a length of 2³¹":            "\x80\x80\x80\x80\x08\x01",
		"a length of 2⁶⁴−1":          "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01",
		"a tuple of 2³²−1":           "\x06\x01\xdd\xff\xff\xff\xff",
		"2³²−1 proofs":               "\x0c\x01\x96\x00\x00\x01\x01\x00\xdd\xff\xff\xff\xff",
		"a proof of 2³²−1 bytes":     "\x0d\x01\x96\x00\x00\x01\x01\x00\x91\xc6\xff\xff\xff\xff",
		"a boot nonce of minus one":  "\x08\x01\x96\x00\x00\xff\x01\x00\x90",
		"the hello of an older ckt":  "\x07\x01\x95\x00\x00\x01\x01\x00",
		"the end instead of a hello": "",
	}
	for n := range len(goodHello) - 1 {
		tests[strings.Repeat("i", n+1)+"th byte is the last"] = goodHello[:n+1]
	}
	for name, bytes := range tests {
		qc, err := rawDial(t, e, rawTLS(certificate(t)))
		if err != nil {
			t.Fatal(err)
		}
		rawHello(t, qc, bytes).Close()
		app, ok := errors.AsType[*quicgo.ApplicationError](rawEnd(t, qc))
		if !ok || !app.Remote || transport.Code(app.ErrorCode) != transport.CodeProtocol {
			t.Errorf("%s: %v, want CodeProtocol of the endpoint", name, app)
		}
	}
	honest(t, e)
}

// simRaw makes a raw client on a host of the simulated network.
func simRaw(t *testing.T, n *simnet.Network, at netip.Addr) *quicgo.Transport {
	t.Helper()
	pc, err := n.Host(at).Listen(simPort)
	if err != nil {
		t.Fatal(err)
	}
	return &quicgo.Transport{Conn: pc}
}

func TestSlowHello(t *testing.T) {
	// A byte of hello each minute, and nothing at all: whoever does that has
	// 5 s, and what he had is free again.
	for name, bytes := range map[string]string{"slow": goodHello, "silent": ""} {
		inSim(t, simnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
			e := simListen(t, n, bob, generate(t))
			tr := simRaw(t, n, alice)
			qc, err := tr.Dial(t.Context(), e.Addr(), rawTLS(certificate(t)), &quicgo.Config{KeepAlivePeriod: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			var wg sync.WaitGroup
			wg.Go(func() {
				s, err := qc.OpenStream()
				for i := 0; i < len(bytes) && err == nil; i++ {
					if _, err = s.Write([]byte(bytes[i : i+1])); err == nil {
						time.Sleep(time.Minute)
					}
				}
			})
			<-qc.Context().Done()
			app, ok := errors.AsType[*quicgo.ApplicationError](context.Cause(qc.Context()))
			if took := time.Since(began); !ok || transport.Code(app.ErrorCode) != transport.CodeLimit || took > 6*time.Second {
				t.Errorf("%s: %v after %v, want CodeLimit after 5s", name, app, took)
			}
			wg.Wait()
			if left := e.Unopened(); left > 0 {
				t.Errorf("%s: %d connections are still being opened", name, left)
			}
			tr.Close()
			tr.Conn.Close()
			e.Close()
		})
	}
}

func TestResetAfterHello(t *testing.T) {
	// A welcome that is not taken holds no place.
	ledger := limit.NewLedger(limit.Limits{})
	e := listen(t, quic.Config{Ledger: ledger})
	for name, end := range map[string]func(*quicgo.Conn, *quicgo.Stream){
		"both directions":   func(_ *quicgo.Conn, s *quicgo.Stream) { s.CancelRead(1); s.CancelWrite(1) },
		"the dialler's":     func(_ *quicgo.Conn, s *quicgo.Stream) { s.CancelWrite(1) },
		"hung up":           func(qc *quicgo.Conn, _ *quicgo.Stream) { qc.CloseWithError(7, "bye") },
		"bytes after it":    func(_ *quicgo.Conn, s *quicgo.Stream) { s.Write([]byte("more")) },
		"taken and hung up": func(qc *quicgo.Conn, s *quicgo.Stream) { s.Close(); qc.CloseWithError(0, "") },
	} {
		qc, err := rawDial(t, e, rawTLS(certificate(t)))
		if err != nil {
			t.Fatal(err)
		}
		s := rawHello(t, qc, goodHello)
		if typ := rawAnswer(t, s); typ != welcomed {
			t.Fatalf("%s: the answer is %d, want a welcome", name, typ)
		}
		end(qc, s)
		rawEnd(t, qc)
	}
	for ctx := seconds(t, 20); ledger.Uses()[limit.Conns].Used > 0 || e.Unopened() > 0; {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%d places stay booked", ledger.Uses()[limit.Conns].Used)
		}
	}
	honest(t, e)
}

// A counter counts the lines that are logged aloud, by what they say.
type counter struct {
	slog.Handler
	mu    sync.Mutex
	lines map[string]int
}

func (c *counter) Handle(_ context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "why" && r.Level >= slog.LevelInfo {
			c.lines[a.Value.String()]++
		}
		return true
	})
	return nil
}

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }

func TestRefusalsAreLoggedOnce(t *testing.T) {
	inSim(t, simnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
		friend, stranger := generate(t), generate(t)
		log := &counter{Handler: slog.DiscardHandler, lines: make(map[string]int)}
		e := simListenOn(t, n.Host(bob), quic.Config{
			Key: generate(t), Logger: slog.New(log), PreSharedKeys: [][]byte{psk(1)}, Authorize: only(friend),
		})
		dial := func(k *identity.Key) error {
			a := simListen(t, n, alice, k)
			defer a.Close()
			_, err := a.Dial(t.Context(), simAddr(bob), e.Key())
			return err
		}
		many := func() {
			for range 20 {
				for _, k := range []*identity.Key{friend, stranger} {
					if err := dial(k); err == nil {
						t.Error("Dial was not refused")
					}
				}
			}
		}
		many()
		want := func(times int) {
			t.Helper()
			log.mu.Lock()
			defer log.mu.Unlock()
			if len(log.lines) != 2 {
				t.Errorf("logged %v, want two kinds", log.lines)
			}
			for line, n := range log.lines {
				if n != times {
					t.Errorf("%q has been logged %d times, want %d", line, n, times)
				}
			}
		}
		want(1)
		time.Sleep(time.Minute)
		many()
		want(2)
		// And with a fresh key each time, there is an end of it.
		for range 400 {
			if dial(generate(t)) == nil {
				t.Error("Dial was not refused")
			}
		}
		log.mu.Lock()
		if total := log.lines["refused: this key is not authorised"]; total < 100 || total > 256*2 {
			t.Errorf("%d lines about strangers, want some hundreds", total)
		}
		log.mu.Unlock()
		e.Close()
	})
}
