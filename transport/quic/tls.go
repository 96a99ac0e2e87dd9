package quic

import (
	"crypto/ed25519"
	"crypto/tls"
	"net"
	"time"

	quicgo "github.com/quic-go/quic-go"
)

// alpn carries the protocol's major version.
const alpn = "ckt/1"

// Flow control. A path of 1 Gbit/s and 100 ms holds 12.5 MB. A stream's window
// that is read at once grows to what keeps such a path full (QUIC opens it again
// when a quarter is used), and stands above the 16 MiB that a circuit may keep
// outstanding, so that QUIC never limits a circuit.
//
// The connection's window is what the other side can make this one keep. The
// first part everybody has, and it is three streams wide, so that one or two
// which nobody reads do not stall the others. It grows only as it is read, and
// what it grows by is booked: see booking.go.
const (
	streamWindow        = 512 << 10
	maxStreamWindow     = 20 << 20
	connectionWindow    = 2 << 20
	maxConnectionWindow = 32 << 20
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
		_, err := identify(cs)
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
		who, err := identify(cs)
		if err != nil {
			return err
		}
		return e.allowDial(&who, addr, pin)
	}
	return c
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
		AllowConnectionWindowIncrease:  func(qc *quicgo.Conn, by uint64) bool { return bookingOf(qc).grow(by) },
		MaxIncomingStreams:             int64(cfg.limits.Streams),
		MaxIncomingUniStreams:          -1,
	}
}
