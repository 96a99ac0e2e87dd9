package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"
)

// maxCert bounds the other side's certificate, in bytes. Ours have 300.
const maxCert = 2 << 10

// Certificate returns a new self-signed certificate for k, to stand alone in
// a [tls.Config]. Its dates say nothing: a node key is valid for as long as
// it is listed. extensions stand in it besides those of x509; [VerifyPeer]
// takes certificates of at most 2 KiB.
func Certificate(k *Key, extensions ...pkix.Extension) (tls.Certificate, error) {
	template := &x509.Certificate{
		// No serial number: x509 draws a random one.
		Subject:               pkix.Name{CommonName: "ckt"}, // an issuer must not be empty (RFC 5280, 4.1.2.4)
		NotBefore:             time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		ExtraExtensions:       extensions,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("identity: certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("identity: certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k, Leaf: leaf}, nil
}

// VerifyPeer returns the key that the other side of a TLS connection has
// proved to hold. It is meant for VerifyConnection of a [tls.Config] that
// leaves the checking to it: InsecureSkipVerify when dialling,
// [tls.RequireAnyClientCert] when listening, [tls.VersionTLS13] at least.
// Whether the key is allowed is for the caller to ask.
//
// It wants TLS 1.3, a full handshake, and exactly one self-signed
// certificate of an ed25519 key; anything else is a [PeerError]. Names,
// dates and extensions in the certificate are not looked at.
func VerifyPeer(cs tls.ConnectionState) (ed25519.PublicKey, error) {
	if cs.Version != tls.VersionTLS13 {
		return nil, &PeerError{Reason: "came with " + tls.VersionName(cs.Version) + ", not TLS 1.3"}
	}
	if cs.DidResume {
		return nil, &PeerError{Reason: "resumed from an old session, not shown anew"}
	}
	if n := len(cs.PeerCertificates); n != 1 {
		return nil, &PeerError{Reason: fmt.Sprintf("%d certificates, not one", n)}
	}
	cert := cs.PeerCertificates[0]
	if n := len(cert.Raw); n > maxCert {
		return nil, &PeerError{Reason: fmt.Sprintf("%d bytes, more than %d", n, maxCert)}
	}
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, &PeerError{Reason: "key type " + cert.PublicKeyAlgorithm.String() + ", not Ed25519"}
	}
	id := NodeIDOf(key)
	if id.IsZero() {
		return nil, &PeerError{Reason: "broken key"}
	}
	if cert.SignatureAlgorithm != x509.PureEd25519 || !ed25519.Verify(key, cert.RawTBSCertificate, cert.Signature) {
		return nil, &PeerError{Reason: "not signed by its own key"}
	}
	return id.Key(), nil
}
