package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// The first byte of a message says what the server does with it.
const (
	kindEcho    = 'e' // send it back
	kindSwallow = 's' // count it
	kindDone    = 'd' // answer with what was counted since the last one
)

// message makes one of that many bytes, at least 1.
func message(kind byte, size int) []byte {
	m := make([]byte, max(size, 1))
	for i := range m {
		m[i] = byte(i*7 + 13)
	}
	m[0] = kind
	return m
}

// A tally is what was swallowed.
type tally struct{ messages, bytes uint64 }

// tallySize is the length of the answer to [kindDone].
const tallySize = 17

func (t tally) encode() []byte {
	b := make([]byte, 0, tallySize)
	b = append(b, kindDone)
	b = binary.BigEndian.AppendUint64(b, t.messages)
	return binary.BigEndian.AppendUint64(b, t.bytes)
}

func decodeTally(b []byte) (tally, error) {
	if len(b) != tallySize || b[0] != kindDone {
		return tally{}, fmt.Errorf("an answer of %d bytes is no count", len(b))
	}
	return tally{binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:])}, nil
}

// A session is the server's side of one channel. Its counters are atomic for
// contenders that serve one channel with several goroutines.
type session struct{ messages, bytes atomic.Uint64 }

// take returns the answer to one message, nil for none. It may be the message
// itself.
func (s *session) take(msg []byte) ([]byte, error) {
	if len(msg) == 0 {
		return nil, errors.New("an empty message")
	}
	switch msg[0] {
	case kindEcho:
		return msg, nil
	case kindSwallow:
		s.messages.Add(1)
		s.bytes.Add(uint64(len(msg)))
		return nil, nil
	case kindDone:
		return tally{s.messages.Swap(0), s.bytes.Swap(0)}.encode(), nil
	}
	return nil, fmt.Errorf("a message of kind %q", msg[0])
}

// answer serves one channel until its end, and closes it.
func answer(ch channel) error {
	var s session
	var broken error
	err := ch.receive(func(msg []byte) bool {
		broken = s.reply(ch, msg)
		return broken == nil
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, broken, ch.close())
}

func (s *session) reply(ch channel, msg []byte) error {
	back, err := s.take(msg)
	if err != nil || back == nil {
		return err
	}
	return ch.send(back)
}
