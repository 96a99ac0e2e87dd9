package quic

import (
	"fmt"

	"github.com/tinylib/msgp/msgp"

	"ckt.local/transport"
)

//go:generate go tool msgp -file hello.go -o hello_gen.go -unexported -io=false -tests=false

//msgp:limit arrays:32 maps:0
//msgp:tuple hello welcome refusal

// The frames of the first stream of a connection. The stream number and the
// limit are part of the wire format (docs/wire.md).
const (
	typeHello   transport.FrameType = 0x01 // dialler to acceptor
	typeWelcome transport.FrameType = 0x02 // acceptor to dialler: yes
	typeRefusal transport.FrameType = 0x03 // acceptor to dialler: no, and why

	helloLimit = 1 << 10 // bytes of a frame, type and body together
)

// minor is the protocol's minor version. The major is in the ALPN, so two
// majors never get as far as hello. A newer minor may append elements to the
// tuples below, which an older one skips; whatever it must not skip gets a
// feature bit that the older side does not echo.
const minor = 0

// A hello is the dialler's first word.
type hello struct {
	Minor     uint
	Features  uint64
	BootNonce uint64
	Serial    uint64   // the dialler's number for the connection, never 0
	Replace   uint64   // refusal.Holds of the connection that the dialler has lost; 0: none
	Proofs    [][]byte // of the pre-shared keys that the dialler has, at most maxPSKs of proofLen bytes
}

// A welcome is the acceptor's yes. The dialler takes it by ending the stream.
type welcome struct {
	Minor     uint
	Features  uint64 // those of the hello that the acceptor knows too
	BootNonce uint64
	Floor     uint64 // the acceptor's own dials with smaller numbers are decided
	Proof     []byte // of the pre-shared key that both have; empty: there is none
}

// A refusal is the acceptor's no.
type refusal struct {
	Code   uint64 // a transport.Code
	Reason string // at most transport.MaxReason bytes

	// With transport.CodeDuplicate only, so that strangers learn nothing:
	// which node refuses, its number for the connection that it holds, and the
	// dialler's number for that one, 0 if the acceptor has dialled it.
	BootNonce uint64
	Holds     uint64
	Yours     uint64

	// With transport.CodeLimit only: which limit is reached, and its value, as
	// a transport.LimitError has them. Empty: one without a name.
	Limit string
	Value uint64
}

// How many elements this minor knows of each tuple.
const (
	helloLen   = 6
	welcomeLen = 5
	refusalLen = 7
)

// parseTuple reads into m, which has want elements, a tuple that may have more.
func parseTuple(body []byte, want uint32, m msgp.Unmarshaler) error {
	n, rest, err := msgp.ReadArrayHeaderBytes(body)
	if err != nil {
		return fmt.Errorf("tuple: %w", err)
	}
	if n < want {
		return fmt.Errorf("tuple of %d elements, not %d", n, want)
	}
	// The generated reader insists on its own number of elements: give it a
	// header with that number. What follows the known elements stays unread.
	known := append(msgp.AppendArrayHeader(make([]byte, 0, 1+len(rest)), want), rest...)
	left, err := m.UnmarshalMsg(known)
	if err != nil {
		return fmt.Errorf("tuple: %w", err)
	}
	if n == want && len(left) > 0 {
		return fmt.Errorf("tuple: %d bytes too many", len(left))
	}
	return nil
}

// parseHello, parseWelcome and parseRefusal read the bodies of the frames.
func parseHello(body []byte) (h hello, err error) {
	if err = parseTuple(body, helloLen, &h); err != nil {
		return hello{}, err
	}
	if len(h.Proofs) > maxPSKs {
		return hello{}, fmt.Errorf("%d proofs", len(h.Proofs))
	}
	for _, proof := range h.Proofs {
		if len(proof) != proofLen {
			return hello{}, fmt.Errorf("a proof of %d bytes", len(proof))
		}
	}
	return h, nil
}

func parseWelcome(body []byte) (w welcome, err error) {
	if err = parseTuple(body, welcomeLen, &w); err != nil {
		return welcome{}, err
	}
	if n := len(w.Proof); n != 0 && n != proofLen {
		return welcome{}, fmt.Errorf("a proof of %d bytes", n)
	}
	return w, nil
}

func parseRefusal(body []byte) (r refusal, err error) {
	if err = parseTuple(body, refusalLen, &r); err != nil {
		return refusal{}, err
	}
	r.Reason = cut(r.Reason)
	return r, nil
}
