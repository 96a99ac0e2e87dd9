package quic_test

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/quic"
	"ckt.local/transport/simnet"
)

// The hosts of the simulated network, and the port on which they all listen.
var alice, bob = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")

const simPort = 7000

// inSim runs a test in a bubble, on a simulated network whose paths are link.
func inSim(t *testing.T, link simnet.Link, test func(t *testing.T, n *simnet.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(40 * 365 * 24 * time.Hour) // see inBubble
		n := simnet.New(1)
		n.SetDefault(link)
		test(t, n)
		n.Close()
	})
}

// simListen makes an endpoint on a host. The caller closes it.
func simListen(t *testing.T, n *simnet.Network, at netip.Addr, k *identity.Key) *quic.Endpoint {
	t.Helper()
	return simListenOn(t, n.Host(at), quic.Config{Key: k})
}

// simListenOn is simListen with a configuration; everybody may connect if it
// does not say who.
func simListenOn(t *testing.T, h *simnet.Host, cfg quic.Config) *quic.Endpoint {
	t.Helper()
	pc, err := h.Listen(simPort)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Conn = pc
	if cfg.Authorize == nil {
		cfg.Authorize = everybody
	}
	e, err := quic.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func simAddr(at netip.Addr) string { return netip.AddrPortFrom(at, simPort).String() }

// redial dials as circuits do, until it works.
func redial(t *testing.T, e *quic.Endpoint, to netip.Addr) transport.Conn {
	for {
		c, err := e.Dial(t.Context(), simAddr(to), nil)
		if err == nil {
			return c
		}
		if !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("Dial: %v", err)
			return nil
		}
	}
}
