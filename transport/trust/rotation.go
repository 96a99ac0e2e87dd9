package trust

import (
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"ckt.local/transport/identity"
)

const (
	// rotationDomain is what the signed bytes begin with. They can be no other
	// thing that a node key signs: a TLS 1.3 signature begins with 64 spaces,
	// a certificate with the byte 0x30, an SSH one with the length of a
	// session ID, and what package identity derives with other words.
	rotationDomain = "ckt.local/transport/trust: key rotation, version 1\x00"

	// lastSecond is the end of the year 9999, the last that RFC 3339 can write.
	lastSecond = 253402300799

	rotationWord = "ckt-rotation-v1"

	// maxOverlap is how long both keys may be good at most: a statement that
	// nobody can take back should not outlive its purpose.
	maxOverlap = 90 * 24 * time.Hour

	// maxRotation bounds the text form, comments included, in bytes.
	maxRotation = 4 << 10

	rotationFields = 7
)

// A Rotation is a statement, signed by both, that one key takes another one's
// place for a time: from From until just before Until. Who changes a field
// makes it one that nobody believes.
type Rotation struct {
	Old, New    identity.NodeID
	From, Until time.Time // whole seconds, in UTC, at most 90 days apart

	byOld, byNew [ed25519.SignatureSize]byte
}

// NewRotation has both keys sign that next takes the place of old from from
// until until, both cut to the second. They may be held by an agent.
func NewRotation(old, next *identity.Key, from, until time.Time) (*Rotation, error) {
	if old == nil || next == nil {
		return nil, errors.New("trust: rotation: both keys are needed to sign it")
	}
	r := &Rotation{
		Old: old.ID(), New: next.ID(),
		From: from.UTC().Truncate(time.Second), Until: until.UTC().Truncate(time.Second),
	}
	if err := r.plausible(); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		key *identity.Key
		sig *[ed25519.SignatureSize]byte
	}{{old, &r.byOld}, {next, &r.byNew}} {
		sig, err := s.key.Sign(nil, r.signed(), crypto.Hash(0))
		if err != nil {
			return nil, fmt.Errorf("trust: rotation: %w", err)
		}
		if copy(s.sig[:], sig) != len(s.sig) || len(sig) != len(s.sig) {
			return nil, fmt.Errorf("trust: rotation: a signature of %d bytes", len(sig))
		}
	}
	// An agent can be asked for one signature and give another.
	if err := r.Verify(); err != nil {
		return nil, err
	}
	return r, nil
}

// plausible checks all but the signatures.
func (r *Rotation) plausible() error {
	// Year wraps around for seconds that no calendar has.
	whole := func(t time.Time) bool {
		return t.Location() == time.UTC && t.Nanosecond() == 0 && t.Unix() > 0 && t.Unix() <= lastSecond
	}
	switch {
	case r.Old.IsZero() || r.New.IsZero():
		return errors.New("trust: rotation: the zero key is nobody's")
	case r.Old == r.New:
		return errors.New("trust: rotation: old and new are the same key")
	case !whole(r.From) || !whole(r.Until):
		return errors.New("trust: rotation: the times are not whole seconds in UTC from 1970 to 9999")
	case !r.From.Before(r.Until):
		return errors.New("trust: rotation: it ends before it begins")
	case r.Until.Sub(r.From) > maxOverlap:
		return fmt.Errorf("trust: rotation: lasts longer than %d days", maxOverlap/(24*time.Hour))
	}
	return nil
}

// Verify returns nil if the statement is one that can be made, and both keys
// have made it, whenever that is or was.
func (r *Rotation) Verify() error {
	if err := r.plausible(); err != nil {
		return err
	}
	message := r.signed()
	if !ed25519.Verify(r.Old.Key(), message, r.byOld[:]) {
		return errors.New("trust: rotation: not signed by the old key")
	}
	if !ed25519.Verify(r.New.Key(), message, r.byNew[:]) {
		return errors.New("trust: rotation: not signed by the new key")
	}
	return nil
}

// Holds tells whether now is within its time.
func (r *Rotation) Holds(now time.Time) bool { return !now.Before(r.From) && now.Before(r.Until) }

// signed returns what both keys sign: each part behind its length.
func (r *Rotation) signed() []byte {
	b := []byte(rotationDomain)
	for _, part := range [][]byte{r.Old[:], r.New[:], seconds(r.From), seconds(r.Until)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return b
}

func seconds(t time.Time) []byte { return binary.BigEndian.AppendUint64(nil, uint64(t.Unix())) }

// String returns the statement as a line that [ParseRotation] reads, without
// line end. Nothing in it is secret.
func (r *Rotation) String() string {
	return strings.Join([]string{
		rotationWord, r.Old.String(), r.New.String(), r.From.Format(time.RFC3339), r.Until.Format(time.RFC3339),
		base64.StdEncoding.EncodeToString(r.byOld[:]), base64.StdEncoding.EncodeToString(r.byNew[:]),
	}, " ")
}

// ParseRotation reads one line of the form
//
//	ckt-rotation-v1 <old> <new> <from> <until> <signature of old> <signature of new>
//
// with node IDs, times as in RFC 3339 with Z, and base64; empty lines and
// comments, which begin with #, may stand around it. It verifies both
// signatures. The whole has at most 4 KiB.
func ParseRotation(text string) (*Rotation, error) {
	if len(text) > maxRotation {
		return nil, fmt.Errorf("trust: rotation: more than %d bytes", maxRotation)
	}
	var r *Rotation
	err := eachLine([]byte(text), func(_ int, line string) (err error) {
		if r != nil {
			return errors.New("a second statement")
		}
		r, err = parseRotationLine(line)
		return err
	})
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errors.New("trust: rotation: no statement in it")
	}
	if err := r.Verify(); err != nil {
		return nil, err
	}
	return r, nil
}

func parseRotationLine(line string) (*Rotation, error) {
	w := strings.Fields(line)
	if len(w) != rotationFields || w[0] != rotationWord {
		return nil, fmt.Errorf("not %s, two keys, two times and two signatures", rotationWord)
	}
	r := new(Rotation)
	var errs [6]error
	r.Old, errs[0] = identity.ParseNodeID(w[1])
	r.New, errs[1] = identity.ParseNodeID(w[2])
	r.From, errs[2] = parseTime(w[3])
	r.Until, errs[3] = parseTime(w[4])
	errs[4] = parseSignature(w[5], &r.byOld)
	errs[5] = parseSignature(w[6], &r.byNew)
	return r, cmp.Or(errs[:]...)
}

// parseTime takes one text for each time only.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if t = t.UTC(); err != nil || t.Format(time.RFC3339) != s {
		return time.Time{}, fmt.Errorf("%q is not a time like 2026-01-02T15:04:05Z", clip(s))
	}
	return t, nil
}

func parseSignature(s string, sig *[ed25519.SignatureSize]byte) error {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(sig) {
		return fmt.Errorf("%q is not a signature in base64", clip(s))
	}
	copy(sig[:], b)
	return nil
}

// ReadRotation reads the statement in the file at path. Nobody can forge one,
// but whoever writes to the file could take it away; so a file that others may
// write to is an [identity.UnsafeFileError].
func ReadRotation(path string) (*Rotation, error) {
	data, err := identity.SafeFile{Path: path, Max: maxRotation}.Read()
	if err != nil {
		return nil, err
	}
	r, err := ParseRotation(string(data))
	if err != nil {
		return nil, atPath(path, err)
	}
	return r, nil
}

// Write makes a file at path with the statement in it. It never overwrites: a
// file that is there is [io/fs.ErrExist].
func (r *Rotation) Write(path string) error {
	return identity.SafeFile{Path: path, Max: maxRotation}.Create([]byte(r.String() + "\n"))
}

// rotationOID names the extension. It is one of those that anybody may draw at
// random below this arc.
func rotationOID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 23236, 55213, 39043, 9913, 55436, 9212587, 7429463}
}

const (
	rotationVersion = 1
	rotationLen     = 1 + 2*32 + 2*8 + 2*ed25519.SignatureSize

	// rotationHead makes an ASN.1 octet string of the rotationLen bytes that
	// follow it.
	rotationHead = "\x04\x81\xd1"
)

// Extension returns the statement as an extension of New's certificate: see
// [identity.Certificate].
func (r *Rotation) Extension() pkix.Extension {
	b := append([]byte(rotationHead), rotationVersion)
	b = append(b, r.Old[:]...)
	b = append(b, r.New[:]...)
	b = append(b, seconds(r.From)...)
	b = append(b, seconds(r.Until)...)
	b = append(b, r.byOld[:]...)
	b = append(b, r.byNew[:]...)
	return pkix.Extension{Id: rotationOID(), Value: b}
}

func parseExtension(value []byte) (*Rotation, error) {
	if len(value) != len(rotationHead)+rotationLen || string(value[:len(rotationHead)]) != rotationHead {
		return nil, fmt.Errorf("trust: rotation: an extension of %d bytes that is no statement", len(value))
	}
	b := value[len(rotationHead):]
	if b[0] != rotationVersion {
		return nil, fmt.Errorf("trust: rotation: version %d is not known here", b[0])
	}
	next := func(n int) (part []byte) {
		part, b = b[:n], b[n:]
		return part
	}
	next(1)
	r := &Rotation{Old: identity.NodeID(next(32)), New: identity.NodeID(next(32))}
	r.From = time.Unix(int64(binary.BigEndian.Uint64(next(8))), 0).UTC()
	r.Until = time.Unix(int64(binary.BigEndian.Uint64(next(8))), 0).UTC()
	copy(r.byOld[:], next(ed25519.SignatureSize))
	copy(r.byNew[:], next(ed25519.SignatureSize))
	if err := r.Verify(); err != nil {
		return nil, err
	}
	return r, nil
}

// FromCertificate returns the statement that a certificate carries, nil if
// there is none or if it does not hold at now. Anything that is named one and
// is none, is there twice, or is about another key than the certificate's, is
// an error at any time.
func FromCertificate(cert *x509.Certificate, now time.Time) (*Rotation, error) {
	var found *Rotation
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(rotationOID()) {
			continue
		}
		if found != nil {
			return nil, errors.New("trust: rotation: two statements in one certificate")
		}
		r, err := parseExtension(ext.Value)
		if err != nil {
			return nil, err
		}
		found = r
	}
	if found == nil {
		return nil, nil
	}
	if key, ok := cert.PublicKey.(ed25519.PublicKey); !ok || identity.NodeIDOf(key) != found.New {
		return nil, errors.New("trust: rotation: the new key is not the certificate's")
	}
	if !found.Holds(now) {
		return nil, nil
	}
	return found, nil
}
