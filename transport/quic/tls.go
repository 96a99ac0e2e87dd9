package quic

import (
	"crypto/ed25519"
	"crypto/tls"
	"net"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// alpn carries the protocol's major version.
const alpn = "ckt/1"

// Flow control. A path of 1 Gbit/s and 100 ms holds 12.5 MB. A window that is
// read at once grows to what keeps such a path full (QUIC opens it again when a
// quarter is used), and stands above the 16 MiB that a circuit may keep
// outstanding, so that QUIC never limits a circuit. The connection's stands
// above one such stream and several that nobody reads, so that these do not
// stall the others.
const (
	streamWindow        = 2 << 20
	maxStreamWindow     = 20 << 20
	connectionWindow    = 15 << 20
	maxConnectionWindow = 32 << 20

	// crowdedWindow is what an inbound connection starts with while there are
	// many that are not open: nobody has judged those, and each may fill its
	// window. One circuit that waits for its yes does not fill it. All windows
	// grow only as they are read, and what is not open is not read.
	crowdedWindow = 3 << 20
)

// baseTLS is what both roles have in common. The default key exchange, which
// is the hybrid post-quantum one, stays.
func baseTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		MaxVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{cert},
		NextProtos:             []string{alpn},
		SessionTicketsDisabled: true,
	}
}

// listenTLS proves the other side's key. Whether the key is authorised is
// asked once the handshake is complete, when a no can be said in words.
func (e *Endpoint) listenTLS() *tls.Config {
	c := baseTLS(e.cert)
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := identity.VerifyPeer(cs)
		return err
	}
	return c
}

// dialTLS proves the other side's key and judges it before this side shows
// its own certificate, so a wrong node learns nothing but our address.
func (e *Endpoint) dialTLS(addr net.Addr, pin ed25519.PublicKey) *tls.Config {
	c := baseTLS(e.cert)
	// Names and authorities mean nothing here: VerifyConnection, which runs
	// on every handshake, is the whole check.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		key, err := identity.VerifyPeer(cs)
		if err != nil {
			return err
		}
		if pin == nil {
			return e.authorizeDial(key, addr)
		}
		if !key.Equal(pin) {
			return &transport.WrongKeyError{Addr: addr.String(), Want: pin, Got: key}
		}
		return nil
	}
	return c
}

// authorizeDial asks the authorisation about a key that was found at addr.
func (e *Endpoint) authorizeDial(key ed25519.PublicKey, addr net.Addr) error {
	if err := e.cfg.Authorize(key, addr); err != nil {
		return &transport.UnauthorizedError{Addr: addr.String(), Key: key, Err: err}
	}
	return nil
}

func quicConfig(cfg Config) *quicgo.Config {
	return &quicgo.Config{
		// The least that a path of QUIC carries: longer first packets vanish in
		// tunnels. Path MTU discovery raises it where it can.
		InitialPacketSize:              1200,
		HandshakeIdleTimeout:           cfg.HandshakeTimeout,
		MaxIdleTimeout:                 cfg.MaxIdle,
		KeepAlivePeriod:                max(cfg.KeepAlive, time.Duration(0)),
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: connectionWindow,
		MaxConnectionReceiveWindow:     maxConnectionWindow,
		MaxIncomingStreams:             int64(cfg.limits.Streams),
		MaxIncomingUniStreams:          -1,
	}
}
