// Package identity holds who a node is and whom it trusts: node keys and
// their IDs, OpenSSH key files and agents, the self-signed certificates that
// carry a node key through TLS, and the authorized_peers file.
//
// A node is its ed25519 key and nothing else: no names, no authorities, no
// dates. Everything here fails closed. A file that others may change, a line
// that cannot be read, a certificate that is not exactly what it should be:
// each is a no, with a typed error that says why.
package identity

import (
	"crypto/ed25519"
	"encoding/base32"
)

// A NodeID is a node's ed25519 public key. The zero NodeID is nobody's: no
// function of this package that reads foreign input returns it without an
// error, so it can stand for "not known".
type NodeID [ed25519.PublicKeySize]byte

// zBase32 is Zooko's alphabet: lower case, and without the characters that
// people mistake for one another.
var zBase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// NodeIDOf returns the NodeID of key. A key of the wrong length gives the
// zero NodeID.
func NodeIDOf(key ed25519.PublicKey) NodeID {
	if len(key) != ed25519.PublicKeySize {
		return NodeID{}
	}
	return NodeID(key)
}

// ParseNodeID reads what [NodeID.String] writes, and nothing else: there is
// exactly one text for each NodeID. The error is an [IDError].
func ParseNodeID(s string) (NodeID, error) {
	var id NodeID
	if err := DecodeID(s, id[:]); err != nil {
		return NodeID{}, err
	}
	if id.IsZero() {
		return NodeID{}, &IDError{Text: clip(s), Reason: "all zero, which is nobody's"}
	}
	return id, nil
}

// String returns the NodeID in z-base-32: 256 bits, 5 to the character, make
// 52 characters.
func (id NodeID) String() string { return EncodeID(id[:]) }

// Key returns a copy of the NodeID as a key that crypto/ed25519 takes.
func (id NodeID) Key() ed25519.PublicKey {
	return append(make(ed25519.PublicKey, 0, len(id)), id[:]...)
}

// IsZero tells whether the NodeID is the zero value, which is nobody's.
func (id NodeID) IsZero() bool { return id == NodeID{} }

// MarshalText returns the NodeID as [NodeID.String] does; the zero NodeID is
// the empty text.
func (id NodeID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return []byte{}, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText reads what [NodeID.MarshalText] writes. On an error the
// NodeID is left as it was.
func (id *NodeID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = NodeID{}
		return nil
	}
	got, err := ParseNodeID(string(text))
	if err != nil {
		return err
	}
	*id = got
	return nil
}

// EncodeID returns b in z-base-32: lower case, no padding.
func EncodeID(b []byte) string {
	var text [idRoom]byte
	return string(zBase32.AppendEncode(text[:0], b))
}

// idRoom is enough for the text of any ID, so that one on the stack will do.
const idRoom = 64

// DecodeID fills b with the bytes that s stands for. It takes only what
// [EncodeID] writes for that many bytes: other lengths, other alphabets,
// capitals and stray bits in the last character are an [IDError], and b is
// left as it was.
func DecodeID(s string, b []byte) error {
	if want := zBase32.EncodedLen(len(b)); len(s) != want {
		return &IDError{Text: clip(s), Reason: lengthReason(len(s), want)}
	}
	got, err := zBase32.DecodeString(s)
	if err != nil {
		return &IDError{Text: clip(s), Reason: "a character that is not z-base-32"}
	}
	// encoding/base32 skips line ends and drops the bits that are left over;
	// two texts for one ID would make IDs useless as map keys and in URLs.
	var text [idRoom]byte
	if len(got) != len(b) || string(zBase32.AppendEncode(text[:0], got)) != s {
		return &IDError{Text: clip(s), Reason: "not the canonical text"}
	}
	copy(b, got)
	return nil
}
