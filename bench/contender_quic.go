package main

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/quic-go/quic-go"
)

// quicContender is what ckt stands on, by itself, with or without receive
// offload.
type quicContender struct{ offload bool }

var _ contender = quicContender{}

const quicProtocol = "bench"

func (q quicContender) about() about {
	a := about{
		name:   "quic",
		module: "github.com/quic-go/quic-go",
		settings: "one connection, a stream for each channel; 4-byte lengths and bufio as tls has them; " +
			"windows as ckt has them: streams 512 KiB to 20 MiB, connection 2 MiB to 32 MiB; no bound on streams; send offload, no receive offload",
		extras: []string{"idle100k"},
	}
	if q.offload {
		a.name = "quic-gro"
		a.settings = "as quic, on a socket with receive offload (UDP_GRO), which quic-go does not have by itself"
		a.extras = nil
	}
	return a
}

// quicConfig has the windows of ckt's transport.
func quicConfig() *quic.Config {
	return &quic.Config{
		InitialStreamReceiveWindow:     512 << 10,
		MaxStreamReceiveWindow:         20 << 20,
		InitialConnectionReceiveWindow: 2 << 20,
		MaxConnectionReceiveWindow:     32 << 20,
		MaxIncomingStreams:             1 << 20,
		MaxIdleTimeout:                 time.Minute,
		KeepAlivePeriod:                10 * time.Second,
	}
}

func (q quicContender) serve(c crowd) (string, error) {
	conn, err := q.socket()
	if err != nil {
		return "", err
	}
	cfg, der, err := serverTLS(quicProtocol)
	if err != nil {
		return "", err
	}
	l, err := (&quic.Transport{Conn: conn}).Listen(cfg, quicConfig())
	if err != nil {
		return "", err
	}
	go acceptQUIC(l, c)
	return withCert(l.Addr(), der), nil
}

func (q quicContender) socket() (net.PacketConn, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil || !q.offload {
		return conn, err
	}
	return newGROSocket(conn)
}

func acceptQUIC(l *quic.Listener, c crowd) {
	for {
		conn, err := l.Accept(context.Background())
		if err != nil {
			return
		}
		go acceptStreams(conn, c)
	}
}

func acceptStreams(conn *quic.Conn, c crowd) {
	for {
		s, err := conn.AcceptStream(context.Background())
		if err != nil {
			return
		}
		go serveFramed(quicStream{s}, c)
	}
}

func (q quicContender) dial(ctx context.Context, c crowd, addr string) (client, error) {
	addr, cfg, err := clientTLS(addr, quicProtocol)
	if err != nil {
		return nil, err
	}
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	socket, err := q.socket()
	if err != nil {
		return nil, err
	}
	tr := &quic.Transport{Conn: socket}
	conn, err := tr.Dial(ctx, to, cfg, quicConfig())
	if err != nil {
		return nil, errors.Join(err, tr.Close(), socket.Close())
	}
	return &quicClient{crowd: c, tr: tr, socket: socket, conn: conn}, nil
}

type quicClient struct {
	crowd  crowd
	tr     *quic.Transport
	socket io.Closer
	conn   *quic.Conn
}

func (c *quicClient) open(first []byte) (channel, error) {
	s, err := c.conn.OpenStreamSync(context.Background())
	if err != nil {
		return nil, err
	}
	return openFramed(quicStream{s}, c.crowd, first)
}

func (c *quicClient) close() error {
	return errors.Join(c.conn.CloseWithError(0, ""), c.tr.Close(), c.socket.Close())
}

// quicStream closes both directions.
type quicStream struct{ *quic.Stream }

func (s quicStream) Close() error {
	s.CancelRead(0)
	return s.Stream.Close()
}
