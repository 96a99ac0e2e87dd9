package quic

import (
	"context"
	"errors"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
)

var _ transport.Stream = (*stream)(nil)

// A stream translates the errors of a QUIC stream.
type stream struct {
	qs    *quicgo.Stream
	c     *conn
	tally tally
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.qs.Read(p)
	err = s.c.streamError(err)
	s.taken(n, err)
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.qs.Write(p)
	return n, s.c.streamError(err)
}

func (s *stream) TryWrite(p []byte) (ok bool, err error) {
	err = s.qs.TryWriteAll(p)
	if errors.Is(err, quicgo.ErrWouldBlock) {
		return false, nil
	}
	return err == nil, s.c.streamError(err)
}

func (s *stream) Close() error {
	if s.qs.Close() == nil {
		return nil
	}
	// Somebody has reset the stream. Close does not say who, an empty Write does.
	_, err := s.Write(nil)
	return err
}

func (s *stream) ID() uint64 { return uint64(s.qs.StreamID()) }

func (s *stream) Context() context.Context { return s.qs.Context() }

func (s *stream) Reset(code transport.Code) {
	s.qs.CancelRead(quicgo.StreamErrorCode(code))
	s.qs.CancelWrite(quicgo.StreamErrorCode(code))
	s.taken(0, transport.ErrClosed)
}

func (s *stream) SetReadDeadline(t time.Time) error  { return s.qs.SetReadDeadline(t) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.qs.SetWriteDeadline(t) }

func (s *stream) Prioritize(p transport.Priority) {
	// Urgencies of RFC 9218, 0 to 7; 3 is what a new stream has.
	urgency := int8(3)
	switch p {
	case transport.Urgent:
		urgency = 1
	case transport.Bulk:
		urgency = 5
	}
	s.qs.SetPriority(urgency, true)
}
