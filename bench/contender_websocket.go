package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

// websocketContender is a websocket for each channel.
type websocketContender struct{}

var _ contender = websocketContender{}

func (websocketContender) about() about {
	return about{
		name:   "websocket",
		module: "github.com/coder/websocket",
		settings: "TLS 1.3 over HTTP/1.1, binary messages, compression off, no bound on a message, read into a buffer that is kept; " +
			"a channel is a websocket; each message is written to the connection at once, there is no way to have it wait",
	}
}

func (websocketContender) serve(crowd) (string, error) {
	cfg, der, err := serverTLS("http/1.1")
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
		if err != nil {
			return
		}
		answer(newWebsocket(conn))
	})}
	go s.Serve(tls.NewListener(l, cfg))
	return withCert(l.Addr(), der), nil
}

func (websocketContender) dial(_ context.Context, _ crowd, addr string) (client, error) {
	addr, cfg, err := clientTLS(addr, "http/1.1")
	if err != nil {
		return nil, err
	}
	return &websocketClient{url: "wss://" + addr, http: &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}}, nil
}

type websocketClient struct {
	url  string
	http *http.Client
}

func (c *websocketClient) open(first []byte) (channel, error) {
	conn, _, err := websocket.Dial(context.Background(), c.url, &websocket.DialOptions{
		HTTPClient: c.http, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	ch := newWebsocket(conn)
	if first == nil {
		return ch, nil
	}
	return ch, ch.send(first)
}

func (c *websocketClient) close() error {
	c.http.CloseIdleConnections()
	return nil
}

type websocketChannel struct {
	conn *websocket.Conn
	in   []byte
}

func newWebsocket(conn *websocket.Conn) *websocketChannel {
	conn.SetReadLimit(-1)
	return &websocketChannel{conn: conn, in: make([]byte, 0, 512)}
}

func (c *websocketChannel) send(msg []byte) error {
	return c.conn.Write(context.Background(), websocket.MessageBinary, msg)
}

// flush has nothing to do: Write does it.
func (c *websocketChannel) flush() error { return nil }

func (c *websocketChannel) receive(take func([]byte) bool) error {
	for {
		_, r, err := c.conn.Reader(context.Background())
		if err != nil {
			return endOfWebsocket(err)
		}
		if err := c.read(r); err != nil {
			return err
		}
		if !take(c.in) {
			return nil
		}
	}
}

// read takes a message into c.in, without the allocations of io.ReadAll.
func (c *websocketChannel) read(r io.Reader) error {
	c.in = c.in[:0]
	for {
		if len(c.in) == cap(c.in) {
			c.in = append(c.in, 0)[:len(c.in)]
		}
		n, err := r.Read(c.in[len(c.in):cap(c.in)])
		c.in = c.in[:len(c.in)+n]
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func endOfWebsocket(err error) error {
	if websocket.CloseStatus(err) >= 0 {
		return io.EOF
	}
	return err
}

// close does without the closing handshake, as the others do.
func (c *websocketChannel) close() error { return c.conn.CloseNow() }
