package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"strings"
	"time"
)

// Every contender that has no identities of its own gets a fresh ed25519
// certificate, which the client takes as its only authority. Keys are ed25519
// because those of ckt are.

// serverTLS returns a configuration, and the certificate for [withCert].
func serverTLS(protocols ...string) (*tls.Config, []byte, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
		NextProtos:   protocols,
	}, der, nil
}

// withCert makes one word of an address and the certificate to expect there.
func withCert(addr net.Addr, der []byte) string {
	return addr.String() + " " + base64.StdEncoding.EncodeToString(der)
}

// clientTLS takes that word apart.
func clientTLS(word string, protocols ...string) (addr string, cfg *tls.Config, err error) {
	addr, text, ok := strings.Cut(word, " ")
	if !ok {
		return "", nil, errors.New("no certificate after the address")
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "", nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return addr, &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    roots,
		ServerName: "127.0.0.1",
		NextProtos: protocols,
	}, nil
}
