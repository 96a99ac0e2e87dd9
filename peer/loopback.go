package peer

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"ckt.local/transport"
)

// A loopConn is one end of a connection from a node to itself, in memory: an
// endpoint does not dial itself. It has no goroutines.
type loopConn struct {
	other  *loopConn
	info   transport.ConnInfo
	ctx    context.Context
	cancel context.CancelCauseFunc
	opened chan *loopStream // by the other end

	mu      sync.Mutex // guards what follows
	nextID  uint64
	streams map[*loopStream]struct{}
}

var (
	_ transport.Conn   = (*loopConn)(nil)
	_ transport.Stream = (*loopStream)(nil)
)

// newLoopback returns both ends of a connection of the node with that key,
// address and boot nonce to itself.
func newLoopback(key ed25519.PublicKey, addr net.Addr, nonce uint64) (dialer, acceptor *loopConn) {
	end := func(first uint64) *loopConn {
		c := &loopConn{
			info: transport.ConnInfo{
				RemoteKey: key, RemoteAddr: addr, LocalAddr: addr, BootNonce: nonce,
				Dialed: first == 0, Opened: time.Now(),
			},
			opened:  make(chan *loopStream, 1024),
			nextID:  first,
			streams: make(map[*loopStream]struct{}),
		}
		c.ctx, c.cancel = context.WithCancelCause(context.Background())
		return c
	}
	dialer, acceptor = end(0), end(1)
	dialer.other, acceptor.other = acceptor, dialer
	return dialer, acceptor
}

func (c *loopConn) Info() transport.ConnInfo { return c.info }

func (c *loopConn) Context() context.Context { return c.ctx }

func (c *loopConn) OpenStream(ctx context.Context) (transport.Stream, error) {
	if c.ctx.Err() != nil {
		return nil, context.Cause(c.ctx)
	}
	out, in := newLoopPipe(), newLoopPipe()
	c.mu.Lock()
	id := c.nextID
	c.nextID += 2
	c.mu.Unlock()
	mine := &loopStream{conn: c, id: id, in: in, out: out}
	theirs := &loopStream{conn: c.other, id: id, in: out, out: in}
	c.add(mine)
	c.other.add(theirs)
	select {
	case c.other.opened <- theirs:
		return mine, nil
	case <-ctx.Done():
		mine.Reset(transport.CodeClosed)
		return nil, ctx.Err()
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
}

func (c *loopConn) AcceptStream(ctx context.Context) (transport.Stream, error) {
	if c.ctx.Err() != nil {
		return nil, context.Cause(c.ctx)
	}
	select {
	case s := <-c.opened:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
}

// add makes s end with c, also if c has ended already.
func (c *loopConn) add(s *loopStream) {
	c.mu.Lock()
	c.streams[s] = struct{}{}
	c.mu.Unlock()
	if c.ctx.Err() != nil {
		s.fail(context.Cause(c.ctx))
	}
}

func (c *loopConn) Close(code transport.Code, reason string) error {
	reason = strings.ToValidUTF8(reason[:min(len(reason), transport.MaxReason)], "")
	c.end(transport.ErrClosed)
	c.other.end(&transport.RemoteError{Code: code, Reason: reason})
	return nil
}

func (c *loopConn) end(cause error) {
	c.cancel(cause)
	c.mu.Lock()
	streams := c.streams
	c.streams = make(map[*loopStream]struct{})
	c.mu.Unlock()
	for s := range streams {
		s.fail(context.Cause(c.ctx))
	}
}

// A loopStream is one end of a stream.
type loopStream struct {
	conn    *loopConn
	id      uint64
	in, out *loopPipe
}

func (s *loopStream) ID() uint64                    { return s.id }
func (s *loopStream) Context() context.Context      { return s.out.written }
func (s *loopStream) Prioritize(transport.Priority) {}

func (s *loopStream) Read(p []byte) (int, error) {
	n, err := s.in.read(p)
	if err != nil {
		s.forget()
	}
	return n, err
}

func (s *loopStream) Write(p []byte) (int, error) { return s.out.write(p) }

func (s *loopStream) TryWrite(p []byte) (ok bool, err error) { return s.out.tryWrite(p) }

func (s *loopStream) Close() error {
	err := s.out.close()
	s.forget()
	return err
}

func (s *loopStream) SetReadDeadline(t time.Time) error {
	s.in.reader.set(s.in, t)
	return nil
}

func (s *loopStream) SetWriteDeadline(t time.Time) error {
	s.out.writer.set(s.out, t)
	return nil
}

// Reset ends the stream at both sides.
func (s *loopStream) Reset(code transport.Code) {
	ours, theirs := fmt.Errorf("stream %d: %w", s.id, transport.ErrClosed), &transport.RemoteError{Code: code}
	s.in.fail(ours, theirs)
	s.out.fail(theirs, ours)
	s.forget()
}

// fail ends this end of the stream, because the connection has ended.
func (s *loopStream) fail(cause error) {
	s.in.fail(cause, nil)
	s.out.fail(nil, cause)
}

// forget lets the connection forget a stream that this end has done with.
func (s *loopStream) forget() {
	if s.in.readOver() && s.out.writeOver() {
		s.conn.mu.Lock()
		delete(s.conn.streams, s)
		s.conn.mu.Unlock()
	}
}
