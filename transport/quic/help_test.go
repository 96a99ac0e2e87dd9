package quic_test

import (
	"crypto/ed25519"
	"net"
	"testing"

	"ckt.local/transport/quic"
)

// everybody is the authorisation of tests that are not about it.
func everybody(ed25519.PublicKey, net.Addr) error { return nil }

// listen makes an endpoint on loopback, with the defaults of tests.
func listen(t testing.TB, cfg quic.Config) *quic.Endpoint {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Conn = pc
	if cfg.Key == nil {
		cfg.Key = generate(t)
	}
	if cfg.Authorize == nil {
		cfg.Authorize = everybody
	}
	e, err := quic.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}
