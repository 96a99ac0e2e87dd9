package attacktest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"
	"github.com/tinylib/msgp/msgp"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// A mallory is somebody with a key and a socket, who has read docs/wire.md and
// uses nothing of the product but the keys and the framing.
type mallory struct {
	key    *identity.Key
	cert   tls.Certificate
	target net.Addr
	trs    []*quicgo.Transport // each with a socket of its own
	turn   *atomic.Int64       // which is next
}

// newMallory takes an address of this machine that the honest do not use, as
// some bounds are for each address, and as many ports of it: another process
// of the same key at the same address and port takes the place of the one
// before.
func newMallory(t testing.TB, target net.Addr, key *identity.Key, host byte, ports int) *mallory {
	t.Helper()
	m := &mallory{key: key, cert: certificateOf(t, key), target: target, turn: new(atomic.Int64)}
	for range ports {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, host)})
		if err != nil {
			t.Fatal(err)
		}
		tr := &quicgo.Transport{Conn: c}
		t.Cleanup(func() {
			tr.Close()
			c.Close()
		})
		m.trs = append(m.trs, tr)
	}
	return m
}

// next is the socket that the next connection is made from.
func (m *mallory) next() *quicgo.Transport { return m.trs[int(m.turn.Add(1))%len(m.trs)] }

// as is the same sockets with another certificate.
func (m *mallory) as(cert tls.Certificate) *mallory {
	other := *m
	other.cert = cert
	return &other
}

func (m *mallory) tls() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"ckt/1"},
		Certificates:       []tls.Certificate{m.cert},
	}
}

// dial makes a QUIC connection and says nothing on it.
func (m *mallory) dial(conf *tls.Config) (*quicgo.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return m.next().Dial(ctx, m.target, conf, &quicgo.Config{
		InitialPacketSize: 1200, MaxIdleTimeout: time.Minute, KeepAlivePeriod: 2 * time.Second,
		InitialStreamReceiveWindow: 1 << 20, InitialConnectionReceiveWindow: 64 << 20, MaxConnectionReceiveWindow: 64 << 20, MaxIncomingStreams: 1 << 16, DisablePathMTUDiscovery: true,
	})
}

// A line is an open connection to the node.
type line struct {
	qc      *quicgo.Conn
	control *quicgo.Stream // ours, after settings; nil until settle

	wg       sync.WaitGroup
	settings chan struct{} // closed when the node's settings have come
	writing  sync.Mutex    // on control

	mu      sync.Mutex
	first   uint64            // credit that each circuit starts with
	granted map[uint64]uint64 // by stream, what acks have said
	more    chan struct{}     // closed at the next one
}

// hello goes as far as an open connection.
func (m *mallory) hello(g greeting) (*line, error) {
	qc, err := m.dial(m.tls())
	if err != nil {
		return nil, err
	}
	if err := greet(qc, g.frame()); err != nil {
		qc.CloseWithError(0, "")
		return nil, err
	}
	l := &line{qc: qc, settings: make(chan struct{}), granted: make(map[uint64]uint64), more: make(chan struct{})}
	l.wg.Go(l.accept)
	return l, nil
}

// greet says hello in these bytes and takes the welcome.
func greet(qc *quicgo.Conn, hello []byte) error {
	s, err := openStream(qc)
	if err != nil {
		return err
	}
	if _, err := s.Write(hello); err != nil {
		return err
	}
	s.SetReadDeadline(time.Now().Add(10 * time.Second))
	typ, body, err := transport.ReadFrame(s, 1<<10)
	if err != nil {
		return err
	}
	if typ != frameWelcome {
		return refusedHello(body)
	}
	return s.Close()
}

// A refusedError is a no that was said in words.
type refusedError struct {
	code uint64
	text string
}

func (e *refusedError) Error() string { return fmt.Sprintf("refused with code %d: %s", e.code, e.text) }

func refusedHello(body []byte) error {
	_, rest, err := msgp.ReadArrayHeaderBytes(body)
	if err != nil {
		return err
	}
	code, rest, err := msgp.ReadUint64Bytes(rest)
	if err != nil {
		return err
	}
	text, _, err := msgp.ReadStringBytes(rest)
	if err != nil {
		return err
	}
	return &refusedError{code, text}
}

// connect is hello as another process each time, and settings. Circuits end
// with the connection.
func (m *mallory) connect() (*line, error) { return m.connectSaying(settings(1<<30, 1<<20, 0)) }

func (m *mallory) connectSaying(settings []byte) (*line, error) {
	l, err := m.hello(greeting{nonce: rand.Uint64() | 1, serial: 1})
	if err != nil {
		return nil, err
	}
	if err := l.settle(append(settings, resumed(false)...)); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *line) settle(b []byte) (err error) {
	if l.control, err = l.stream(b); err != nil {
		return err
	}
	select {
	case <-l.settings:
		return nil
	case <-l.qc.Context().Done():
		return context.Cause(l.qc.Context())
	case <-time.After(10 * time.Second):
		return errors.New("no settings of the node have come")
	}
}

// accept takes the node's streams: the control stream, and circuits that it
// opens, which there are none of.
func (l *line) accept() {
	for {
		s, err := l.qc.AcceptStream(context.Background())
		if err != nil {
			return
		}
		l.wg.Go(func() { l.listen(s) })
	}
}

// listen reads the node's control stream and answers pings.
func (l *line) listen(s *quicgo.Stream) {
	s.Close() // the other direction
	for {
		typ, body, err := transport.ReadFrame(s, 1<<20)
		if err != nil {
			return
		}
		switch typ {
		case frameSettings:
			l.first, _, _ = msgp.ReadUint64Bytes(body[1:])
			close(l.settings)
		case frameAck:
			l.take(body)
		case framePing:
			<-l.settings
			nonce, _, err := msgp.ReadUint64Bytes(body[1:])
			if err == nil && l.control != nil {
				l.write(pong(nonce))
			}
		}
	}
}

// write says something on the control stream, while others do.
func (l *line) write(b []byte) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.control.Write(b)
}

// take reads an ack.
func (l *line) take(body []byte) {
	n, rest, err := msgp.ReadArrayHeaderBytes(body[1:])
	l.mu.Lock()
	defer l.mu.Unlock()
	for range n {
		var v [3]uint64
		if err == nil {
			_, rest, err = msgp.ReadArrayHeaderBytes(rest)
		}
		for i := range v {
			if err == nil {
				v[i], rest, err = msgp.ReadUint64Bytes(rest)
			}
		}
		if err != nil {
			return
		}
		l.granted[v[0]] = max(l.granted[v[0]], v[2])
	}
	close(l.more)
	l.more = make(chan struct{})
}

// credit is what may be sent on a circuit, in cost.
func (l *line) credit(stream uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.granted[stream], l.first)
}

// await waits for credit, for two seconds.
func (l *line) await(stream, credit uint64) bool {
	late := time.After(2 * time.Second)
	for {
		l.mu.Lock()
		granted, more := max(l.granted[stream], l.first), l.more
		l.mu.Unlock()
		if granted >= credit {
			return true
		}
		select {
		case <-more:
		case <-late:
			return false
		case <-l.qc.Context().Done():
			return false
		}
	}
}

// stream opens a stream and writes b to it.
func (l *line) stream(b []byte) (*quicgo.Stream, error) {
	s, err := openStream(l.qc)
	if err != nil {
		return nil, err
	}
	s.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, err = s.Write(b)
	s.SetWriteDeadline(time.Time{})
	return s, err
}

func openStream(qc *quicgo.Conn) (*quicgo.Stream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return qc.OpenStreamSync(ctx)
}

// open opens a circuit and takes the answer: the seed of the peer, or a
// refusedError.
func (l *line) open(o opening) (*quicgo.Stream, id, error) {
	s, err := l.stream(o.frame())
	if err != nil {
		return nil, id{}, err
	}
	seed, err := answerOf(s)
	if err != nil {
		drop(s)
	}
	return s, seed, err
}

func answerOf(s *quicgo.Stream) (seed id, err error) {
	s.SetReadDeadline(time.Now().Add(10 * time.Second))
	defer s.SetReadDeadline(time.Time{})
	typ, body, err := transport.ReadFrame(s, 8<<10)
	if err != nil {
		return seed, err
	}
	switch typ {
	case frameAccept:
		b, _, err := msgp.ReadBytesZC(body[1:])
		if err == nil && len(b) == len(seed) {
			return id(b), nil
		}
		return seed, fmt.Errorf("accept of %x", body)
	case frameRefuse:
		return seed, refusedHello(body)
	}
	return seed, fmt.Errorf("the answer to open is a frame of type %#x", byte(typ))
}

// drop gives a stream up in both directions.
func drop(s *quicgo.Stream) {
	s.CancelRead(0)
	s.CancelWrite(0)
}

// close ends the connection as its owner would.
func (l *line) close() {
	l.qc.CloseWithError(0, "")
	l.wg.Wait()
}

// ended waits until the node has ended the connection, and returns the code.
func ended(qc *quicgo.Conn) (transport.Code, error) {
	select {
	case <-qc.Context().Done():
	case <-time.After(20 * time.Second):
		return 0, errors.New("the node has not closed the connection")
	}
	cause := context.Cause(qc.Context())
	if app, ok := errors.AsType[*quicgo.ApplicationError](cause); ok && app.Remote {
		return transport.Code(app.ErrorCode), nil
	}
	return 0, cause
}
