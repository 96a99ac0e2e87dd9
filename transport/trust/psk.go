package trust

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ckt.local/transport/identity"
)

const (
	pskWord    = "ckt-psk-v1"
	pskLen     = 32 // of a fresh one, in bytes
	minPSK     = 32
	maxPSK     = 64
	maxPSKs    = 2
	maxPSKFile = 4 << 10
)

func pskFile(path string) identity.SafeFile {
	return identity.SafeFile{Path: path, Max: maxPSKFile, Holds: "pre-shared key"}
}

// ReadPSKs reads the pre-shared keys in the file at path: one line or, while
// they are being changed, two, of the form
//
//	ckt-psk-v1 <32 to 64 bytes in base64>
//
// besides empty lines and comments, which begin with #. As with a private key,
// a file that group or others may use is an [identity.UnsafeFileError]. A
// missing file is an error, too: who asks for a second lock must not do
// without it. No error repeats what is in the file.
func ReadPSKs(path string) ([][]byte, error) {
	data, err := pskFile(path).Read()
	if err != nil {
		return nil, err
	}
	defer clear(data)
	keys, err := parsePSKs(data)
	if err != nil {
		return nil, atPath(path, err)
	}
	return keys, nil
}

func parsePSKs(data []byte) (keys [][]byte, err error) {
	err = eachLine(data, func(_ int, line string) error {
		word, rest := cutWord(line)
		if word != pskWord {
			return fmt.Errorf("does not begin with %s", pskWord)
		}
		key, err := base64.StdEncoding.Strict().DecodeString(rest)
		switch {
		case err != nil || base64.StdEncoding.EncodeToString(key) != rest:
			return fmt.Errorf("what follows %s is not base64", pskWord)
		case len(key) < minPSK || len(key) > maxPSK:
			return fmt.Errorf("a key of %d bytes, not %d to %d", len(key), minPSK, maxPSK)
		case len(keys) == maxPSKs:
			return fmt.Errorf("more than %d keys", maxPSKs)
		case slices.ContainsFunc(keys, func(k []byte) bool { return string(k) == string(key) }):
			return fmt.Errorf("the same key twice")
		}
		keys = append(keys, key)
		return nil
	})
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("trust: no pre-shared key in it")
	}
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// NewPSK makes a file at path with one fresh key, and mode 0600. It never
// overwrites: a file that is there is [io/fs.ErrExist].
func NewPSK(path string) error {
	key := make([]byte, pskLen)
	defer clear(key)
	rand.Read(key)
	var b strings.Builder
	b.WriteString("# Whoever has a line below passes the second lock. Copy them in secret.\n")
	b.WriteString(FormatPSK(key) + "\n")
	return pskFile(path).Create([]byte(b.String()))
}

// DropPSK takes the first of two keys off the file at path, in one step, and
// returns when that is on the disk. Everything else in it stays. A file that
// has one key keeps it, which is an error: without a key it is no lock.
func DropPSK(path string) error {
	if _, err := ReadPSKs(path); err != nil { // others may not read what is rewritten, either
		return err
	}
	return pskFile(path).Rewrite(func(old []byte) ([]byte, error) {
		data, err := withoutFirstPSK(old)
		return data, atPath(path, err)
	})
}

func withoutFirstPSK(old []byte) ([]byte, error) {
	keys, err := parsePSKs(old)
	if err != nil {
		return nil, err
	}
	if len(keys) < maxPSKs {
		return nil, errors.New("trust: there is one key only, which stays")
	}
	first := 0
	_ = eachLine(old, func(number int, _ string) error { // parsePSKs has read it
		first = cmp.Or(first, number)
		return nil
	})
	lines := slices.Collect(bytes.Lines(old))
	return bytes.Join(slices.Delete(lines, first-1, first), nil), nil
}

// FormatPSK returns the line that [ReadPSKs] reads as key, without line end.
func FormatPSK(key []byte) string {
	return pskWord + " " + base64.StdEncoding.EncodeToString(key)
}
