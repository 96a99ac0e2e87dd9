package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"ckt.local/transport/identity"
)

// How authorize goes about a key that is listed already.
type authorizing struct {
	replace, add bool   // one of them at most
	like         string // whose options to take; "": nobody's
}

var errListed = errors.New("the key is listed already")

// merge makes of the lines that a key has, and those that are wanted, the ones
// that it is to have. A wanted line with the rights of one that is there is
// that one. errListed: nobody has said what is to become of the others.
func (h authorizing) merge(mine, wanted []identity.Entry) ([]identity.Entry, error) {
	var same, fresh []identity.Entry
	for _, w := range wanted {
		is := func(e identity.Entry) bool { return sameRights(e, w) }
		switch i := slices.IndexFunc(mine, is); {
		case i >= 0 && !slices.ContainsFunc(same, is):
			same = append(same, mine[i])
		case i >= 0:
		case !slices.ContainsFunc(fresh, is):
			if w.Comment == "" && len(mine) > 0 {
				w.Comment = mine[0].Comment // it is the same key
			}
			fresh = append(fresh, w)
		}
	}
	switch {
	case h.replace:
		return append(same, fresh...), nil
	case h.add || len(mine) == 0 || len(fresh) == 0:
		return append(slices.Clone(mine), fresh...), nil
	}
	return nil, errListed
}

// sameRights tells whether two lines allow the same.
func sameRights(x, y identity.Entry) bool {
	same := func(x, y []string) bool {
		set := func(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
		return (x == nil) == (y == nil) && slices.Equal(set(x), set(y))
	}
	return same(x.Services, y.Services) && same(x.Start, y.Start) && same(x.From, y.From) &&
		x.Expires.Equal(y.Expires) && x.MaxCircuits == y.MaxCircuits && x.Rate == y.Rate
}

// A listedError says that a key has lines already, and nobody has said what is
// to become of them.
type listedError struct {
	id    identity.NodeID
	path  string
	lines []identity.Entry
	again func(flag string) string // the command with one flag more
}

func (e *listedError) Error() string {
	return fmt.Sprintf("node %v is listed in %s already, and may do what any of its lines allows; nothing was written", e.id, e.path)
}

const (
	mostShown = 8   // lines of a key
	longShown = 120 // characters of a line
)

func (a *app) listed(e *listedError) verdict {
	v := verdict{
		Code: "listed", Exit: exitUsage, Message: e.Error(),
		Hint: fmt.Sprintf("to put this in their place: %s; to allow this as well: %s", e.again("--replace"), e.again("--add")),
	}
	for i, l := range e.lines {
		if i == mostShown {
			v.Lines = append(v.Lines, fmt.Sprintf("and %d more", len(e.lines)-i))
			break
		}
		v.Lines = append(v.Lines, fmt.Sprintf("line %d: %s", l.Line, cutLine(l)))
	}
	return v
}

// cutLine is a line for people: of the key only the end, which is enough to
// find it by.
func cutLine(e identity.Entry) string {
	const end = 8
	key := strings.Fields(e.ID.PublicLine(""))[1]
	s := strings.Replace(e.String(), key, "…"+key[len(key)-end:], 1)
	if utf8.RuneCountInString(s) > longShown {
		s = string([]rune(s)[:longShown-1]) + "…"
	}
	return s
}

// A notListedError says that a key has no line that could be taken off or
// copied.
type notListedError struct {
	id   identity.NodeID
	path string
}

func (e *notListedError) Error() string {
	return fmt.Sprintf("node %v is not listed in %s", e.id, e.path)
}
func (e *notListedError) Unwrap() error { return fs.ErrNotExist }

func notListed(*app, *notListedError) verdict {
	return verdict{Code: "not-found", Exit: exitFailed, Hint: "if that is the wrong file, name the other one: --authorized FILE; peerctl id KEYFILE prints the node ID of a key"}
}

// again is this command with one flag more, for a shell.
func (a *app) again(flag string) string {
	words := make([]string, 0, len(a.args)+2)
	words = append(words, "peerctl")
	at := slices.Index(a.args, "--") // what comes behind that is no flag
	if at < 0 {
		at = len(a.args)
	}
	for _, w := range slices.Insert(slices.Clone(a.args), at, flag) {
		words = append(words, shellWord(w))
	}
	return strings.Join(words, " ")
}

// shellWord is s as a shell has to be given it.
func shellWord(s string) string {
	odd := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./:,@%+=", r))
	}
	if s != "" && !strings.ContainsFunc(s, odd) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
