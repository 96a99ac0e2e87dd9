package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// A liar signs with the one key it has, whichever it is asked for.
type liar struct{ agent.Agent }

func (l liar) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	keys, err := l.List()
	if err != nil {
		return nil, err
	}
	return l.Agent.Sign(keys[0], data)
}

func certOf(t testing.TB, k *Key) tls.Certificate {
	t.Helper()
	c, err := Certificate(k)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// An outcome is what one side of a handshake learned.
type outcome struct {
	saw NodeID
	err error
}

// handshake joins two sides that each show a certificate and verify the
// other's.
func handshake(t testing.TB, clientCert, serverCert tls.Certificate) (client, server outcome) {
	t.Helper()
	a, b := socketPair(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer a.Close()
		c := tls.Client(a, tlsConfig(clientCert, &client.saw))
		if client.err = c.Handshake(); client.err == nil {
			// Until here the client does not know what the server makes of it.
			_, client.err = c.Read(make([]byte, 1))
		}
	})
	wg.Go(func() {
		defer b.Close()
		s := tls.Server(b, tlsConfig(serverCert, &server.saw))
		if server.err = s.Handshake(); server.err == nil {
			_, server.err = s.Write([]byte{1})
		}
	})
	wg.Wait()
	return client, server
}

// socketPair returns two ends that buffer, unlike those of net.Pipe: there, a
// side that writes an alert while the other one still writes waits for ever.
func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func tlsConfig(cert tls.Certificate, saw *NodeID) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{cert},
		MinVersion:             tls.VersionTLS13,
		InsecureSkipVerify:     true,
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			key, err := VerifyPeer(cs)
			if err == nil {
				*saw = NodeIDOf(key)
			}
			return err
		},
	}
}

func TestHandshakeProvesBothKeys(t *testing.T) {
	one, two := testKey(t, 1), testKey(t, 2)
	client, server := handshake(t, certOf(t, one), certOf(t, two))
	if client.err != nil || server.err != nil {
		t.Fatalf("client %v, server %v", client.err, server.err)
	}
	if client.saw != two.ID() || server.saw != one.ID() {
		t.Errorf("client saw %v, server saw %v", client.saw, server.saw)
	}
}

func TestHandshakeRefusesOtherCertificates(t *testing.T) {
	good := certOf(t, testKey(t, 1))
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	hostile := certOf(t, testKey(t, 2))
	hostile.Certificate = append(hostile.Certificate, good.Certificate...)
	for name, bad := range map[string]tls.Certificate{
		"ECDSA key":        makeCert(t, template(), ec.Public(), ec, ec),
		"two certificates": hostile,
	} {
		if client, _ := handshake(t, good, bad); !isType[*PeerError](client.err) {
			t.Errorf("%s: the client says %v", name, client.err)
		}
		if _, server := handshake(t, bad, good); !isType[*PeerError](server.err) {
			t.Errorf("%s: the server says %v", name, server.err)
		}
	}
	// Somebody else's certificate is of no use without the key.
	stolen := certOf(t, testKey(t, 1))
	stolen.PrivateKey = testKey(t, 2)
	if client, server := handshake(t, good, stolen); client.err == nil || server.err == nil {
		t.Error("a certificate was taken without proof of its key")
	}
}

func TestCertificate(t *testing.T) {
	k := testKey(t, 1)
	a, b := certOf(t, k), certOf(t, k)
	if len(a.Certificate) != 1 || len(a.Certificate[0]) > 400 {
		t.Errorf("%d certificates, the first of %d bytes", len(a.Certificate), len(a.Certificate[0]))
	}
	if a.Leaf.SerialNumber.Cmp(b.Leaf.SerialNumber) == 0 {
		t.Error("two certificates have one serial number")
	}
	for _, year := range []int{1999, 2000, 2026, 2099} {
		now := time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC)
		if now.Before(a.Leaf.NotBefore) || now.After(a.Leaf.NotAfter) {
			t.Errorf("not valid in %d", year)
		}
	}
}

func TestCertificateWithExtension(t *testing.T) {
	k := testKey(t, 1)
	ext := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte("\x04\x02hi")}
	c, err := Certificate(k, ext)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range c.Leaf.Extensions {
		found = found || e.Id.Equal(ext.Id) && string(e.Value) == string(ext.Value) && !e.Critical
	}
	if !found {
		t.Errorf("extensions %v", c.Leaf.Extensions)
	}
	client, server := handshake(t, c, certOf(t, testKey(t, 2)))
	if client.err != nil || server.err != nil || server.saw != k.ID() {
		t.Errorf("client %v, server %v", client.err, server.err)
	}
}

func template() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "x"},
		NotBefore:    time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2002, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

// makeCert returns a certificate for pub that signer has signed, with key to
// use it.
func makeCert(t testing.TB, tmpl *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer, key crypto.PrivateKey) tls.Certificate {
	t.Helper()
	parent := *tmpl
	parent.PublicKey = signer.Public()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, &parent, pub, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestVerifyPeer(t *testing.T) {
	k, other := testKey(t, 1), testKey(t, 2)
	rsaKey := mustRSA(t)
	leaf := certOf(t, k).Leaf
	state := func(certs ...*x509.Certificate) tls.ConnectionState {
		return tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: certs}
	}
	// Dates are not the point of a pinned key.
	key, err := VerifyPeer(state(makeCert(t, template(), k.Public(), k, k).Leaf))
	if err != nil || NodeIDOf(key) != k.ID() {
		t.Fatalf("an expired certificate: %v, %v", key, err)
	}
	// The result is the caller's to keep and change.
	clear(key)
	if again, err := VerifyPeer(state(makeCert(t, template(), k.Public(), k, k).Leaf)); err != nil || NodeIDOf(again) != k.ID() {
		t.Errorf("again: %v, %v", again, err)
	}

	flipped := *leaf
	flipped.Signature = append([]byte{leaf.Signature[0] ^ 1}, leaf.Signature[1:]...)
	huge := template()
	huge.ExtraExtensions = []pkix.Extension{{
		Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: []byte(strings.Repeat("x", maxCert)),
	}}
	zero := *leaf
	zero.PublicKey = make(ed25519.PublicKey, ed25519.PublicKeySize)
	short := *leaf
	short.PublicKey = ed25519.PublicKey("short")

	old := state(leaf)
	old.Version = tls.VersionTLS12
	resumed := state(leaf)
	resumed.DidResume = true
	for name, cs := range map[string]tls.ConnectionState{
		"TLS 1.2":          old,
		"resumed":          resumed,
		"no certificate":   state(),
		"two certificates": state(leaf, leaf),
		"RSA":              state(makeCert(t, template(), rsaKey.Public(), rsaKey, rsaKey).Leaf),
		"RSA signature":    state(makeCert(t, template(), k.Public(), rsaKey, k).Leaf),
		"another's":        state(makeCert(t, template(), k.Public(), other, k).Leaf),
		"flipped bit":      state(&flipped),
		"huge":             state(makeCert(t, huge, k.Public(), k, k).Leaf),
		"zero key":         state(&zero),
		"short key":        state(&short),
	} {
		if key, err := VerifyPeer(cs); !isType[*PeerError](err) || key != nil {
			t.Errorf("%s: %v, %v", name, key, err)
		}
	}
}
