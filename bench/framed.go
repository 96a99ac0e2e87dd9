package main

import (
	"bufio"
	"encoding/binary"
	"io"
)

// frameHead is the length of a message, before the message.
const frameHead = 4

// framed makes a channel of a byte stream: messages with their length before
// them, and a buffer in each direction.
type framed struct {
	raw  io.ReadWriteCloser
	r    *bufio.Reader
	w    *bufio.Writer
	head [frameHead]byte
	long []byte // for a message that r's buffer does not hold

	// lazy writes out what is pending only when receive is about to wait, as
	// a good server does. Only for channels that one goroutine uses.
	lazy bool
}

var _ channel = (*framed)(nil)

func newFramed(raw io.ReadWriteCloser, c crowd) *framed {
	read, write := c.buffers()
	return &framed{raw: raw, r: bufio.NewReaderSize(raw, read), w: bufio.NewWriterSize(raw, write)}
}

// serveFramed answers the messages on a byte stream.
func serveFramed(raw io.ReadWriteCloser, c crowd) error {
	f := newFramed(raw, c)
	f.lazy = true
	return answer(f)
}

// openFramed makes a channel of a byte stream that was just opened.
func openFramed(raw io.ReadWriteCloser, c crowd, first []byte) (channel, error) {
	f := newFramed(raw, c)
	if first == nil {
		return f, nil
	}
	return f, post(f, first)
}

// post sends a message that somebody waits for.
func post(ch channel, msg []byte) error {
	if err := ch.send(msg); err != nil {
		return err
	}
	return ch.flush()
}

func (f *framed) send(msg []byte) error {
	binary.BigEndian.PutUint32(f.head[:], uint32(len(msg)))
	if _, err := f.w.Write(f.head[:]); err != nil {
		return err
	}
	_, err := f.w.Write(msg)
	return err
}

func (f *framed) flush() error { return f.w.Flush() }

func (f *framed) receive(take func([]byte) bool) error {
	for {
		msg, err := f.next()
		if err != nil {
			return err
		}
		more := take(msg)
		if len(msg)+frameHead <= f.r.Size() {
			f.r.Discard(len(msg)) // it is buffered, so this cannot fail
		}
		if !more {
			return nil
		}
	}
}

// next returns a message, which is still in r if that can hold one so long.
func (f *framed) next() ([]byte, error) {
	head, err := f.peek(frameHead)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(head))
	f.r.Discard(frameHead)
	if size+frameHead <= f.r.Size() {
		return f.peek(size)
	}
	if size > cap(f.long) {
		f.long = make([]byte, size)
	}
	if err := f.beforeWait(size); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(f.r, f.long[:size])
	return f.long[:size], err
}

func (f *framed) peek(n int) ([]byte, error) {
	if err := f.beforeWait(n); err != nil {
		return nil, err
	}
	return f.r.Peek(n)
}

// beforeWait writes out what is pending if n bytes are not here yet.
func (f *framed) beforeWait(n int) error {
	if !f.lazy || f.r.Buffered() >= n || f.w.Buffered() == 0 {
		return nil
	}
	return f.w.Flush()
}

func (f *framed) close() error {
	f.w.Flush() // if the other side has gone, closing is what is left
	return f.raw.Close()
}
