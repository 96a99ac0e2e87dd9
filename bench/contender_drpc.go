package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"storj.io/drpc"
	"storj.io/drpc/drpcconn"
	"storj.io/drpc/drpcmanager"
	"storj.io/drpc/drpcpool"
	"storj.io/drpc/drpcserver"
	"storj.io/drpc/drpcstream"
)

// drpcContender is Storj's RPC framework.
type drpcContender struct{}

var _ contender = drpcContender{}

func (drpcContender) about() about {
	return about{
		name:   "drpc",
		module: "storj.io/drpc",
		settings: "TLS 1.3, raw bytes as messages, flushed by hand as tls is, write buffers as tls has them. " +
			"drpc has one stream at a time on a connection: a channel is a stream on a connection of its own, out of a pool of any size",
	}
}

const drpcMethod = "/bench/Open"

func drpcOptions(c crowd) drpcmanager.Options {
	_, write := c.buffers()
	return drpcmanager.Options{WriterBufferSize: write, Stream: drpcstream.Options{ManualFlush: true}}
}

func (drpcContender) serve(c crowd) (string, error) {
	cfg, der, err := serverTLS()
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := drpcserver.NewWithOptions(drpcHandler{}, drpcserver.Options{Manager: drpcOptions(c)})
	go s.Serve(context.Background(), tls.NewListener(l, cfg))
	return withCert(l.Addr(), der), nil
}

type drpcHandler struct{}

// HandleRPC serves one channel.
func (drpcHandler) HandleRPC(s drpc.Stream, _ string) error {
	ch, err := newDRPCChannel(s)
	if err != nil {
		return err
	}
	return answer(ch)
}

func (drpcContender) dial(ctx context.Context, c crowd, addr string) (client, error) {
	addr, cfg, err := clientTLS(addr)
	if err != nil {
		return nil, err
	}
	cl := &drpcClient{pool: drpcpool.New[struct{}, *drpcconn.Conn](drpcpool.Options{}), dial: func() (*drpcconn.Conn, error) {
		conn, err := dialTLS(addr, cfg)
		if err != nil {
			return nil, err
		}
		return drpcconn.NewWithOptions(conn, drpcconn.Options{Manager: drpcOptions(c)}), nil
	}}
	first, err := cl.dial()
	if err != nil {
		return nil, err
	}
	cl.pool.Put(struct{}{}, first)
	return cl, nil
}

type drpcClient struct {
	pool *drpcpool.Pool[struct{}, *drpcconn.Conn]
	dial func() (*drpcconn.Conn, error)
}

func (c *drpcClient) open(first []byte) (channel, error) {
	conn, ok := c.pool.Take(struct{}{})
	if !ok {
		var err error
		if conn, err = c.dial(); err != nil {
			return nil, err
		}
	}
	s, err := conn.NewStream(context.Background(), drpcMethod, rawEncoding{})
	if err != nil {
		return nil, err
	}
	ch, err := newDRPCChannel(s)
	if err != nil {
		return nil, err
	}
	ch.over = func() { c.pool.Put(struct{}{}, conn) }
	if first == nil {
		return ch, nil
	}
	return ch, post(ch, first)
}

func (c *drpcClient) close() error { return c.pool.Close() }

// drpcChannel is either end of a stream.
type drpcChannel struct {
	s    *drpcstream.Stream
	over func() // gives the connection back
	out  []byte // of the goroutine that sends
	in   []byte // of the one that receives
}

func newDRPCChannel(s drpc.Stream) (*drpcChannel, error) {
	raw, ok := s.(*drpcstream.Stream)
	if !ok {
		return nil, fmt.Errorf("drpc has a stream of type %T", s)
	}
	return &drpcChannel{s: raw, over: func() {}}, nil
}

func (c *drpcChannel) send(msg []byte) error {
	c.out = msg
	return c.s.MsgSend(&c.out, rawEncoding{})
}

func (c *drpcChannel) flush() error { return c.s.RawFlush() }

// receive need not flush before it waits: drpc does.
func (c *drpcChannel) receive(take func([]byte) bool) error {
	for {
		if err := c.s.MsgRecv(&c.in, rawEncoding{}); err != nil {
			return err
		}
		if !take(c.in) {
			return nil
		}
	}
}

func (c *drpcChannel) close() error {
	err := c.s.Close()
	c.over()
	return err
}

// rawEncoding takes *[]byte as messages.
type rawEncoding struct{}

// Marshal is there because the interface wants it; drpc calls MarshalAppend.
func (e rawEncoding) Marshal(msg drpc.Message) ([]byte, error) { return e.MarshalAppend(nil, msg) }

// MarshalAppend saves an allocation.
func (rawEncoding) MarshalAppend(buf []byte, msg drpc.Message) ([]byte, error) {
	return append(buf, *msg.(*[]byte)...), nil
}

// Unmarshal copies, because drpc uses buf again.
func (rawEncoding) Unmarshal(buf []byte, msg drpc.Message) error {
	m := msg.(*[]byte)
	*m = append((*m)[:0], buf...)
	return nil
}
