package circuit

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"ckt.local/transport/identity"
)

// An ID names a circuit, by 128 random bits, or a running peer, by a hash of
// 128 random bits and its node's key: see [ID.Peer]. The zero ID names nothing.
type ID [16]byte

// NewID returns a random ID.
func NewID() ID {
	var id ID
	rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return id
}

// Peer returns the ID of a peer that node runs, with id as the peer's seed: the
// first 128 bits of SHA-256 over peerLabel, the node's key and the seed. What
// travels is the seed, and each side works the ID out from the key that the
// other has proved. So no node can give its peers the ID of another node's,
// and a peer ID says whose peer it is.
func (id ID) Peer(node identity.NodeID) ID {
	h := sha256.New()
	h.Write([]byte(peerLabel))
	h.Write(node[:])
	h.Write(id[:])
	return ID(h.Sum(nil)[:len(ID{})])
}

// peerLabel keeps the hash of a peer ID apart from hashes of anything else.
const peerLabel = "ckt peer ID 1\x00"

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
