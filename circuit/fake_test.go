package circuit

import (
	"context"
	"crypto/ed25519"
	"io"
	"os"
	"sync"
	"time"

	"ckt.local/transport"
)

// A fakeConn is a Conn without another side: streams that are opened on it
// swallow what is written, and nobody opens any.
type fakeConn struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	streams []*fakeStream
	full    bool // no more streams are opened by OpenStream
}

var _ transport.Conn = (*fakeConn)(nil)

func newFakeConn() *fakeConn {
	k := &fakeConn{}
	k.ctx, k.cancel = context.WithCancelCause(context.Background())
	return k
}

func (k *fakeConn) Info() transport.ConnInfo {
	key := make(ed25519.PublicKey, ed25519.PublicKeySize)
	key[0] = 1 // the zero NodeID is nobody, and has no account
	return transport.ConnInfo{RemoteKey: key}
}

func (k *fakeConn) OpenStream(context.Context) (transport.Stream, error) {
	k.mu.Lock()
	full := k.full
	k.mu.Unlock()
	if full {
		return nil, transport.ErrLost
	}
	return k.stream(), nil
}

func (k *fakeConn) AcceptStream(context.Context) (transport.Stream, error) {
	<-k.ctx.Done()
	return nil, context.Cause(k.ctx)
}

func (k *fakeConn) Context() context.Context { return k.ctx }

func (k *fakeConn) Close(transport.Code, string) error {
	k.cancel(transport.ErrClosed)
	return nil
}

func (k *fakeConn) stream() *fakeStream {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := &fakeStream{id: uint64(4 * len(k.streams)), gone: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	context.AfterFunc(k.ctx, func() { s.Reset(transport.CodeClosed) })
	k.streams = append(k.streams, s)
	return s
}

// writtenBytes is what was written to all streams.
func (k *fakeConn) writtenBytes() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, s := range k.streams {
		s.mu.Lock()
		n += s.written
		s.mu.Unlock()
	}
	return n
}

// A fakeStream swallows what is written, or holds it up. Reading waits for a
// Reset.
type fakeStream struct {
	id   uint64
	gone chan struct{} // closed by Reset

	ctx    context.Context // ends with it
	cancel context.CancelFunc

	once sync.Once

	mu      sync.Mutex
	stuck   bool // writing waits for a Reset or the deadline
	by      time.Time
	closed  bool
	written int
	record  []byte // what was written, if it is not nil
}

var _ transport.Stream = (*fakeStream)(nil)

func (s *fakeStream) Read([]byte) (int, error) {
	<-s.gone
	return 0, transport.ErrClosed
}

func (s *fakeStream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stuck {
		late := make(<-chan time.Time)
		if !s.by.IsZero() {
			late = time.After(time.Until(s.by))
		}
		s.mu.Unlock()
		select {
		case <-s.gone:
		case <-late:
		}
		s.mu.Lock()
		if len(late) > 0 || !s.by.IsZero() && !time.Now().Before(s.by) {
			return 0, os.ErrDeadlineExceeded
		}
	}
	select {
	case <-s.gone:
		return 0, transport.ErrClosed
	default:
	}
	if s.closed {
		return 0, io.ErrClosedPipe
	}
	s.written += len(p)
	if s.record != nil {
		s.record = append(s.record, p...)
	}
	return len(p), nil
}

func (s *fakeStream) TryWrite(p []byte) (ok bool, err error) {
	s.mu.Lock()
	stuck := s.stuck
	s.mu.Unlock()
	if stuck {
		return false, nil
	}
	_, err = s.Write(p)
	return err == nil, err
}

func (s *fakeStream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by = t
	return nil
}

// block makes further writing wait, and the end of it.
func (s *fakeStream) block() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck = true
}

func (s *fakeStream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stuck {
		s.mu.Unlock()
		<-s.gone
		s.mu.Lock()
		return transport.ErrClosed
	}
	s.closed = true
	return nil
}

func (s *fakeStream) ID() uint64                      { return s.id }
func (s *fakeStream) Context() context.Context        { return s.ctx }
func (s *fakeStream) Reset(transport.Code)            { s.once.Do(func() { close(s.gone); s.cancel() }) }
func (s *fakeStream) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }
func (s *fakeStream) Prioritize(transport.Priority)   {}

// A fakeOwner counts.
type fakeOwner struct {
	mu             sync.Mutex
	added, removed int
}

func (o *fakeOwner) AddCircuit(*Circuit) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.added++
	return nil
}

func (o *fakeOwner) RemoveCircuit(*Circuit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.removed++
}

// newFakeLink returns a link without another side that has had its settings.
func newFakeLink(cfg Config, remote wireSettings) (*Link, error) {
	l := NewLink(newFakeConn(), nil, cfg)
	body, err := remote.MarshalMsg(nil)
	if err == nil {
		err = l.carrier().takeSettings(body)
	}
	return l, err
}

// fakeSeed is the seed of the peer at the other end of every fake circuit.
var fakeSeed = ID{1, 2, 3}

// A fakeCircuit is a circuit whose frames the test hands in.
type fakeCircuit struct {
	*Circuit
	at   *attachment
	pipe *fakeStream
	over *attachment // the latest whose stream has ended
}

// newFakeCircuit returns a circuit that is registered and owned, and not
// attached.
func newFakeCircuit(l *Link, o Owner) (*fakeCircuit, error) {
	if err := l.bookStart(); err != nil {
		return nil, err
	}
	c := newCircuit(l, NewID(), end{NewID(), "any"}, end{fakeSeed.Peer(l.node), "any"}, ID{})
	if err := l.register(c); err != nil {
		return nil, err
	}
	return &fakeCircuit{Circuit: c}, c.own(o)
}

// attachFake gives the circuit a stream that nobody reads from: the test hands
// frames to f.at instead.
func (f *fakeCircuit) attachFake(change func(s *state, a *attachment)) {
	car := f.link.carrier()
	f.pipe = car.conn.(*fakeConn).stream()
	f.pipe.record = []byte{}
	f.at = newAttachment(f.Circuit, car, f.pipe)
	f.at.reading = true
	car.mu.Lock()
	car.streams[f.pipe.id] = f.at // without car.add, for nobody answers pings here
	car.mu.Unlock()
	f.update(func(s *state) {
		s.readers++
		s.gen++
		f.at.gen = s.gen
		change(s, f.at)
	})
}

// detachFake ends the attachment and its stream, unless that is done.
func (f *fakeCircuit) detachFake(err error) {
	f.at.end(err, transport.CodeClosed)
	f.endFake(err)
}

// grantedFake is the credit that this side has given.
func (f *fakeCircuit) grantedFake() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Circuit.s.granted
}

// endFake ends the attachment's stream, unless that is done.
func (f *fakeCircuit) endFake(err error) {
	if f.over != f.at {
		f.over = f.at
		f.at.readEnded(err)
	}
}

// acceptFake opens the circuit as one of the other side's.
func (f *fakeCircuit) acceptFake() {
	f.accepted = true
	f.attachFake(func(s *state, a *attachment) {
		s.confirmed = true
		f.begin(s, a, &wireOpen{})
	})
}

// openFake sends the opening as one of this side's. The answer goes to the
// channel.
func (f *fakeCircuit) openFake(answer chan<- error) {
	f.attachFake(func(s *state, a *attachment) {
		s.opening = answer
		a.handshake = f.openFrame(s)
		s.take(a)
	})
}

// body returns the body of a frame.
func body(m transport.Marshaler, payload ...byte) []byte {
	b, err := m.MarshalMsg(nil)
	if err != nil {
		panic(err)
	}
	return append(b, payload...)
}

// frameBytes is a frame with that body.
func frameBytes(typ transport.FrameType, body []byte) []byte {
	return append(transport.AppendFrameHeader(nil, typ, len(body)), body...)
}
