// Package trust keeps what a node believes about keys besides who is let in:
// which key was found at an address ([KnownFile]), which keys are not to be
// believed any more ([RevokedFile]), and which key takes the place of which
// ([Rotation]).
package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"time"

	"ckt.local/transport/identity"
)

// A KnownFile is a known_peers file: the keys that were found at addresses,
// in the manner of OpenSSH's known_hosts. Its methods may be called from any
// goroutine; each goes by what the file says at that moment.
type KnownFile struct{ path string }

// OpenKnown reads the file at path. A missing file knows nobody.
func OpenKnown(path string, log *slog.Logger) (*KnownFile, error) { return nil, nil }

// Lookup returns the key that is known at addr, a host:port as it was dialled;
// zero: none.
func (f *KnownFile) Lookup(addr string) (identity.NodeID, error) { return identity.NodeID{}, nil }

// Add notes that the node at addr is id.
func (f *KnownFile) Add(addr string, id identity.NodeID) error { return nil }

// A ChangedKeyError says that another key answers at an address than the one
// that is known.
type ChangedKeyError struct {
	Addr       string
	Known, Got identity.NodeID
	Path       string // of the file
	Line       int    // in it
}

// Error names all of it.
func (e *ChangedKeyError) Error() string { return "" }

// A RevokedFile lists keys that are not believed any more.
type RevokedFile struct{ path string }

// OpenRevoked reads the file at path. A missing file revokes nothing.
func OpenRevoked(path string, log *slog.Logger) (*RevokedFile, error) { return nil, nil }

// Check returns nil if id is not revoked.
func (f *RevokedFile) Check(id identity.NodeID) error { return nil }

// A Rotation is a statement, signed by both, that one key takes another one's
// place for a time.
type Rotation struct {
	Old, New    identity.NodeID
	From, Until time.Time
}

// Extension returns the statement as an extension of a certificate.
func (r *Rotation) Extension() pkix.Extension { return pkix.Extension{} }

// FromCertificate returns the statement that a certificate carries, nil if
// there is none that holds at now.
func FromCertificate(cert *x509.Certificate, now time.Time) (*Rotation, error) { return nil, nil }
