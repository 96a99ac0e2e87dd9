package quic

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

// certificate makes the certificate that the endpoint shows, with the statement
// that its key takes another one's place, if there is one.
func certificate(cfg Config) (cert tls.Certificate, err error) {
	switch r := cfg.Rotation; {
	case r == nil:
		cert, err = identity.Certificate(cfg.Key)
	case r.New != cfg.Key.ID():
		err = errors.New("the rotation is to another key than the node's")
	default:
		cert, err = identity.Certificate(cfg.Key, r.Extension())
	}
	if err != nil {
		return cert, fmt.Errorf("transport/quic: certificate: %w", err)
	}
	return cert, nil
}

// The peerKeys of a connection are what the other side has proved: its key, and
// which older one has signed that it takes its place.
type peerKeys struct {
	key     ed25519.PublicKey
	instead *trust.Rotation // held when the handshake ended; nil: none
	heir    bool            // let in, or taken, only in the place of instead.Old; known once it is judged
}

// identify reads them from a handshake.
func identify(cs tls.ConnectionState) (peerKeys, error) {
	key, err := identity.VerifyPeer(cs)
	if err != nil {
		return peerKeys{}, err
	}
	r, err := trust.FromCertificate(cs.PeerCertificates[0], time.Now())
	if err != nil {
		return peerKeys{}, err
	}
	return peerKeys{key: key, instead: r}, nil
}

func (p peerKeys) id() identity.NodeID { return identity.NodeIDOf(p.key) }

// account is [transport.ConnInfo.Account].
func (p peerKeys) account() identity.NodeID {
	if p.heir {
		return p.instead.Old
	}
	return p.id()
}

// old is the key that p.key stands in for now; nil: none.
func (p peerKeys) old() ed25519.PublicKey {
	if p.instead == nil || !time.Now().Before(p.instead.Until) {
		return nil
	}
	return p.instead.Old.Key()
}

// proves reports whether p is who has the key pin.
func (p peerKeys) proves(pin ed25519.PublicKey) bool {
	return bytes.Equal(p.key, pin) || bytes.Equal(p.old(), pin)
}

func (c *conn) proves(pin ed25519.PublicKey) bool { return c.who.proves(pin) }

// allow asks whether a node may connect, in its own right or in that of the key
// that it stands in for. A revoked key is refused whatever the others say.
func (e *Endpoint) allow(p *peerKeys, addr net.Addr) error {
	if err := e.revoked(p); err != nil {
		return err
	}
	err := e.cfg.Authorize(p.key, addr)
	if old := p.old(); err != nil && old != nil && e.cfg.Authorize(old, addr) == nil {
		p.heir = true
		return nil
	}
	return err
}

func (e *Endpoint) revoked(p *peerKeys) error {
	if err := e.cfg.Revoked(p.key); err != nil {
		return err
	}
	if p.instead != nil {
		return e.cfg.Revoked(p.instead.Old.Key())
	}
	return nil
}

// allowDial judges the node that was found at addr. A pin stands for the
// authorisation.
func (e *Endpoint) allowDial(p *peerKeys, addr net.Addr, pin ed25519.PublicKey) error {
	if pin != nil && !p.proves(pin) {
		return &transport.WrongKeyError{Addr: addr.String(), Want: pin, Got: p.key}
	}
	judge := e.revoked(p)
	p.heir = pin != nil && !bytes.Equal(p.key, pin)
	if pin == nil {
		judge = e.allow(p, addr)
	}
	if judge != nil {
		return &transport.UnauthorizedError{Addr: addr.String(), Key: p.key, Err: judge}
	}
	return nil
}
