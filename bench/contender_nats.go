package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// natsContender is nats.go, with a server of NATS in the server's process. It
// has subjects and no channels: a channel is a pair of subjects. NATS drops
// what a slow subscriber does not take, so channels have a window.
type natsContender struct{}

var _ contender = natsContender{}

const (
	// natsWindow is how many bytes may be under way in a channel, each message
	// with natsCost more than it has.
	natsWindow = 4 << 20
	natsCost   = 64

	// kindWindow is the first byte of what the receiver says about the
	// window: how much it has taken so far.
	kindWindow = 'w'
)

func (natsContender) about() about {
	return about{
		name:   "nats",
		module: "github.com/nats-io/nats.go",
		settings: "a server of NATS in the server's process, which its subscriber reaches in memory and the client over TLS 1.3. " +
			"A channel is a pair of subjects with a window of 4 MiB each way, kept by messages of the receiver, because NATS drops what a slow subscriber does not take",
	}
}

func (natsContender) serve(crowd) (string, error) {
	cfg, der, err := serverTLS()
	if err != nil {
		return "", err
	}
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true,
		TLSConfig: cfg, TLSTimeout: dialTimeout.Seconds(), MaxPending: 256 << 20, WriteDeadline: dialTimeout,
	})
	if err != nil {
		return "", err
	}
	srv.Start()
	if !srv.ReadyForConnections(dialTimeout) {
		return "", errors.New("the server of NATS does not start")
	}
	conn, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		return "", err
	}
	if _, err := conn.Subscribe("open.*", func(m *nats.Msg) { acceptNATS(conn, m.Subject[len("open."):]) }); err != nil {
		return "", err
	}
	return withCert(srv.Addr(), der), conn.Flush()
}

// acceptNATS answers one channel. Its subscription is known to the server
// before the client hears that it is.
func acceptNATS(conn *nats.Conn, id string) {
	ch, err := newNATSChannel(conn, "up."+id, "down."+id)
	if err != nil {
		return // the client sees that nothing comes
	}
	if err := ch.tell(0); err != nil {
		return
	}
	go answer(ch)
}

func (natsContender) dial(_ context.Context, _ crowd, addr string) (client, error) {
	addr, cfg, err := clientTLS(addr)
	if err != nil {
		return nil, err
	}
	conn, err := nats.Connect("tls://"+addr, nats.Secure(cfg), nats.Timeout(dialTimeout), nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	return &natsClient{conn: conn, name: nats.NewInbox()[len("_INBOX."):]}, nil
}

type natsClient struct {
	conn *nats.Conn
	name string
	last atomic.Uint64
}

func (c *natsClient) open(first []byte) (channel, error) {
	id := fmt.Sprintf("%s-%d", c.name, c.last.Add(1))
	ch, err := newNATSChannel(c.conn, "down."+id, "up."+id)
	if err != nil {
		return nil, err
	}
	if err := c.conn.Publish("open."+id, nil); err != nil {
		return nil, err
	}
	select {
	case <-ch.ready:
	case <-time.After(dialTimeout):
		return nil, errors.New("nobody takes the channel")
	}
	if first == nil {
		return ch, nil
	}
	return ch, ch.send(first)
}

func (c *natsClient) close() error {
	c.conn.Close()
	return nil
}

// natsChannel receives in the goroutine of its subscription.
type natsChannel struct {
	conn  *nats.Conn
	to    string
	sub   *nats.Subscription
	ready chan struct{} // closed when the other side has said something

	mu      sync.Mutex
	changed sync.Cond
	take    func([]byte) bool // nil: nobody receives
	opened  bool
	closed  bool
	sent    uint64 // bytes, of the goroutine that sends
	taken   uint64 // of that, as the other side has said

	got, told uint64 // of the subscription's goroutine: bytes received, and said
}

func newNATSChannel(conn *nats.Conn, from, to string) (*natsChannel, error) {
	c := &natsChannel{conn: conn, to: to, ready: make(chan struct{})}
	c.changed.L = &c.mu
	sub, err := conn.Subscribe(from, c.arrived)
	if err != nil {
		return nil, err
	}
	c.sub = sub
	return c, sub.SetPendingLimits(-1, -1)
}

// arrived is called for one message after the other.
func (c *natsChannel) arrived(m *nats.Msg) {
	if len(m.Data) == 0 { // the other side has closed
		c.end()
		return
	}
	if m.Data[0] == kindWindow {
		c.onWindow(binary.BigEndian.Uint64(m.Data[1:]))
		return
	}
	c.mu.Lock()
	for c.take == nil && !c.closed {
		c.changed.Wait()
	}
	take := c.take
	c.mu.Unlock()
	if take == nil {
		return
	}
	if !take(m.Data) {
		c.mu.Lock()
		c.take = nil
		c.changed.Broadcast()
		c.mu.Unlock()
	}
	c.got += uint64(len(m.Data)) + natsCost
	if c.got-c.told >= natsWindow/4 {
		c.told = c.got
		c.tell(c.got)
	}
}

func (c *natsChannel) onWindow(taken uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken = taken
	if !c.opened {
		c.opened = true
		close(c.ready)
	}
	c.changed.Broadcast()
}

func (c *natsChannel) tell(taken uint64) error {
	return c.conn.Publish(c.to, binary.BigEndian.AppendUint64([]byte{kindWindow}, taken))
}

func (c *natsChannel) send(msg []byte) error {
	c.mu.Lock()
	for c.sent-c.taken > natsWindow && !c.closed {
		c.changed.Wait()
	}
	c.sent += uint64(len(msg)) + natsCost
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return io.ErrClosedPipe
	}
	return c.conn.Publish(c.to, msg)
}

// flush has nothing to do: a goroutine of the connection writes.
func (c *natsChannel) flush() error { return nil }

func (c *natsChannel) receive(take func([]byte) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take = take
	c.changed.Broadcast()
	for c.take != nil && !c.closed {
		c.changed.Wait()
	}
	if c.take != nil {
		return io.EOF
	}
	return nil
}

func (c *natsChannel) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.changed.Broadcast()
}

// close tells the other side with an empty message.
func (c *natsChannel) close() error {
	c.end()
	return errors.Join(c.conn.Publish(c.to, nil), c.sub.Unsubscribe())
}
