package quic_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/quic"
	"ckt.local/transport/simnet"
)

func psk(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func TestPreSharedKeys(t *testing.T) {
	old, fresh, other := psk(1), psk(2), bytes.Repeat([]byte{3}, 64)
	const (
		diallerLacks  = "node that dials has no pre-shared key"
		acceptorLacks = "node that answers has no pre-shared key"
		different     = "different pre-shared keys"
	)
	inSim(t, simnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
		for _, test := range []struct {
			name           string
			dialler, other [][]byte
			want           string // empty: they connect
		}{
			{"neither", nil, nil, ""},
			{"only the dialler", [][]byte{old}, nil, acceptorLacks},
			{"only the dialler, two", [][]byte{old, fresh}, nil, acceptorLacks},
			{"only the other", nil, [][]byte{old}, diallerLacks},
			{"only the other, two", nil, [][]byte{old, fresh}, diallerLacks},
			{"the same", [][]byte{old}, [][]byte{old}, ""},
			{"different ones", [][]byte{old}, [][]byte{other}, different},
			{"the dialler has both", [][]byte{old, fresh}, [][]byte{old}, ""},
			{"the dialler has both, the other the new one", [][]byte{old, fresh}, [][]byte{fresh}, ""},
			{"the other has both", [][]byte{old}, [][]byte{old, fresh}, ""},
			{"the other has both, the dialler the new one", [][]byte{fresh}, [][]byte{old, fresh}, ""},
			{"both have both", [][]byte{old, fresh}, [][]byte{fresh, old}, ""},
			{"one in common", [][]byte{old, fresh}, [][]byte{fresh, other}, ""},
			{"two, none in common", [][]byte{old, fresh}, [][]byte{other}, different},
			{"two on both sides, none in common", [][]byte{old, fresh}, [][]byte{other, psk(4)}, different},
		} {
			a := simListenOn(t, n.Host(alice), quic.Config{Key: generate(t), PreSharedKeys: test.dialler})
			b := simListenOn(t, n.Host(bob), quic.Config{Key: generate(t), PreSharedKeys: test.other})
			c, err := a.Dial(t.Context(), simAddr(bob), b.Key())
			if test.want == "" {
				if err != nil {
					t.Errorf("%s: %v", test.name, err)
				} else if again, err := a.Redial(t.Context(), simAddr(bob), b.Key()); err != nil || again != c {
					t.Errorf("%s: Redial: %v", test.name, err)
				}
			} else if r, ok := errors.AsType[*transport.RemoteError](err); !ok || r.Code != transport.CodePSK || !strings.Contains(r.Reason, test.want) {
				t.Errorf("%s: %v, want CodePSK and %q", test.name, err, test.want)
			} else if !strings.Contains(r.Reason, "give the same") {
				t.Errorf("%s: %v does not say what to do", test.name, err)
			}
			a.Close()
			b.Close()
		}
	})
}

func TestPreSharedKeyInARedial(t *testing.T) {
	// A Conn that the other side has lost is replaced, with proofs again.
	inSim(t, simnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
		a := simListenOn(t, n.Host(alice), quic.Config{Key: generate(t), PreSharedKeys: [][]byte{psk(1), psk(2)}})
		b := simListenOn(t, n.Host(bob), quic.Config{Key: generate(t), PreSharedKeys: [][]byte{psk(2)}})
		here, there := join(t, a, b)
		n.Partition(alice, bob)
		there.Close(transport.CodeLost, "")
		n.HealAll()
		c, err := a.Redial(t.Context(), simAddr(bob), b.Key())
		if err != nil || c == here {
			t.Errorf("Redial: %v, the same %v", err, c == here)
		}
		// The other one's dial, which meets a Conn that is there.
		if c, err := b.Redial(t.Context(), simAddr(alice), a.Key()); err != nil || c.Context().Err() != nil {
			t.Errorf("Redial from the other side: %v", err)
		}
		a.Close()
		b.Close()
	})
}

func TestPreSharedKeyIsNoNewsForStrangers(t *testing.T) {
	// Who is not authorised hears the same whether or not a key is asked for.
	e := listen(t, quic.Config{
		Authorize:     func(ed25519.PublicKey, net.Addr) error { return errors.New("unknown") },
		PreSharedKeys: [][]byte{psk(1)},
	})
	for _, keys := range [][][]byte{nil, {psk(1)}, {psk(2)}} {
		a := listen(t, quic.Config{PreSharedKeys: keys})
		_, err := a.Dial(seconds(t, 20), e.Addr().String(), e.Key())
		r, ok := errors.AsType[*transport.RemoteError](err)
		if !ok || r.Code != transport.CodeRefused || r.Reason != "this key is not authorised" {
			t.Errorf("a stranger with %d keys: %v, want CodeRefused", len(keys), err)
		}
	}
}

func TestPreSharedKeyConfig(t *testing.T) {
	for _, keys := range [][][]byte{{{}}, {make([]byte, 31)}, {make([]byte, 65)}, {psk(1), psk(2), psk(3)}} {
		pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if e, err := quic.Listen(quic.Config{Conn: pc, Key: generate(t), PreSharedKeys: keys}); err == nil {
			e.Close()
			t.Errorf("%d keys, the first of %d bytes, were taken", len(keys), len(keys[0]))
		}
	}
}

// wantNoProof checks that a dial has not taken a welcome.
func wantNoProof(t *testing.T, name string, err error) {
	t.Helper()
	u, ok := errors.AsType[*transport.UnauthorizedError](err)
	if !ok || !strings.Contains(err.Error(), "pre-shared key") || !strings.Contains(err.Error(), "give the same") || u.Key == nil {
		t.Errorf("%s: %v, want an UnauthorizedError that names the pre-shared key", name, err)
	}
}

// welcomeWith is a welcome of boot nonce 1 with that proof.
func welcomeWith(proof string) string {
	if proof == "" {
		return "\x08\x02\x95\x00\x00\x01\x00\xc4\x00"
	}
	return fmt.Sprintf("%c\x02\x95\x00\x00\x01\x00\xc4%c%s", 8+len(proof), len(proof), proof)
}

func TestWelcomeWithoutProof(t *testing.T) {
	// A listed node key that was stolen is not enough to be dialled.
	e := listen(t, quic.Config{PreSharedKeys: [][]byte{psk(1), psk(2)}})
	wrong := strings.Repeat("x", 32)
	for name, serve := range map[string]func(*quicgo.Conn){
		"no proof":    answer(welcomeWith("")),
		"wrong proof": answer(welcomeWith(wrong)),
		"the dialler's own": func(qc *quicgo.Conn) {
			s, err := qc.AcceptStream(context.Background())
			if err != nil {
				return
			}
			h := readAll(s, 80)
			s.Write([]byte(welcomeWith(string(h[len(h)-32:]))))
			s.Close()
		},
	} {
		addr := rawListen(t, rawTLS(certificate(t)), serve)
		_, err := e.Dial(seconds(t, 20), addr, nil)
		wantNoProof(t, name, err)
	}
	// And a proof that nobody has asked for is a fault.
	plain := listen(t, quic.Config{})
	addr := rawListen(t, rawTLS(certificate(t)), answer(welcomeWith(wrong)))
	if c, err := plain.Dial(seconds(t, 20), addr, nil); err == nil {
		t.Errorf("a welcome with a proof was taken without keys: %v", c.Info())
	}
}

// readAll reads until at least n bytes are there.
func readAll(s *quicgo.Stream, n int) (got []byte) {
	for b := make([]byte, 1<<10); len(got) < n; {
		m, err := s.Read(b)
		got = append(got, b[:m]...)
		if err != nil {
			break
		}
	}
	return got
}

func TestRelayedHello(t *testing.T) {
	// Somebody in the middle, who is authorised on both sides and does not
	// have the pre-shared key, passes the hello on: its proofs are for another
	// session. So are those that he has recorded.
	b := listen(t, quic.Config{PreSharedKeys: [][]byte{psk(1)}, Key: generate(t)})
	a := listen(t, quic.Config{PreSharedKeys: [][]byte{psk(1)}})
	middle := certificate(t)
	hellos := make(chan []byte, 1)
	addr := rawListen(t, rawTLS(middle), func(qc *quicgo.Conn) {
		s, err := qc.AcceptStream(context.Background())
		if err != nil {
			return
		}
		hello := readAll(s, 40)
		hellos <- hello
		s.Write(relay(t, b, middle, hello))
		s.Close()
	})
	_, err := a.Dial(seconds(t, 20), addr, nil)
	wantPSKRefusal(t, err)
	again := relay(t, b, middle, <-hellos)
	if !bytes.Contains(again, []byte("pre-shared key")) {
		t.Errorf("a recorded hello was answered with %q", again)
	}
	if _, err := a.Dial(seconds(t, 20), b.Addr().String(), b.Key()); err != nil {
		t.Errorf("Dial without anybody in the middle: %v", err)
	}
}

func wantPSKRefusal(t *testing.T, err error) {
	t.Helper()
	if r, ok := errors.AsType[*transport.RemoteError](err); !ok || r.Code != transport.CodePSK {
		t.Errorf("%v, want CodePSK", err)
	}
}

// relay says hello to e, and returns the answer.
func relay(t *testing.T, e *quic.Endpoint, cert tls.Certificate, hello []byte) []byte {
	qc, err := rawDial(t, e, rawTLS(cert))
	if err != nil {
		t.Error(err)
		return nil
	}
	s, err := qc.OpenStream()
	if err != nil {
		t.Error(err)
		return nil
	}
	s.Write(hello)
	typ, body, err := transport.ReadFrame(s, 1<<10)
	if err != nil {
		t.Error(err)
		return nil
	}
	return append(transport.AppendFrameHeader(nil, typ, len(body)), body...)
}
