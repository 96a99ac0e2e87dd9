package couriertest

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// A parcel is what a courier puts into a fragment: numbered, dated, addressed
// from one life of a process to another, and sealed with a hash.
type parcel struct {
	from, to uint32 // lives
	number   uint64 // 1, 2, 3 … on each circuit, in each direction
	sent     time.Time
}

const parcelHead = 4 + 4 + 8 + 8

var errSeal = errors.New("the seal is broken")

// pack makes a payload of about size bytes.
func (p parcel) pack(size int) []byte {
	b := make([]byte, 0, max(size, parcelHead+sha256.Size))
	b = binary.BigEndian.AppendUint32(b, p.from)
	b = binary.BigEndian.AppendUint32(b, p.to)
	b = binary.BigEndian.AppendUint64(b, p.number)
	b = binary.BigEndian.AppendUint64(b, uint64(p.sent.UnixNano()))
	filler := rand.New(rand.NewPCG(uint64(p.from), p.number))
	for len(b)+8 <= cap(b)-sha256.Size {
		b = binary.BigEndian.AppendUint64(b, filler.Uint64())
	}
	seal := sha256.Sum256(b)
	return append(b, seal[:]...)
}

func unpack(b []byte) (parcel, error) {
	if len(b) < parcelHead+sha256.Size {
		return parcel{}, fmt.Errorf("%d bytes are no parcel", len(b))
	}
	body := b[:len(b)-sha256.Size]
	if sha256.Sum256(body) != [sha256.Size]byte(b[len(body):]) {
		return parcel{}, errSeal
	}
	return parcel{
		from:   binary.BigEndian.Uint32(b),
		to:     binary.BigEndian.Uint32(b[4:]),
		number: binary.BigEndian.Uint64(b[8:]),
		sent:   time.Unix(0, int64(binary.BigEndian.Uint64(b[16:]))),
	}, nil
}
