package transporttest

import (
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"ckt.local/transport"
)

// A netConn is a stream as a net.Conn, which is closed in both directions.
type netConn struct {
	transport.Stream
	conn transport.Conn

	mu     sync.Mutex // held while somebody writes: Write and Close exclude one another
	dmu    sync.Mutex // guards closed and the order of deadlines after it
	closed bool
}

func (c *netConn) LocalAddr() net.Addr  { return c.conn.Info().LocalAddr }
func (c *netConn) RemoteAddr() net.Addr { return c.conn.Info().RemoteAddr }

func (c *netConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Stream.Write(p)
}

// Close ends writing, and makes pending calls return.
func (c *netConn) Close() error {
	c.dmu.Lock()
	c.closed = true
	c.Stream.SetReadDeadline(time.Now())
	c.Stream.SetWriteDeadline(time.Now())
	c.dmu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Stream.Close()
}

func (c *netConn) SetReadDeadline(t time.Time) error {
	return c.deadline(c.Stream.SetReadDeadline, t)
}

func (c *netConn) SetWriteDeadline(t time.Time) error {
	return c.deadline(c.Stream.SetWriteDeadline, t)
}

func (c *netConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *netConn) deadline(set func(time.Time) error, t time.Time) error {
	c.dmu.Lock()
	defer c.dmu.Unlock()
	if c.closed {
		return transport.ErrClosed
	}
	return set(t)
}

func testNetConn(t *testing.T, mk Maker) {
	ca, cb := mk.pair(t, Spec{})
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		sa, sb, err := tryOpenStream(t.Context(), ca, cb)
		if err != nil {
			return nil, nil, nil, err
		}
		stop = func() {
			sa.Reset(transport.CodeClosed)
			sb.Reset(transport.CodeClosed)
		}
		return &netConn{Stream: sa, conn: ca}, &netConn{Stream: sb, conn: cb}, stop, nil
	})
}
