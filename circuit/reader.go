package circuit

import (
	"io"
	"sync"

	"ckt.local/transport"
)

// bufSize is the size of the pooled buffers that frames are read into and
// written from. It holds hundreds of small frames, so that they share one
// call, and is a small part of a window.
const bufSize = 32 * 1024

// bufPool lends the buffers of all busy circuits of a node; an idle circuit
// holds none. It is not one for each link: what a link leaves in it when it
// ends would be of no use to anybody, and be kept until the second collection.
type bufPool struct{ p sync.Pool }

func (p *bufPool) get() []byte {
	if b, ok := p.p.Get().(*[bufSize]byte); ok {
		return b[:]
	}
	return make([]byte, bufSize)
}

func (p *bufPool) put(b []byte) {
	if cap(b) == bufSize {
		p.p.Put((*[bufSize]byte)(b[:bufSize]))
	}
}

// A frameReader cuts the bytes of a stream into frames. One goroutine owns
// it. While it waits for the first byte of a frame it holds no buffer.
type frameReader struct {
	r     io.Reader
	pool  *bufPool
	limit int // of type and body

	idle [16]byte // what it waits with
	buf  []byte   // nil while idle
	r0   int      // unread bytes are buf[r0:r1]
	r1   int
}

// next returns the next frame. body is valid until the next call.
func (fr *frameReader) next() (typ transport.FrameType, body []byte, err error) {
	for {
		if fr.r0 < fr.r1 {
			typ, body, n, err := transport.ParseFrame(fr.buf[fr.r0:fr.r1], fr.limit)
			if err != nil || n > 0 {
				fr.r0 += n
				return typ, body, err
			}
		}
		if err := fr.fill(); err != nil {
			return 0, nil, err
		}
	}
}

// fill reads more bytes, at least one. io.EOF inside a frame is
// io.ErrUnexpectedEOF.
func (fr *frameReader) fill() error {
	if fr.r0 == fr.r1 {
		fr.release()
		n, err := fr.r.Read(fr.idle[:])
		if n == 0 {
			return err
		}
		fr.buf = fr.pool.get()
		fr.r1 = copy(fr.buf, fr.idle[:n])
		return nil // perhaps a whole frame, so look at it before waiting for more
	}
	if err := fr.makeRoom(); err != nil {
		return err
	}
	n, err := fr.r.Read(fr.buf[fr.r1:])
	fr.r1 += n
	if n > 0 {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// makeRoom makes buf larger than the unread part of a frame. A frame that
// does not fit the pooled buffer gets one of its own, which grows as its
// bytes arrive: a length alone makes nobody allocate.
func (fr *frameReader) makeRoom() error {
	size, err := transport.FrameSize(fr.buf[fr.r0:fr.r1], fr.limit)
	if err != nil {
		return err
	}
	have := fr.r1 - fr.r0
	switch {
	case fr.r1 < len(fr.buf) && (size == 0 || size <= len(fr.buf)-fr.r0):
		return nil
	case max(size, have+1) <= len(fr.buf):
		copy(fr.buf, fr.buf[fr.r0:fr.r1])
	case fr.r1 < len(fr.buf):
		return nil // more of a long frame fits behind what is there
	default:
		grown := make([]byte, min(size, 4*len(fr.buf)))
		copy(grown, fr.buf[fr.r0:fr.r1])
		fr.pool.put(fr.buf)
		fr.buf = grown
	}
	fr.r0, fr.r1 = 0, have
	return nil
}

// owned reports whether the body that next returned last will not be used
// again by the reader: a long frame has a buffer of its own.
func (fr *frameReader) owned() bool { return cap(fr.buf) > bufSize }

// release gives the buffer back.
func (fr *frameReader) release() {
	if fr.buf != nil {
		fr.pool.put(fr.buf)
	}
	fr.buf, fr.r0, fr.r1 = nil, 0, 0
}
