package circuit

import (
	"slices"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"ckt.local/transport"
)

//go:generate go tool msgp -file wire.go -o wire_gen.go -io=false -tests=false -unexported

// The frame types of this package; docs/wire.md gives the layout of each. The
// first frame of a stream says what the stream is for: settings make it the
// control stream of the side that opened it, open makes it a circuit's.
const (
	frameSettings transport.FrameType = 0x10
	frameAck      transport.FrameType = 0x11
	framePing     transport.FrameType = 0x12
	framePong     transport.FrameType = 0x13
	frameResumed  transport.FrameType = 0x14
	frameYield    transport.FrameType = 0x15
	frameWant     transport.FrameType = 0x16

	frameOpen   transport.FrameType = 0x20
	frameAccept transport.FrameType = 0x21
	frameRefuse transport.FrameType = 0x22
	frameData   transport.FrameType = 0x23
	frameFin    transport.FrameType = 0x24
)

const (
	// maxSmallFrame bounds every frame but data, and is more than any of
	// them can need.
	maxSmallFrame = 8 * 1024

	// maxDataOverhead is the most that a data frame has besides its payload.
	maxDataOverhead = maxArgsTotal + maxArgs*10 + maxSubject + maxErr + 128

	// fragmentOverhead is what a fragment costs of a window besides the bytes
	// of its frame: what the receiver spends on keeping it, so that a million
	// empty fragments are bounded too.
	fragmentOverhead = 512

	// argOverhead is what each pair of Args costs beside that: an entry of a
	// map and two strings. 64 pairs of short texts have been seen to take 90
	// bytes each.
	argOverhead = 128

	// maxAcks is the most circuits that one ack frame speaks of.
	maxAcks = 128

	// maxResumed is the most circuits that one side names as resumed on one
	// connection.
	maxResumed = 1 << 20
)

//msgp:tuple wireSettings wireAck wireAcks wirePing wirePong wireResumed wireYield wireWant wireOpen wireAccept wireRefuse wireFragment wireFin
//msgp:limit arrays:128 maps:64

// wireSettings is the first frame on each side's control stream.
type wireSettings struct {
	Window     uint64 // the credit that each circuit starts with
	MaxPayload uint64
	Features   uint64 // none are defined; unknown bits are ignored

	// LingerMillis is how long circuits outlive their connection; 0: they end
	// with it. The smaller one of both sides holds.
	LingerMillis uint64

	// Bounds of a fragment besides its payload: pairs of Args, bytes of their
	// keys and values, bytes of Err.
	MaxArgs     uint64
	MaxArgBytes uint64
	MaxText     uint64
}

// wireAcks acknowledges fragments of several circuits and gives them credit.
type wireAcks struct {
	Acks []wireAck `msg:",limit=128"`
}

type wireAck struct {
	Stream   uint64
	Received uint64 // every serial up to it is in the inbox
	Credit   uint64 // what all fragments up to one may cost in sum for it to be sent
}

type wirePing struct {
	Nonce   uint64 // a pong returns it
	Padding []byte `msg:",limit=256"`
}

type wirePong struct {
	Nonce uint64
}

// wireResumed names all circuits that its sender has opened and not done with,
// in one frame or several. It follows the settings of every connection.
type wireResumed struct {
	IDs  [][16]byte `msg:",limit=128"`
	More bool       // another frame follows
}

// wireYield gives back credit that its sender does not need. It holds if From
// is the credit that was given last, and is void otherwise.
type wireYield struct {
	Stream   uint64
	From, To uint64
}

// wireWant says that its sender waits for credit: with the next fragment, its
// fragments come to Next, and with all that wait to Upto. At is what they come
// to without.
type wireWant struct {
	Stream         uint64
	At, Next, Upto uint64
}

// wireOpen opens a circuit, or attaches one to another stream.
type wireOpen struct {
	CircuitID   [16]byte
	Generation  uint64   // 1, 2, 3 … with each attachment; the highest counts
	Resume      bool     // the circuit has been accepted; false: it is new, or nobody has answered yet
	Received    uint64   // last serial received
	Credit      uint64   // as in an ack; while the circuit is new: what the first fragment costs
	FromSeed    [16]byte // the opener's peer is FromSeed.Peer(its node)
	FromService string
	ToPeer      [16]byte // zeros: any instance
	ToService   string
	HasFirst    bool
	WaitMillis  uint64 // how long the opener waits for the answer
}

// The seed stands first: the generated code does not notice that an ID at the
// very end of a frame is cut.
type wireAccept struct {
	Seed       [16]byte // Seed.Peer(the acceptor's node) took the circuit
	Generation uint64   // of the open that it answers
	Received   uint64
	Credit     uint64
}

type wireRefuse struct {
	Code   uint64
	Reason string

	// With RefusedLimit: the limit's name and value, if they are known.
	Limit string
	Value uint64
}

// wireFragment stands at the front of a data frame; what follows it in the
// frame is the payload. (As a field of the tuple, the payload would be
// allocated by the generated code for the length it claims, before anything
// compares that with the length of the frame.)
type wireFragment struct {
	Serial  uint64
	Op      int64
	Subject string
	Part    int64
	Args    map[string]string `msg:",limit=64,allownil"`
	Err     string
}

// bareTail is what follows the serial in most fragments, which have a payload
// and nothing else. The generated code takes several times as long for it.
const bareTail = "\x00\xa0\x00\xc0\xa0"

// bare reports whether bareTail is all there is to say.
func (w *wireFragment) bare() bool {
	return w.Op == 0 && w.Subject == "" && w.Part == 0 && w.Args == nil && w.Err == ""
}

// append appends the tuple.
func (w *wireFragment) append(dst []byte) ([]byte, error) {
	if w.bare() {
		return append(msgp.AppendUint64(append(dst, 0x96), w.Serial), bareTail...), nil
	}
	return w.MarshalMsg(dst)
}

// parse reads the tuple, and returns what follows it. w is zero before.
func (w *wireFragment) parse(body []byte) (payload []byte, err error) {
	if len(body) > len(bareTail) && body[0] == 0x96 {
		serial, rest, err := msgp.ReadUint64Bytes(body[1:])
		if err == nil && len(rest) >= len(bareTail) && string(rest[:len(bareTail)]) == bareTail {
			w.Serial = serial
			return rest[len(bareTail):], nil
		}
	}
	return w.UnmarshalMsg(body)
}

// wireFin says that its sender has closed the circuit. It may overtake data:
// the receiver still gets every fragment up to Last.
type wireFin struct {
	Last   uint64
	Failed bool // Reason is an error's text
	Reason string
}

// A smallFrame is the body of such a frame.
type smallFrame interface {
	transport.Marshaler
	Msgsize() int
}

// appendSmall appends a frame of any type but data.
func appendSmall(dst []byte, typ transport.FrameType, m smallFrame) []byte {
	dst = slices.Grow(dst, transport.MaxFrameHeader+m.Msgsize()) // at once, and not for the header first
	dst, err := transport.AppendFrame(dst, typ, m)
	if err != nil {
		panic("circuit: own frame does not marshal: " + err.Error()) // the types above have no failing case
	}
	return dst
}

// cut shortens s to at most n bytes without breaking a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[:n]
	for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) {
		s = s[:len(s)-1]
	}
	return s
}
