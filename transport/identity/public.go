package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

const (
	// maxKeyFile bounds what is read of a key file; a real one has 500 bytes.
	maxKeyFile = 64 << 10

	// maxPublicLine bounds the line of a public key, comment included.
	maxPublicLine = 8 << 10

	openSSHMagic = "openssh-key-v1\x00"
	openSSHBlock = "OPENSSH PRIVATE KEY"

	// blobPrefix stands before the 32 bytes of the key in its SSH encoding.
	blobPrefix = "\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"
)

// PublicLine returns the line of a .pub file: ssh-ed25519, the key, the
// comment. Line ends and other control characters in the comment become
// spaces.
func (id NodeID) PublicLine(comment string) string {
	line := ssh.KeyAlgoED25519 + " " + base64.StdEncoding.EncodeToString(append([]byte(blobPrefix), id[:]...))
	if comment = cleanComment(comment); comment != "" {
		line += " " + comment
	}
	return line
}

// ParsePublicLine reads what [NodeID.PublicLine] and ssh-keygen write: one
// line of at most 8 KiB, with or without comment. A key of another type is a
// [KeyTypeError].
func ParsePublicLine(line string) (NodeID, string, error) {
	line = strings.Trim(line, " \t\r\n")
	if len(line) > maxPublicLine {
		return NodeID{}, "", fmt.Errorf("identity: public key line of more than %d bytes", maxPublicLine)
	}
	if strings.ContainsFunc(line, isControl) {
		return NodeID{}, "", errors.New("identity: control character in public key line")
	}
	typ, rest := cutWord(line)
	if typ != ssh.KeyAlgoED25519 {
		return NodeID{}, "", &KeyTypeError{Type: clip(typ)}
	}
	word, comment := cutWord(rest)
	blob, err := base64.StdEncoding.Strict().DecodeString(word)
	if err != nil || len(blob) != len(blobPrefix)+len(NodeID{}) || string(blob[:len(blobPrefix)]) != blobPrefix {
		return NodeID{}, "", errors.New("identity: broken ssh-ed25519 public key")
	}
	id := NodeID(blob[len(blobPrefix):])
	if id.IsZero() {
		return NodeID{}, "", errors.New("identity: the zero key is nobody's")
	}
	return id, cleanComment(comment), nil
}

// ReadPublic returns the node ID of the key at path: a .pub file, or a
// private key file in OpenSSH format, which carries the public half in the
// clear even when it is encrypted. In that case nobody has proved yet that
// the halves belong together.
func ReadPublic(path string) (NodeID, error) {
	data, _, err := readBounded(path, maxKeyFile, nil)
	if err != nil {
		return NodeID{}, err
	}
	defer clear(data) // it may have been a private key
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		return clearHalf(path, data)
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		id, _, err := ParsePublicLine(line)
		if err != nil {
			return NodeID{}, atPath(path, err)
		}
		return id, nil
	}
	return NodeID{}, fmt.Errorf("identity: %s: no public key in it", path)
}

// clearHalf returns the public key that stands unencrypted in a private key
// file.
func clearHalf(path string, data []byte) (NodeID, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return NodeID{}, fmt.Errorf("identity: %s: not a private key file", path)
	}
	if block.Type != openSSHBlock {
		return NodeID{}, &KeyTypeError{Path: path, Type: clip(block.Type)}
	}
	body, ok := bytes.CutPrefix(block.Bytes, []byte(openSSHMagic))
	if !ok {
		return NodeID{}, fmt.Errorf("identity: %s: not in OpenSSH's format", path)
	}
	var file struct {
		Cipher, KDF, KDFOptions string
		Keys                    uint32
		Public                  []byte
		Rest                    []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(body, &file); err != nil {
		return NodeID{}, fmt.Errorf("identity: %s: %w", path, err)
	}
	if file.Keys != 1 {
		return NodeID{}, fmt.Errorf("identity: %s: holds %d keys, not one", path, file.Keys)
	}
	var name struct {
		Type string
		Rest []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(file.Public, &name); err != nil {
		return NodeID{}, fmt.Errorf("identity: %s: %w", path, err)
	}
	if name.Type != ssh.KeyAlgoED25519 {
		return NodeID{}, &KeyTypeError{Path: path, Type: clip(name.Type)}
	}
	id, _, err := ParsePublicLine(name.Type + " " + base64.StdEncoding.EncodeToString(file.Public))
	if err != nil {
		return NodeID{}, atPath(path, err)
	}
	return id, nil
}

// atPath adds the path to an error, inside it where it has a place for that.
func atPath(path string, err error) error {
	if e, ok := errors.AsType[*KeyTypeError](err); ok {
		return &KeyTypeError{Path: path, Type: e.Type}
	}
	return fmt.Errorf("%w (in %s)", err, path)
}

// cutWord splits s at its first run of blanks.
func cutWord(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// isControl tells what may not stand in a line that people read on a
// terminal. A tab is harmless.
func isControl(r rune) bool { return unicode.IsControl(r) && r != '\t' }

// cleanComment makes of any text one that can stand in a line, and that is
// still the same after another time. It never grows.
func cleanComment(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case isControl(r):
			return ' '
		case r == utf8.RuneError: // also what is not UTF-8
			return '?'
		}
		return r
	}, s)
	return strings.Trim(s, " \t")
}
