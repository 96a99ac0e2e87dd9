package attacktest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"
)

// selfSigned makes a certificate of any kind of key.
func selfSigned(t *testing.T, key crypto.Signer, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ckt"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func oldDates(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Unix(0, 0), time.Unix(1, 0)
}

func fat(n int) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, n)}}
	}
}

// badCertificates are all that a handshake must not survive.
func badCertificates(t *testing.T, a *arena) map[string]*tls.Config {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ours := a.mallory.cert
	conf := func(c ...tls.Certificate) *tls.Config {
		conf := a.mallory.tls()
		conf.Certificates = c
		return conf
	}
	two := ours
	two.Certificate = append(two.Certificate[:1:1], certificateOf(t, a.second.key).Certificate...)
	others := ours // the honest pair's, which the attacker has seen, with its own key
	others.Certificate = certificateOf(t, a.honest).Certificate
	hundred := ours
	for range 100 {
		hundred.Certificate = append(hundred.Certificate[:len(hundred.Certificate):len(hundred.Certificate)], ours.Certificate[0])
	}
	all := map[string]*tls.Config{
		"no certificate": conf(), "RSA": conf(selfSigned(t, rsaKey, nil)), "ECDSA": conf(selfSigned(t, ecKey, nil)),
		"two": conf(two), "a hundred": conf(hundred), "somebody else's": conf(others),
		"expired RSA":  conf(selfSigned(t, rsaKey, oldDates)),
		"huge, 8 KiB":  conf(selfSigned(t, a.mallory.key, fat(8<<10))),
		"huge, 60 KiB": conf(selfSigned(t, a.mallory.key, fat(60<<10))),
		"huge, 1 MiB":  conf(selfSigned(t, a.mallory.key, fat(1<<20))),
	}
	for name, protos := range map[string][]string{"ALPN ckt/2": {"ckt/2"}, "ALPN h3": {"h3"}, "no ALPN": nil} {
		c := conf(ours)
		c.NextProtos = protos
		all[name] = c
	}
	return all
}

func certificates() attack {
	var all map[string]*tls.Config
	return attack{"wrong ALPN; RSA, two, huge and stolen certificates", [2]int{13, 1300}, func(t *testing.T, a *arena) int {
		if all == nil {
			all = badCertificates(t, a)
		}
		for name, conf := range all {
			a.pace(paceConns)
			qc, err := a.mallory.dial(conf)
			if err == nil {
				if _, err = ended(qc); err == nil {
					t.Errorf("%s: the node has closed the connection with a code, want a TLS alert", name)
				}
			}
			te, ok := errors.AsType[*quicgo.TransportError](err)
			if !ok || !te.Remote || !te.ErrorCode.IsCryptoError() && te.ErrorCode != quicgo.CryptoBufferExceeded {
				t.Errorf("%s: %v, want a TLS alert of the node, or that it is too long", name, err)
				continue
			}
			a.reacted++
		}
		return len(all)
	}}
}

// expired shows certificates that have expired. Dates say nothing here: the
// key does.
func expired() attack {
	return attack{"expired certificates", [2]int{4, 400}, func(t *testing.T, a *arena) int {
		for _, m := range []*mallory{a.mallory, a.unknown} {
			a.pace(paceConns)
			m := m.as(selfSigned(t, m.key, oldDates))
			l, err := m.connect()
			switch {
			case err == nil && m.key != a.mallory.key:
				t.Error("a stranger was let in")
				l.close()
			case err == nil:
				l.close()
			case m.key == a.mallory.key:
				t.Errorf("an authorised key with an expired certificate: %v", err)
			default:
				if code, ok := codeOf(err); ok && code != 1 {
					t.Errorf("a stranger with an expired certificate: %v", err)
				}
			}
		}
		return 2
	}}
}

// early wants 0-RTT, as one may after a session ticket, which the node does
// not give.
func early() attack {
	return attack{"0-RTT attempts", [2]int{4, 400}, func(t *testing.T, a *arena) int {
		conf := a.mallory.tls()
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(10)
		conf.ServerName = "node"
		tokens := quicgo.NewLRUTokenStore(10, 10)
		for range 2 {
			a.pace(paceConns)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			qc, err := a.mallory.next().DialEarly(ctx, a.mallory.target, conf, &quicgo.Config{TokenStore: tokens})
			if err != nil {
				t.Fatal(err)
			}
			if s, err := openStream(qc); err == nil {
				say(s, greeting{nonce: 3, serial: 3}.frame(), false)
				a.waitEnd(s)
			}
			select {
			case <-qc.HandshakeComplete():
			case <-ctx.Done():
				t.Error("the handshake does not end")
			}
			if qc.ConnectionState().Used0RTT || qc.ConnectionState().TLS.DidResume {
				t.Error("0-RTT, or a session, was taken")
			}
			qc.CloseWithError(0, "")
			cancel()
		}
		if _, ok := conf.ClientSessionCache.Get("node"); ok {
			t.Error("the node has given a session ticket")
		}
		return 2
	}}
}
