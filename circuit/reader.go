package circuit

import (
	"io"

	"ckt.local/transport"
)

// A frameReader cuts the bytes of a stream into frames. One goroutine owns
// it. While it waits for the first byte of a frame it holds no buffer.
type frameReader struct {
	r     io.Reader
	pool  *buffers
	limit int32 // of type and body
	skip  int32 // bytes still to be skipped

	// admit is asked about a frame that does not fit a pooled buffer, before
	// there is another one for it: head is its beginning, size what it has in
	// all. The reader may skip it. Nil: all are let through.
	admit    func(head []byte, size int) (skip bool, err error)
	admitted bool // it has been asked about the frame at r0

	idle [16]byte // what it waits with
	buf  []byte   // nil while idle
	long *memory  // what buf is a part of; nil: a pooled buffer
	r0   int      // unread bytes are buf[r0:r1]
	r1   int
}

// next returns the next frame. body is valid until the next call.
func (fr *frameReader) next() (typ transport.FrameType, body []byte, err error) {
	for {
		fr.skipBuffered()
		if fr.r0 < fr.r1 {
			typ, body, n, err := transport.ParseFrame(fr.buf[fr.r0:fr.r1], int(fr.limit))
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
	n := min(int(fr.skip), fr.r1-fr.r0)
	fr.r0 += n
	fr.skip -= int32(n)
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
// does not fit the pooled buffer gets one of its own, at once if it was
// admitted, which is to say that memory is booked for it. Without anybody to
// ask it grows as its bytes arrive: a length alone makes nobody allocate.
func (fr *frameReader) makeRoom() error {
	size, err := transport.FrameSize(fr.buf[fr.r0:fr.r1], int(fr.limit))
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
			fr.skip, fr.admitted = int32(size), false
			return nil
		}
		if err != nil {
			return err
		}
		return fr.makeRoom()
	default:
		if fr.admit == nil {
			size = min(size, 4*len(fr.buf))
		}
		grown := fr.pool.allot(size)
		copy(grown.bytes, fr.buf[fr.r0:fr.r1])
		fr.giveBack()
		fr.buf, fr.long = grown.bytes[:size], grown
	}
	fr.r0, fr.r1 = 0, have
	return nil
}

// admitHead is how much of a frame shows its type and its serial.
const admitHead = 32

// ahead reports whether n whole data frames stand behind the one that next has
// returned last.
func (fr *frameReader) ahead(n int) bool {
	b := fr.buf[fr.r0:fr.r1]
	for range n {
		typ, _, size, err := transport.ParseFrame(b, int(fr.limit))
		if err != nil || size == 0 || typ != frameData {
			return false
		}
		b = b[size:]
	}
	return true
}

// hand gives away what holds the body that next has returned last, if it holds
// nothing else; nil: the body is valid until the next call of next only.
func (fr *frameReader) hand() *memory {
	m := fr.long
	if m == nil || fr.r0 < fr.r1 {
		return nil
	}
	fr.buf, fr.long, fr.r0, fr.r1 = nil, nil, 0, 0
	return m
}

// release gives the buffer back.
func (fr *frameReader) release() {
	fr.giveBack()
	fr.buf, fr.r0, fr.r1 = nil, 0, 0
}

func (fr *frameReader) giveBack() {
	switch {
	case fr.long != nil:
		fr.long.free()
		fr.long = nil
	case fr.buf != nil:
		fr.pool.put(fr.buf)
	}
}
