package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/rpc"
	"sync"
	"sync/atomic"
)

// netRPCContender is net/rpc of the standard library. It has calls and no
// channels: a channel here is a number that calls carry.
type netRPCContender struct{}

var _ contender = netRPCContender{}

// netRPCOutstanding bounds the calls of a channel that are not answered.
const netRPCOutstanding = 256

func (netRPCContender) about() about {
	const none = "it has no channels to open"
	return about{
		name: "netrpc",
		settings: "TLS 1.3, one connection, gob. It has no channels: a message is a call, of which 256 may be outstanding in a channel; " +
			"the server handles each in a goroutine, so they may overtake one another",
		lacks: map[string]string{"open": none, "open32": none, "idle": none},
	}
}

// A NetRPCMessage is the argument of a call. net/rpc wants it exported.
type NetRPCMessage struct {
	Channel uint64
	Bytes   []byte
}

// NetRPCService is what is registered.
type NetRPCService struct{ sessions sync.Map }

// Take answers one message.
func (s *NetRPCService) Take(m *NetRPCMessage, back *[]byte) (err error) {
	v, ok := s.sessions.Load(m.Channel)
	if !ok {
		v, _ = s.sessions.LoadOrStore(m.Channel, new(session))
	}
	*back, err = v.(*session).take(m.Bytes)
	return err
}

// End forgets a channel.
func (s *NetRPCService) End(channel uint64, _ *struct{}) error {
	s.sessions.Delete(channel)
	return nil
}

func (netRPCContender) serve(crowd) (string, error) {
	cfg, der, err := serverTLS()
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for tl := tls.NewListener(l, cfg); ; {
			conn, err := tl.Accept()
			if err != nil {
				return
			}
			s := rpc.NewServer() // numbers of channels are the connection's
			s.RegisterName("Bench", new(NetRPCService))
			go s.ServeConn(conn)
		}
	}()
	return withCert(l.Addr(), der), nil
}

func (netRPCContender) dial(_ context.Context, _ crowd, addr string) (client, error) {
	addr, cfg, err := clientTLS(addr)
	if err != nil {
		return nil, err
	}
	conn, err := dialTLS(addr, cfg)
	if err != nil {
		return nil, err
	}
	return &netRPCClient{rpc: rpc.NewClient(conn)}, nil
}

type netRPCClient struct {
	rpc  *rpc.Client
	last atomic.Uint64
}

func (c *netRPCClient) open(first []byte) (channel, error) {
	ch := &netRPCChannel{
		rpc:     c.rpc,
		id:      c.last.Add(1),
		room:    make(chan struct{}, netRPCOutstanding),
		done:    make(chan *rpc.Call, netRPCOutstanding),
		answers: make(chan []byte, netRPCOutstanding),
		over:    make(chan struct{}),
	}
	go ch.collect()
	if first == nil {
		return ch, nil
	}
	return ch, ch.send(first)
}

func (c *netRPCClient) close() error { return c.rpc.Close() }

type netRPCChannel struct {
	rpc     *rpc.Client
	id      uint64
	room    chan struct{}  // has a token for each call that is outstanding
	done    chan *rpc.Call // calls that are answered
	answers chan []byte
	over    chan struct{} // closed by close
	failed  atomic.Pointer[error]
}

// collect sorts out what has been answered, until close.
func (c *netRPCChannel) collect() {
	for {
		select {
		case call := <-c.done:
			if call.Error != nil {
				c.failed.Store(&call.Error)
			}
			if back := *call.Reply.(*[]byte); len(back) > 0 || call.Error != nil {
				c.answers <- back
			}
			<-c.room
		case <-c.over:
			return
		}
	}
}

func (c *netRPCChannel) send(msg []byte) error {
	if msg[0] == kindDone { // it must not overtake what it is to count
		return c.sendAlone(msg)
	}
	c.room <- struct{}{}
	c.rpc.Go("Bench.Take", &NetRPCMessage{c.id, msg}, new([]byte), c.done)
	return c.err()
}

func (c *netRPCChannel) sendAlone(msg []byte) error {
	for range netRPCOutstanding {
		c.room <- struct{}{}
	}
	for range netRPCOutstanding - 1 {
		<-c.room
	}
	c.rpc.Go("Bench.Take", &NetRPCMessage{c.id, msg}, new([]byte), c.done)
	return c.err()
}

func (c *netRPCChannel) err() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// flush has nothing to do: every call is written at once.
func (c *netRPCChannel) flush() error { return nil }

func (c *netRPCChannel) receive(take func([]byte) bool) error {
	for {
		select {
		case back := <-c.answers:
			if err := c.err(); err != nil {
				return err
			}
			if !take(back) {
				return nil
			}
		case <-c.over:
			return io.EOF
		}
	}
}

func (c *netRPCChannel) close() error {
	close(c.over)
	err := c.rpc.Call("Bench.End", c.id, new(struct{}))
	if errors.Is(err, rpc.ErrShutdown) {
		return nil
	}
	return err
}
