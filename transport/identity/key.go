package identity

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// deriveMessage is what [Key.Derive] has signed. It can be no other thing
// that a node key signs: a TLS 1.3 signature begins with 64 spaces, a
// certificate with the byte 0x30, an SSH one with the length of a session ID.
const deriveMessage = "ckt.local/transport/identity: derive, version 1\x00"

// A Key is a node's private key: in memory, or held by an agent. It is a
// [crypto.Signer], never changes, and may be used from any goroutine. However
// it is printed, only the node ID shows.
//
// A caller must not sign with it what others have chosen whole: whoever gets
// arbitrary bytes signed can act as the node.
type Key struct {
	id NodeID
	// holder returns who has the private key: an ed25519.PrivateKey, an
	// *agentSigner, or the user's own. It is a function because fmt finds its
	// way into anything else, interfaces and pointers included.
	holder func() crypto.Signer
}

func keyOf(id NodeID, s crypto.Signer) *Key {
	return &Key{id: id, holder: func() crypto.Signer { return s }}
}

// Generate makes a new key in memory.
func Generate() (*Key, error) {
	_, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return NewKey(priv)
}

// NewKey wraps a signer that holds an ed25519 key, such as an
// [ed25519.PrivateKey], of which it takes a copy. Any other kind of key is a
// [KeyTypeError].
func NewKey(s crypto.Signer) (*Key, error) {
	switch v := s.(type) {
	case nil:
		return nil, &KeyTypeError{Type: "none"}
	case *Key:
		return v, nil
	case *ed25519.PrivateKey:
		return newMemoryKey(*v)
	case ed25519.PrivateKey:
		return newMemoryKey(v)
	}
	pub, ok := s.Public().(ed25519.PublicKey)
	if !ok {
		return nil, &KeyTypeError{Type: fmt.Sprintf("%T", s.Public())}
	}
	id := NodeIDOf(pub)
	if id.IsZero() {
		return nil, errors.New("identity: broken ed25519 public key")
	}
	return keyOf(id, s), nil
}

func newMemoryKey(priv ed25519.PrivateKey) (*Key, error) {
	if len(priv) != ed25519.PrivateKeySize {
		return nil, errors.New("identity: broken ed25519 private key")
	}
	// Signing with a public half that does not belong to the seed gives the
	// private key away, so it is never taken on trust.
	whole := ed25519.NewKeyFromSeed(priv.Seed())
	if subtle.ConstantTimeCompare(whole, priv) != 1 {
		return nil, errors.New("identity: the halves of the ed25519 key do not belong together")
	}
	return keyOf(NodeID(whole[ed25519.SeedSize:]), whole), nil
}

// ID returns the node ID.
func (k *Key) ID() NodeID { return k.id }

// Public returns the public key, an [ed25519.PublicKey].
func (k *Key) Public() crypto.PublicKey { return k.id.Key() }

// Sign signs message itself with plain Ed25519, the only variant that TLS and
// every agent know; opts that ask for another are an error. rand is not used.
func (k *Key) Sign(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts != nil && opts.HashFunc() != 0 {
		return nil, errors.New("identity: a node key signs messages, not their hashes")
	}
	if o, ok := opts.(*ed25519.Options); ok && o.Context != "" {
		return nil, errors.New("identity: a node key signs without context")
	}
	return k.holder().Sign(rand, message, crypto.Hash(0))
}

// String returns the node ID, and nothing of the private key.
func (k *Key) String() string { return k.id.String() }

// GoString keeps the private key out of %#v.
func (k *Key) GoString() string { return "identity.Key(" + k.id.String() + ")" }

// LogValue is the node ID.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.id.String()) }

// Derive returns 32 secret bytes that depend on the key and on label alone:
// the same each time, also after a restart and with the key in an agent.
// Different labels give bytes that say nothing about one another.
//
// They come from HKDF-SHA256 over the signature of a fixed message. Ed25519
// signatures are deterministic; a signer whose are not is found out by asking
// twice, and is an error. Whoever may use the agent can derive the same bytes.
func (k *Key) Derive(label string) ([32]byte, error) {
	var out [32]byte
	first, err := k.Sign(nil, []byte(deriveMessage), crypto.Hash(0))
	if err != nil {
		return out, fmt.Errorf("identity: derive: %w", err)
	}
	second, err := k.Sign(nil, []byte(deriveMessage), crypto.Hash(0))
	if err != nil {
		return out, fmt.Errorf("identity: derive: %w", err)
	}
	if subtle.ConstantTimeCompare(first, second) != 1 {
		return out, errors.New("identity: derive: the key's holder signs differently each time")
	}
	b, err := hkdf.Key(sha256.New, first, nil, label, len(out))
	if err != nil {
		return out, fmt.Errorf("identity: derive: %w", err)
	}
	return [32]byte(b), nil
}
