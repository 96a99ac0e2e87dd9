package attacktest

import (
	"context"
	"crypto/tls"
	"io"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"
	"github.com/tinylib/msgp/msgp"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// secrets is what the attackers know of the honest pair, because the pair has
// visited one of them, or because the test tells: all but its key.
type secrets struct {
	hello   []byte // the frame
	seed    id     // of its peer
	circuit id     // of its circuit to the victim
}

func certificateOf(t testing.TB, k *identity.Key) tls.Certificate {
	t.Helper()
	c, err := identity.Certificate(k)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// learn has the pair visit a node of the attacker's, once.
func (a *arena) learn(t *testing.T) *secrets {
	t.Helper()
	if a.secrets != nil {
		return a.secrets
	}
	host := newMallory(t, a.target, anyKey(t), 7, 1)
	conf := host.tls()
	conf.ClientAuth = tls.RequireAnyClientCert
	ln, err := host.next().Listen(conf, &quicgo.Config{MaxIncomingStreams: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan *secrets, 1)
	go func() { got <- overhear(ln) }()
	url := peer.URL{Node: host.key.ID(), Addr: ln.Addr().String(), Service: "anything"}
	a.pair.must(t, order{Do: "visit", URL: url.String()})
	s := <-got
	if s == nil {
		t.Fatal("the pair has not come to the attacker's node")
	}
	w := a.quiet(t)
	if s.circuit, err = circuit.ParseID(w.Circuit); err != nil {
		t.Fatal(err)
	}
	if p := s.seed.Peer(a.honest.ID()).String(); p != w.Peer {
		t.Fatalf("what was overheard belongs to peer %s, not to %s", p, w.Peer)
	}
	a.secrets = s
	return s
}

// overhear is a node that lets one other in and refuses its circuit.
func overhear(ln *quicgo.Listener) *secrets {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	qc, err := ln.Accept(ctx)
	if err != nil {
		return nil
	}
	defer qc.CloseWithError(1, "")
	first, err := qc.AcceptStream(ctx)
	if err != nil {
		return nil
	}
	typ, body, err := transport.ReadFrame(first, 1<<10)
	if err != nil || typ != frameHello {
		return nil
	}
	s := &secrets{hello: frameOf(typ, body)}
	first.Write(welcome())
	first.Close()
	first.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, first); err != nil { // it has taken the welcome: now there may be other streams
		return nil
	}
	control, err := openStream(qc)
	if err != nil {
		return nil
	}
	control.Write(append(settings(1<<20, 1<<20, 0), resumed(false)...))
	for {
		st, err := qc.AcceptStream(ctx)
		if err != nil {
			return nil
		}
		st.SetReadDeadline(time.Now().Add(patience))
		typ, body, err := transport.ReadFrame(st, 8<<10)
		if err != nil || typ != frameOpen {
			continue // the pair's control stream
		}
		rest := body[1:]
		for range 5 {
			if rest, err = msgp.Skip(rest); err != nil {
				return nil
			}
		}
		b, _, err := msgp.ReadBytesZC(rest)
		if err != nil || len(b) != len(s.seed) {
			return nil
		}
		s.seed = id(b)
		st.Write(refuse(2))
		st.Close()
		return s
	}
}
