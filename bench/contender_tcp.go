package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"time"
)

// streamContender is the floor: messages on TCP or TLS by hand, a connection
// for each channel.
type streamContender struct{ encrypted bool }

var _ contender = streamContender{}

func tcpContender() contender { return streamContender{} }

func tlsContender() contender { return streamContender{encrypted: true} }

func (s streamContender) about() about {
	a := about{
		name:     "tcp",
		settings: "NOT encrypted: the floor. 4-byte lengths, bufio (256 KiB to read, 64 KiB to write; 4 KiB with many channels), flushed before it waits; a channel is a connection",
	}
	if s.encrypted {
		a.name = "tls"
		a.settings = strings.Replace(a.settings, "NOT encrypted: the floor", "TLS 1.3", 1)
	}
	return a
}

func (s streamContender) serve(c crowd) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	if !s.encrypted {
		go acceptAll(l, c)
		return l.Addr().String(), nil
	}
	cfg, der, err := serverTLS()
	if err != nil {
		return "", err
	}
	go acceptAll(tls.NewListener(l, cfg), c)
	return withCert(l.Addr(), der), nil
}

// acceptAll answers each connection until the listener fails.
func acceptAll(l net.Listener, c crowd) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go serveFramed(conn, c)
	}
}

func (s streamContender) dial(_ context.Context, c crowd, addr string) (client, error) {
	if !s.encrypted {
		return &streamClient{crowd: c, dial: func() (io.ReadWriteCloser, error) {
			return net.DialTimeout("tcp", addr, dialTimeout)
		}}, nil
	}
	addr, cfg, err := clientTLS(addr)
	if err != nil {
		return nil, err
	}
	return &streamClient{crowd: c, dial: func() (io.ReadWriteCloser, error) { return dialTLS(addr, cfg) }}, nil
}

// dialTimeout is far longer than any dial on loopback takes.
const dialTimeout = 20 * time.Second

// dialTLS returns when the handshake is complete.
func dialTLS(addr string, cfg *tls.Config) (*tls.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: dialTimeout}, "tcp", addr, cfg)
}

type streamClient struct {
	crowd crowd
	dial  func() (io.ReadWriteCloser, error)
}

func (c *streamClient) open(first []byte) (channel, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	return openFramed(conn, c.crowd, first)
}

func (c *streamClient) close() error { return nil }
