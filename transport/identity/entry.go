package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	maxPeersFile = 1 << 20 // bytes
	maxPeersLine = 8 << 10 // bytes
	maxEntries   = 8192

	// maxBadLines is where a file is not taken for an authorized_peers file
	// any more.
	maxBadLines = 1000
)

// MaxServiceName is the longest service name, in bytes.
const MaxServiceName = 64

// ValidServiceName tells whether s may name a service: 1 to 64 of the letters
// A-Z and a-z, digits, '.', '_' and '-', the first a letter or a digit. The
// error is a [ServiceNameError].
func ValidServiceName(s string) error {
	if s == "" || len(s) > MaxServiceName || strings.IndexByte("._-", s[0]) >= 0 {
		return &ServiceNameError{Name: clip(s)}
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte("._-", s[i]) < 0 {
			return &ServiceNameError{Name: clip(s)}
		}
	}
	return nil
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// An Entry is one line of an authorized_peers file: what one key is allowed.
type Entry struct {
	ID       NodeID
	Services []string  // names of services; nil: all of them
	Start    []string  // of those, the ones it may start; nil: all, empty: none
	From     []string  // address patterns as written; nil: from anywhere
	Expires  time.Time // in UTC, to the second; zero: never

	// MaxCircuits is how many circuits it may have open here; Rate how many
	// openings and starts it may ask for in a second. 0: the node's limits.
	MaxCircuits, Rate int

	Comment string
	Line    int // where it was read, from 1; not written
}

// String returns the line that [ParseAuthorizedPeers] reads as e, without
// line end.
func (e Entry) String() string {
	var options []string
	if e.Services != nil {
		options = append(options, quoteOption("services", strings.Join(e.Services, ",")))
	}
	if e.Start != nil {
		options = append(options, quoteOption("start", strings.Join(e.Start, ",")))
	}
	if e.From != nil {
		options = append(options, quoteOption("from", strings.Join(e.From, ",")))
	}
	if !e.Expires.IsZero() {
		options = append(options, quoteOption("expiry-time", e.Expires.UTC().Format(expirySeconds)+"Z"))
	}
	if e.MaxCircuits != 0 {
		options = append(options, quoteOption("max-circuits", strconv.Itoa(e.MaxCircuits)))
	}
	if e.Rate != 0 {
		options = append(options, quoteOption("rate", strconv.Itoa(e.Rate)))
	}
	line := e.ID.PublicLine(e.Comment)
	if len(options) == 0 {
		return line
	}
	return strings.Join(options, ",") + " " + line
}

func quoteOption(name, value string) string {
	return name + `="` + strings.ReplaceAll(value, `"`, `\"`) + `"`
}

// ParseAuthorizedPeers reads lines in the syntax of OpenSSH's
// authorized_keys, with these options, each at most once:
//
//	services="name,name"             only these services; else all
//	start="name,name"                may start only these of them, "" none; else all of them
//	from="pattern,pattern"           only from these addresses; else from anywhere
//	expiry-time="YYYYMMDD[HHMM[SS]][Z]"  only before then, local time unless Z
//	max-circuits="N"                 at most so many circuits open here at a time
//	rate="N"                         at most so many openings and starts in a second
//
// N is from 1 to 1,048,576. A name in start that is not in services is an
// error.
//
// A pattern is an IP address, a CIDR block, or a text with * and ? that is
// compared with the address as text; names are not resolved. A ! before it
// denies what it matches, whatever the others say.
//
// A line that is not understood to its end, be it only an unknown option,
// allows nobody anything and is reported as a LineError. The last result is
// an error of r, or says that the whole exceeds 1 MiB, 8192 entries or 1000
// bad lines; then there are no entries. A line has at most 8 KiB.
func ParseAuthorizedPeers(r io.Reader) ([]Entry, []*LineError, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPeersFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("identity: authorized peers: %w", err)
	}
	if len(data) > maxPeersFile {
		return nil, nil, fmt.Errorf("identity: authorized peers: more than %d bytes", maxPeersFile)
	}
	return parsePeers(data)
}

func parsePeers(data []byte) (entries []Entry, bad []*LineError, err error) {
	number := 0
	for raw := range bytes.Lines(data) {
		number++
		line := strings.Trim(string(raw[:min(len(raw), maxPeersLine+2)]), " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		e, err := parseEntry(line, len(raw))
		if err != nil {
			bad = append(bad, &LineError{Line: number, Err: err})
		} else {
			e.Line = number
			entries = append(entries, e)
		}
		if len(bad) > maxBadLines {
			return nil, bad, fmt.Errorf("identity: authorized peers: more than %d bad lines", maxBadLines)
		}
		if len(entries) > maxEntries {
			return nil, bad, fmt.Errorf("identity: authorized peers: more than %d entries", maxEntries)
		}
	}
	return entries, bad, nil
}

// parseEntry reads one line, trimmed; size is its length before that.
func parseEntry(line string, size int) (Entry, error) {
	if size > maxPeersLine {
		return Entry{}, fmt.Errorf("line of %d bytes, more than %d", size, maxPeersLine)
	}
	if strings.ContainsFunc(line, isControl) {
		return Entry{}, errors.New("control character")
	}
	var e Entry
	word, _ := cutWord(line)
	switch {
	case word == ssh.KeyAlgoED25519:
	case isKeyType(word):
		return Entry{}, &KeyTypeError{Type: clip(word)}
	default:
		rest, err := e.parseOptions(line)
		if err != nil {
			return Entry{}, err
		}
		line = rest
	}
	id, comment, err := ParsePublicLine(line)
	if err != nil {
		return Entry{}, err
	}
	e.ID, e.Comment = id, comment
	return e, nil
}

// isKeyType tells a key of another type from an option that is not known, for
// the sake of the error.
func isKeyType(word string) bool {
	for _, prefix := range []string{"ssh-", "ecdsa-", "sk-"} {
		if strings.HasPrefix(word, prefix) && !strings.ContainsAny(word, `="`) {
			return true
		}
	}
	return false
}
