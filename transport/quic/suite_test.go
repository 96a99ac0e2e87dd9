package quic_test

import (
	"testing"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/quic"
	"ckt.local/transport/transporttest"
)

func TestSuite(t *testing.T) { transporttest.Run(t, loopback) }

// loopback makes an endpoint on a real UDP socket.
func loopback(t *testing.T, s transporttest.Spec) transport.Endpoint {
	t.Helper()
	return listen(t, quic.Config{
		Key:              keyOf(t, s),
		Authorize:        s.Authorize,
		Ledger:           limit.NewLedger(limit.Limits{Transport: limit.Transport{Streams: int(s.MaxStreams)}}),
		HandshakeTimeout: s.HandshakeTimeout,
	})
}

func keyOf(t *testing.T, s transporttest.Spec) *identity.Key {
	t.Helper()
	if s.Key == nil {
		return generate(t)
	}
	k, err := identity.NewKey(s.Key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func generate(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}
