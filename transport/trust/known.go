package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ckt.local/transport/identity"
)

const (
	revokedMarker = "@revoked"

	// maxHost is the longest host, as DNS has it; an IPv6 address with a zone
	// is no longer.
	maxHost = 253
)

// A KnownFile is a known_peers file: the keys that were found at addresses,
// in the manner of OpenSSH's known_hosts. Its methods may be called from any
// goroutine; each goes by what the file says at that moment. It is changed in
// one step or not at all, also by several processes at a time.
type KnownFile struct {
	file identity.Followed[known]
}

// known are the lines about each address, in their order. A loaded value is
// not changed.
type known struct {
	list []Known
	at   map[string][]int // places in list
}

// A Known is one line of a known_peers file.
type Known struct {
	Addrs   []string // host:port, as [KnownFile.Add] writes them; at least one
	ID      identity.NodeID
	Revoked bool // this key is never to be taken for these addresses
	Comment string
	Line    int // where it was read, from 1; not written
}

// String returns the line that [ParseKnown] reads as k, without line end.
func (k Known) String() string {
	line := strings.Join(k.Addrs, ",") + " " + k.ID.PublicLine(k.Comment)
	if k.Revoked {
		line = revokedMarker + " " + line
	}
	return line
}

// ParseKnown reads the content of a known_peers file. A line has addresses
// with commas between, blanks, and a key as in OpenSSH's .pub files, with or
// without a comment; before it may stand @revoked. A # begins a comment line.
// An address is a host:port with a decimal port, the host a name in ASCII, an
// IPv4 address or an IPv6 address in brackets; capitals and other spellings
// of an address are the same address.
//
// One line that is not understood is an error for the whole, and so is more
// than 1 MiB, more than 8192 lines with keys, or a line of more than 8 KiB.
func ParseKnown(data []byte) ([]Known, error) {
	var list []Known
	err := eachLine(data, func(number int, line string) error {
		k, err := parseKnownLine(line)
		k.Line = number
		list = append(list, k)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func parseKnownLine(line string) (k Known, err error) {
	word, rest := cutWord(line)
	if word == revokedMarker {
		k.Revoked = true
		word, rest = cutWord(rest)
	}
	if strings.HasPrefix(word, "@") {
		return k, fmt.Errorf("unknown marker %q", clip(word))
	}
	for addr := range strings.SplitSeq(word, ",") {
		addr, err := canonicalAddr(addr)
		if err != nil {
			return k, err
		}
		k.Addrs = append(k.Addrs, addr)
	}
	k.ID, k.Comment, err = identity.ParsePublicLine(rest)
	return k, err
}

// canonicalAddr returns the one spelling of a host:port that is compared and
// written.
func canonicalAddr(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("%q is not a host:port", clip(addr))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", fmt.Errorf("%q: the port is not a number from 1 to 65535", clip(addr))
	}
	host = strings.ToLower(host)
	ip, notIP := netip.ParseAddr(host)
	if notIP == nil {
		host = ip.Unmap().String()
	}
	odd := func(r rune) bool {
		plain := 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune(".-_", r)
		return !plain && (notIP != nil || r != ':' && r != '%')
	}
	if host == "" || len(host) > maxHost || strings.ContainsFunc(host, odd) {
		return "", fmt.Errorf("%q: the host is neither an IP address nor a name of letters, digits, '.', '-' and '_'", clip(addr))
	}
	return net.JoinHostPort(host, port), nil
}

// OpenKnown reads the file at path. A missing file knows nobody. A file that
// others may have written to, or with a line that is not understood, is not
// used: it and each later method is an error until it is mended. A nil log is
// no log.
func OpenKnown(path string, log *slog.Logger) (*KnownFile, error) {
	f, err := FollowKnown(path, log)
	if err == nil {
		_, err = f.file.Get()
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// FollowKnown is [OpenKnown] for whoever can do much without the file: that it
// cannot be used is an error of each method only, and told to the log when the
// first one is called.
func FollowKnown(path string, log *slog.Logger) (*KnownFile, error) {
	f := &KnownFile{}
	if err := prepare(&f.file, path, "known peers not used, nobody is known or made known", log, parseKnown); err != nil {
		return nil, err
	}
	return f, nil
}

func parseKnown(data []byte) (known, error) {
	list, err := ParseKnown(data)
	if err != nil {
		return known{}, err
	}
	k := known{list: list, at: make(map[string][]int)}
	for i := range list {
		for _, addr := range list[i].Addrs {
			k.at[addr] = append(k.at[addr], i)
		}
	}
	return k, nil
}

// Lookup returns the key that is known at addr, a host:port as it was dialled;
// zero: none. Of several it is the first one; see [KnownFile.Check].
func (f *KnownFile) Lookup(addr string) (identity.NodeID, error) {
	addr, err := addressed(addr)
	if err != nil {
		return identity.NodeID{}, err
	}
	k, err := f.file.Get()
	if err != nil {
		return identity.NodeID{}, err
	}
	trusted, _ := k.lines(addr)
	if len(trusted) == 0 {
		return identity.NodeID{}, nil
	}
	return trusted[0].ID, nil
}

// Check tells whether id is known at addr, a host:port as it was dialled; if
// not, no key is. Another key that is known there is a [ChangedKeyError], and
// one that is never to be taken there a [RevokedError].
func (f *KnownFile) Check(addr string, id identity.NodeID) (bool, error) {
	addr, err := addressed(addr)
	if err != nil {
		return false, err
	}
	k, err := f.file.Get()
	if err != nil {
		return false, err
	}
	return f.check(k, addr, id)
}

func (f *KnownFile) check(k known, addr string, id identity.NodeID) (bool, error) {
	trusted, revoked := k.lines(addr)
	if i := slices.IndexFunc(revoked, func(l Known) bool { return l.ID == id }); i >= 0 {
		return false, &RevokedError{ID: id, Path: f.file.Path, Line: revoked[i].Line}
	}
	switch {
	case len(trusted) == 0:
		return false, nil
	case slices.ContainsFunc(trusted, func(l Known) bool { return l.ID == id }):
		return true, nil
	}
	return false, &ChangedKeyError{Addr: addr, Known: trusted[0].ID, Got: id, Path: f.file.Path, Line: trusted[0].Line}
}

// lines returns the lines about addr: those whose keys may be taken, and those
// whose keys may not.
func (k known) lines(addr string) (trusted, revoked []Known) {
	for _, i := range k.at[addr] {
		if k.list[i].Revoked {
			revoked = append(revoked, k.list[i])
		}
	}
	for _, i := range k.at[addr] {
		same := func(r Known) bool { return r.ID == k.list[i].ID }
		if !slices.ContainsFunc(revoked, same) {
			trusted = append(trusted, k.list[i])
		}
	}
	return trusted, revoked
}

// addressed is canonicalAddr for what a caller wants to dial.
func addressed(addr string) (string, error) {
	canonical, err := canonicalAddr(addr)
	if err != nil {
		return "", fmt.Errorf("trust: no key can be known at this address: %w; dial a URL with the node's ID instead", err)
	}
	return canonical, nil
}

// Add notes that the node at addr is id, and returns when that is on the disk.
// What is known already is not written again. Where another key is known the
// error is a [ChangedKeyError], where this one is never to be taken a
// [RevokedError]; nothing is written then. A missing file is made with mode
// 0600, missing directories with 0700.
func (f *KnownFile) Add(addr string, id identity.NodeID) error {
	addr, err := addressed(addr)
	if err != nil {
		return err
	}
	if id.IsZero() {
		return errors.New("trust: the zero key is nobody's, and cannot be known anywhere")
	}
	return f.file.Append(func(old []byte) (string, error) {
		k, err := parseKnown(old)
		if err != nil {
			return "", atPath(f.file.Path, err)
		}
		there, err := f.check(k, addr, id)
		if err != nil || there {
			return "", err
		}
		if len(k.list) >= maxEntries {
			return "", fmt.Errorf("trust: %s: has %d entries, and can have no more; delete some", f.file.Path, maxEntries)
		}
		return Known{Addrs: []string{addr}, ID: id}.String(), nil
	})
}

// Remove forgets which keys are known at addr, and returns how many lines said
// so. What else is in those lines stays, and so do comments and what is
// @revoked.
func (f *KnownFile) Remove(addr string) (lines int, err error) {
	addr, err = addressed(addr)
	if err != nil {
		return 0, err
	}
	err = f.file.Rewrite(func(old []byte) (data []byte, err error) {
		data, lines, err = without(old, addr)
		return data, atPath(f.file.Path, err)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return lines, nil
}

func without(old []byte, addr string) (data []byte, lines int, err error) {
	k, err := parseKnown(old)
	if err != nil {
		return nil, 0, err
	}
	change := make(map[int]Known) // by line
	for _, i := range k.at[addr] {
		if !k.list[i].Revoked {
			change[k.list[i].Line] = k.list[i]
		}
	}
	number := 0
	for raw := range bytes.Lines(old) {
		number++
		l, ok := change[number]
		if !ok {
			data = append(data, raw...)
			continue
		}
		l.Addrs = slices.DeleteFunc(slices.Clone(l.Addrs), func(a string) bool { return a == addr })
		if len(l.Addrs) > 0 {
			data = append(data, l.String()+"\n"...)
		}
	}
	return data, len(change), nil
}

// List returns what the file says, in its order.
func (f *KnownFile) List() ([]Known, error) {
	k, err := f.file.Get()
	list := slices.Clone(k.list)
	for i := range list {
		list[i].Addrs = slices.Clone(list[i].Addrs)
	}
	return list, err
}

// A ChangedKeyError says that another key answers at an address than the one
// that is known there.
type ChangedKeyError struct {
	Addr       string
	Known, Got identity.NodeID
	Path       string // of the file
	Line       int    // in it
}

// Error names all of it, in several lines, and says what to do.
func (e *ChangedKeyError) Error() string {
	return fmt.Sprintf(`trust: THE NODE AT %s HAS CHANGED ITS KEY
Either somebody answers in its place, or it really has another key now.
  known: %v (%s:%d)
  found: %v
No connection was made. Ask whoever runs the node, in a way that does not go
through this address, which key is its own. Only if it is the one that was
found: delete the address from line %d of %s, and connect again.`,
		e.Addr, e.Known, e.Path, e.Line, e.Got, e.Line, e.Path)
}
