package transport

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A FrameType is the byte that says how the body of a frame is to be read.
// docs/wire.md lists them all; each is used by one package only.
type FrameType byte

// Optional reports whether a receiver that does not know the type may skip
// the frame. An unknown frame of another type breaks the protocol.
func (t FrameType) Optional() bool { return t >= 0x80 }

// MaxFrameHeader is the most bytes that stand before the body of a frame: a
// length of up to 4 bytes and the type.
const MaxFrameHeader = 5

// maxFrameLen is what a length of 4 bytes of 7 bits can say.
const maxFrameLen = 1<<28 - 1

// A FrameError says that bytes from the other side are no frame. The stream
// they came from cannot be read any further.
type FrameError struct {
	Len   int // what the frame says its length is; 0 when the length itself is broken
	Limit int
}

// Error names the length and the limit.
func (e *FrameError) Error() string {
	if e.Len == 0 {
		return "transport: broken frame length"
	}
	return fmt.Sprintf("transport: frame of %d bytes is over the limit of %d", e.Len, e.Limit)
}

// AppendFrameHeader appends to dst the header of a frame whose body has n
// bytes. The length on the wire counts the type and the body.
func AppendFrameHeader(dst []byte, typ FrameType, n int) []byte {
	dst = binary.AppendUvarint(dst, uint64(n)+1)
	return append(dst, byte(typ))
}

// A Marshaler appends the body of a frame; generated msgp code has the method.
type Marshaler interface {
	MarshalMsg(b []byte) ([]byte, error)
}

// AppendFrame appends to dst a frame of type typ with m as its body.
func AppendFrame(dst []byte, typ FrameType, m Marshaler) ([]byte, error) {
	// The body is marshalled behind the longest header it can have and then
	// moved up to the header it has.
	var gap [MaxFrameHeader]byte
	start := len(dst) + MaxFrameHeader
	body, err := m.MarshalMsg(append(dst, gap[:]...))
	if err != nil {
		return nil, err
	}
	n := len(body) - start
	head := AppendFrameHeader(body[:len(dst)], typ, n)
	copy(body[len(head):], body[start:])
	return body[:len(head)+n], nil
}

// ParseFrame takes one frame from the front of b. It returns the frame's type
// and body, which aliases b, and how many bytes it took; 0 bytes means that b
// ends before the frame does. A frame of more than limit bytes, type and body
// together, is a [FrameError] as soon as its length is known.
func ParseFrame(b []byte, limit int) (typ FrameType, body []byte, size int, err error) {
	n, head, err := frameLen(b, limit)
	if err != nil || head == 0 || len(b) < head+n {
		return 0, nil, 0, err
	}
	return FrameType(b[head]), b[head+1 : head+n], head + n, nil
}

// FrameSize returns how many bytes the frame at the front of b has, header
// included; 0 means that b ends before its length does.
func FrameSize(b []byte, limit int) (int, error) {
	n, head, err := frameLen(b, limit)
	if err != nil || head == 0 {
		return 0, err
	}
	return head + n, nil
}

// FrameStart returns the type of the frame at the front of b, and what is there
// of its body; 0 and nil if b ends before.
func FrameStart(b []byte) (typ FrameType, body []byte) {
	_, head := binary.Uvarint(b[:min(len(b), MaxFrameHeader-1)])
	if head <= 0 || head >= len(b) {
		return 0, nil
	}
	return FrameType(b[head]), b[head+1:]
}

func frameLen(b []byte, limit int) (n, head int, err error) {
	v, head := binary.Uvarint(b[:min(len(b), MaxFrameHeader-1)])
	switch {
	case head == 0 && len(b) < MaxFrameHeader-1:
		return 0, 0, nil
	case head <= 0 || v == 0 || v > maxFrameLen:
		return 0, 0, &FrameError{Limit: limit}
	case v > uint64(limit):
		return 0, 0, &FrameError{Len: int(v), Limit: limit}
	}
	return int(v), head, nil
}

// ReadFrame reads one frame of at most limit bytes, type and body together,
// and not a byte beyond it. It allocates what the frame says it needs, so the
// limit should be small: it is meant for handshakes.
func ReadFrame(r io.Reader, limit int) (FrameType, []byte, error) {
	var head [MaxFrameHeader - 1]byte
	for i := range head {
		if _, err := io.ReadFull(r, head[i:i+1]); err != nil {
			if i > 0 && err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
		n, size, err := frameLen(head[:i+1], limit)
		if err != nil {
			return 0, nil, err
		}
		if size == 0 {
			continue
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
		return FrameType(b[0]), b[1:], nil
	}
	return 0, nil, &FrameError{Limit: limit}
}
