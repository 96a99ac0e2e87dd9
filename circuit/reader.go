package circuit

import (
	"io"
	"sync"

	"ckt.local/transport"
)

// bufSize is the size of the pooled buffers that frames are read into and
// written from. It holds hundreds of small frames, so that they share one
// call, and is no more than what each circuit has for certain.
const bufSize = 16 * 1024

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

	// admit is asked about a frame that does not fit a pooled buffer, before
	// there is another one for it: head is its beginning, size what it has in
	// all. The reader may skip it. Nil: all are let through.
	admit    func(head []byte, size int) (skip bool, err error)
	admitted bool // it has been asked about the frame at r0
	skip     int  // bytes still to be skipped

	idle [16]byte // what it waits with
	buf  []byte   // nil while idle
	r0   int      // unread bytes are buf[r0:r1]
	r1   int
}

// next returns the next frame. body is valid until the next call.
func (fr *frameReader) next() (typ transport.FrameType, body []byte, err error) {
	for {
		fr.skipBuffered()
		if fr.r0 < fr.r1 {
			typ, body, n, err := transport.ParseFrame(fr.buf[fr.r0:fr.r1], fr.limit)
			if err != nil || n > 0 {
				fr.r0 += n
				fr.admitted = false
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
	if fr.skip > 0 {
		fr.r0, fr.r1 = 0, 0
		return fr.read(fr.buf)
	}
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
	if fr.skip > 0 {
		return nil
	}
	return fr.read(fr.buf[fr.r1:])
}

// skipBuffered drops what is here of a frame that is skipped.
func (fr *frameReader) skipBuffered() {
	n := min(fr.skip, fr.r1-fr.r0)
	fr.r0 += n
	fr.skip -= n
}

// read reads the rest of a frame into b, the end of buf.
func (fr *frameReader) read(b []byte) error {
	n, err := fr.r.Read(b)
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
	case fr.admit != nil && !fr.admitted && have < admitHead:
		copy(fr.buf, fr.buf[fr.r0:fr.r1]) // enough for a judgement first
	case fr.admit != nil && !fr.admitted:
		skip, err := fr.admit(fr.buf[fr.r0:fr.r1], size)
		if fr.admitted = true; skip {
			fr.skip, fr.admitted = size, false
			return nil
		}
		if err != nil {
			return err
		}
		return fr.makeRoom()
	default:
		grown := make([]byte, min(size, 4*len(fr.buf)))
		copy(grown, fr.buf[fr.r0:fr.r1])
		fr.pool.put(fr.buf)
		fr.buf = grown
	}
	fr.r0, fr.r1 = 0, have
	return nil
}

// admitHead is how much of a frame shows its type and its serial.
const admitHead = 32

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
