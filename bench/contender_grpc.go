package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
)

// grpcContender is grpc-go with bidirectional streams of raw bytes.
type grpcContender struct{}

var _ contender = grpcContender{}

func (grpcContender) about() about {
	return about{
		name:   "grpc",
		module: "google.golang.org/grpc",
		settings: "TLS 1.3, one connection, a bidi stream for each channel; a codec that copies bytes into pooled buffers and no protobuf; " +
			"static windows of 16 MiB per stream and 64 MiB per connection, buffers of 256 KiB for reads and writes, retries off, no bound on streams. " +
			"A stream is closed by cancelling its context",
		extras: []string{"idle100k"},
	}
}

const (
	grpcMethod       = "/bench.Bench/Open"
	grpcBuffer       = 256 << 10
	grpcStreamWindow = 16 << 20
	grpcConnWindow   = 64 << 20
)

func grpcStreams() grpc.StreamDesc {
	return grpc.StreamDesc{
		StreamName:    "Open",
		ServerStreams: true,
		ClientStreams: true,
		Handler: func(_ any, s grpc.ServerStream) error {
			return answer(&grpcChannel{s: s, end: func() {}})
		},
	}
}

func (grpcContender) serve(crowd) (string, error) {
	cfg, der, err := serverTLS("h2")
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(cfg)),
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.StaticStreamWindowSize(grpcStreamWindow), grpc.StaticConnWindowSize(grpcConnWindow),
		grpc.ReadBufferSize(grpcBuffer), grpc.WriteBufferSize(grpcBuffer),
		grpc.MaxConcurrentStreams(math.MaxUint32),
	)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Bench",
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{grpcStreams()},
	}, struct{}{})
	go s.Serve(l)
	return withCert(l.Addr(), der), nil
}

func (grpcContender) dial(ctx context.Context, _ crowd, addr string) (client, error) {
	addr, cfg, err := clientTLS(addr, "h2")
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(credentials.NewTLS(cfg)),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})),
		grpc.WithStaticStreamWindowSize(grpcStreamWindow), grpc.WithStaticConnWindowSize(grpcConnWindow),
		grpc.WithReadBufferSize(grpcBuffer), grpc.WithWriteBufferSize(grpcBuffer),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithDisableHealthCheck(),
	)
	if err != nil {
		return nil, err
	}
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			return nil, errors.Join(fmt.Errorf("grpc is %v", state), conn.Close())
		}
	}
	return grpcClient{conn}, nil
}

type grpcClient struct{ conn *grpc.ClientConn }

func (c grpcClient) open(first []byte) (channel, error) {
	ctx, cancel := context.WithCancel(context.Background())
	desc := grpcStreams()
	s, err := c.conn.NewStream(ctx, &desc, grpcMethod)
	if err != nil {
		cancel()
		return nil, err
	}
	ch := &grpcChannel{s: s, end: cancel}
	if first == nil {
		return ch, nil
	}
	return ch, ch.send(first)
}

func (c grpcClient) close() error { return c.conn.Close() }

// grpcChannel is either end of a stream.
type grpcChannel struct {
	s interface {
		SendMsg(m any) error
		RecvMsg(m any) error
	}
	end func()
	out rawMessage // of the goroutine that sends
	in  rawMessage // of the one that receives
}

func (c *grpcChannel) send(msg []byte) error {
	c.out.bytes = msg
	return c.s.SendMsg(&c.out)
}

// flush has nothing to do: a transport of grpc writes by itself.
func (c *grpcChannel) flush() error { return nil }

func (c *grpcChannel) receive(take func([]byte) bool) error {
	for {
		if err := c.s.RecvMsg(&c.in); err != nil {
			return err
		}
		more := take(c.in.bytes)
		c.in.held.Free()
		if !more {
			return nil
		}
	}
}

func (c *grpcChannel) close() error {
	c.end()
	return nil
}

// A rawMessage is bytes on their way through grpc.
type rawMessage struct {
	bytes []byte
	held  mem.Buffer // what bytes are in, of a received one
}

// rawCodec keeps protobuf out of it.
type rawCodec struct{}

func (rawCodec) Name() string { return "raw" }

// Marshal copies, because grpc writes after SendMsg has returned.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.Copy(v.(*rawMessage).bytes, mem.DefaultBufferPool())}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m := v.(*rawMessage)
	m.held = data.MaterializeToBuffer(mem.DefaultBufferPool())
	m.bytes = m.held.ReadOnlyData()
	return nil
}
