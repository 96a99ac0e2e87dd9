package circuit

import (
	"crypto/rand"
	"fmt"

	"ckt.local/transport/identity"
)

// An ID names a running peer or a circuit: 128 random bits. The zero ID names
// nothing.
type ID [16]byte

// NewID returns a random ID.
func NewID() ID {
	var id ID
	rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return id
}

// ParseID reads what [ID.String] prints.
func ParseID(s string) (ID, error) {
	var id ID
	if err := identity.DecodeID(s, id[:]); err != nil {
		return ID{}, fmt.Errorf("circuit: bad ID %.40q: %w", s, err)
	}
	return id, nil
}

// String returns the ID as 26 characters of z-base-32, and "" for the zero ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return identity.EncodeID(id[:])
}

// IsZero reports whether the ID names nothing.
func (id ID) IsZero() bool { return id == ID{} }
