package attacktest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"
)

// A forger makes first packets of QUIC connections, as RFC 9001 has them, that
// are right in all: the node has to answer each with a whole handshake. Nobody
// takes the answers.
type forger struct {
	hello []byte // the TLS ClientHello, the same for all
}

func newForger() (*forger, error) {
	c := tls.QUICClient(&tls.QUICConfig{TLSConfig: &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"ckt/1"},
		CurvePreferences: []tls.CurveID{tls.X25519}, ServerName: "node",
	}})
	defer c.Close()
	c.SetTransportParameters([]byte{0x0f, 0}) // no source connection ID
	if err := c.Start(context.Background()); err != nil {
		return nil, err
	}
	for {
		switch e := c.NextEvent(); e.Kind {
		case tls.QUICWriteData:
			return &forger{hello: append([]byte(nil), e.Data...)}, nil
		case tls.QUICNoEvent:
			return nil, errors.New("no ClientHello")
		}
	}
}

const firstPacket = 1200 // bytes

// packet makes a first packet with a connection ID of its own.
func (f *forger) packet() ([]byte, error) {
	dst := make([]byte, 8)
	rand.Read(dst)
	head := append([]byte{0xc3, 0, 0, 0, 1, byte(len(dst))}, dst...) // Initial, number of 4 bytes
	head = append(head, 0, 0)                                        // no source ID, no token
	const number, tag = 4, 16
	rest := firstPacket - len(head) - 2
	head = binary.BigEndian.AppendUint16(head, 0x4000|uint16(rest))
	at := len(head)
	head = append(head, 0, 0, 0, 0)

	frame := append([]byte{0x06, 0}, 0x40|byte(len(f.hello)>>8), byte(len(f.hello))) // CRYPTO at 0
	frame = append(frame, f.hello...)
	frame = append(frame, make([]byte, rest-number-tag-len(frame))...) // PADDING

	key, iv, hp, err := initialKeys(dst)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	p := aead.Seal(head, iv, frame, head) // number 0: the IV is the nonce
	mask := make([]byte, aes.BlockSize)
	if block, err = aes.NewCipher(hp); err != nil {
		return nil, err
	}
	block.Encrypt(mask, p[at+4:at+4+aes.BlockSize])
	p[0] ^= mask[0] & 0x0f
	for i := range number {
		p[at+i] ^= mask[1+i]
	}
	return p, nil
}

// initialKeys are those of RFC 9001, 5.2.
func initialKeys(dst []byte) (key, iv, hp []byte, err error) {
	salt := []byte{0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a}
	initial, err := hkdf.Extract(sha256.New, dst, salt)
	if err != nil {
		return nil, nil, nil, err
	}
	expand := func(secret []byte, label string, n int) []byte {
		if err != nil {
			return nil
		}
		var out []byte
		label = "tls13 " + label
		info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
		out, err = hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
		return out
	}
	client := expand(initial, "client in", 32)
	return expand(client, "quic key", 16), expand(client, "quic iv", 12), expand(client, "quic hp", 16), err
}

// spoofers are sockets at addresses that nobody listens at.
func spoofers(t *testing.T, n int) []*net.UDPConn {
	t.Helper()
	var all []*net.UDPConn
	for i := range n {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 1+byte(i/256), byte(i), 9)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		all = append(all, c)
	}
	return all
}

// spoofed sends packets at a pace, from many addresses, and has newcomers
// connect meanwhile.
func spoofed(name string, quick, full int, make func(f *forger) ([]byte, error)) attack {
	var f *forger
	var from []*net.UDPConn
	return attack{name, [2]int{quick, full}, func(t *testing.T, a *arena) int {
		var err error
		if f == nil {
			if f, err = newForger(); err != nil {
				t.Fatal(err)
			}
		}
		if from == nil {
			from = spoofers(t, 256)
		}
		round := volume(500, 10_000)
		for i := range round {
			a.pace(paceSpoof)
			p, err := make(f)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := from[i%len(from)].WriteTo(p, a.target); err != nil {
				t.Fatal(err)
			}
		}
		if took := a.newcomer(t); took > 2*time.Second && !raceDetector {
			t.Errorf("a newcomer in the flood had to wait for %v", took)
		}
		return round
	}}
}

func spoofs() []attack {
	return []attack{
		spoofed("spoofed first packets", 1000, 100_000, (*forger).packet),
		spoofed("packets that are no QUIC, 0-RTT without a session, unknown versions", 1000, 100_000, func(*forger) ([]byte, error) {
			p := make([]byte, firstPacket)
			rand.Read(p)
			switch p[1] % 4 {
			case 0: // 0-RTT
				copy(p, []byte{0xd3, 0, 0, 0, 1, 8})
			case 1: // Handshake
				copy(p, []byte{0xe3, 0, 0, 0, 1, 8})
			case 2: // another version
				copy(p, []byte{0xc3, 0xba, 0xba, 0xba, 0xba, 8})
			}
			return p, nil
		}),
	}
}
