package trust

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"ckt.local/transport/identity"
)

// A RevokedFile lists keys that are not believed any more, whatever else
// allows them. Its methods may be called from any goroutine; each goes by
// what the file says at that moment.
type RevokedFile struct {
	file identity.Followed[revocations]
}

// revocations are the lines, and which of them revokes a key. A loaded value
// is not changed.
type revocations struct {
	list []RevokedKey
	of   map[identity.NodeID]int // line
}

// A RevokedKey is one line of such a file.
type RevokedKey struct {
	ID      identity.NodeID
	Comment string
	Line    int // where it was read, from 1; not written
}

// String returns the line that [ParseRevoked] reads as k, without line end.
func (k RevokedKey) String() string {
	comment, err := cleanComment(k.ID, k.Comment)
	if err != nil || comment == "" {
		return k.ID.String()
	}
	return k.ID.String() + " " + comment
}

// ParseRevoked reads lines with a key each: a node ID, or a line of OpenSSH's
// .pub files; either with a comment behind it or without. A # begins a comment
// line. One line that is not understood is an error for the whole, and so is
// more than 1 MiB, more than 8192 keys, or a line of more than 8 KiB.
func ParseRevoked(data []byte) ([]RevokedKey, error) {
	var list []RevokedKey
	err := eachLine(data, func(number int, line string) error {
		k, err := parseRevokedLine(line)
		k.Line = number
		list = append(list, k)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func parseRevokedLine(line string) (k RevokedKey, err error) {
	word, rest := cutWord(line)
	if strings.HasPrefix(word, "ssh-") {
		k.ID, k.Comment, err = identity.ParsePublicLine(line)
		return k, err
	}
	if k.ID, err = identity.ParseNodeID(word); err != nil {
		return k, err
	}
	k.Comment, err = cleanComment(k.ID, rest)
	return k, err
}

func parseRevocations(data []byte) (revocations, error) {
	list, err := ParseRevoked(data)
	if err != nil {
		return revocations{}, err
	}
	r := revocations{list: list, of: make(map[identity.NodeID]int, len(list))}
	for _, k := range slices.Backward(list) {
		r.of[k.ID] = k.Line
	}
	return r, nil
}

// OpenRevoked reads the file at path. A missing file revokes nothing. A file
// that is there and cannot be used is an error; if that happens later, all
// keys count as revoked until it is mended. A nil log is no log.
func OpenRevoked(path string, log *slog.Logger) (*RevokedFile, error) {
	f := &RevokedFile{}
	err := follow(&f.file, path, "list of revoked keys not used, so all keys count as revoked", log, parseRevocations)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Check returns nil if id is not revoked, or else a [RevokedError].
func (f *RevokedFile) Check(id identity.NodeID) error {
	r, err := f.file.Get()
	if err != nil {
		return &RevokedError{ID: id, Path: f.file.Path, Err: err}
	}
	if line, ok := r.of[id]; ok {
		return &RevokedError{ID: id, Path: f.file.Path, Line: line}
	}
	return nil
}

// Add revokes id, and returns when that is on the disk. A key that is revoked
// already is not written again. A missing file is made with mode 0600, missing
// directories with 0700.
func (f *RevokedFile) Add(id identity.NodeID, comment string) error {
	if id.IsZero() {
		return errors.New("trust: the zero key is nobody's, and cannot be revoked")
	}
	// What is written must be read again, or nobody would be let in.
	if _, err := cleanComment(id, comment); err != nil {
		return fmt.Errorf("trust: comment: %w", err)
	}
	line := RevokedKey{ID: id, Comment: comment}.String()
	return f.file.Append(func(old []byte) (string, error) {
		r, err := parseRevocations(old)
		if err != nil {
			return "", atPath(f.file.Path, err)
		}
		if _, ok := r.of[id]; ok {
			return "", nil
		}
		if len(r.list) >= maxEntries {
			return "", fmt.Errorf("trust: %s: has %d keys, and can have no more; delete some", f.file.Path, maxEntries)
		}
		return line, nil
	})
}

// List returns what the file says, in its order.
func (f *RevokedFile) List() ([]RevokedKey, error) {
	r, err := f.file.Get()
	return slices.Clone(r.list), err
}

// A RevokedError says that a key is not to be believed any more.
type RevokedError struct {
	ID   identity.NodeID
	Path string // of the file that says so
	Line int    // in it; 0: none, see Err
	Err  error  // why the file cannot be used, so that all keys count as revoked
}

// Error names the key and the line, or what is wrong with the file.
func (e *RevokedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("trust: %s cannot be used, so all keys count as revoked: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("trust: the key %v is revoked (%s:%d)", e.ID, e.Path, e.Line)
}

// Unwrap returns what is wrong with the file, if anything.
func (e *RevokedError) Unwrap() error { return e.Err }
