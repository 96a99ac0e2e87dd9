// Package trust keeps what a node believes about keys besides who is let in:
// which key was found at an address ([KnownFile]), which keys are not to be
// believed any more ([RevokedFile]), which key takes the place of which
// ([Rotation]), and the secrets that a group of nodes shares ([ReadPSKs]).
//
// It fails closed, as package identity does. A missing file says nothing; one
// that is there and cannot be used, be it for one line, is a no to everybody:
// the line may have been the one that forbids.
package trust

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"unicode"

	"ckt.local/transport/identity"
)

const (
	maxFile    = 1 << 20 // bytes
	maxEntries = 8192
	maxLine    = 8 << 10 // bytes, line end included
)

// A lineError says which line of which text is not understood. The path is
// filled in where it is known.
type lineError struct {
	path string
	line int
	err  error
}

// Error names the place as editors understand it.
func (e *lineError) Error() string {
	if e.path == "" {
		return fmt.Sprintf("trust: line %d: %v", e.line, e.err)
	}
	return fmt.Sprintf("trust: %s:%d: %v; mend the line or delete it: until then the file is not used", e.path, e.line, e.err)
}

// Unwrap returns what is wrong with the line.
func (e *lineError) Unwrap() error { return e.err }

// eachLine calls yield for each line that is neither empty nor a comment,
// trimmed, and bounds what there may be of them.
func eachLine(data []byte, yield func(number int, line string) error) error {
	if len(data) > maxFile {
		return fmt.Errorf("trust: more than %d bytes", maxFile)
	}
	number, entries := 0, 0
	for raw := range bytes.Lines(data) {
		number++
		line := strings.Trim(string(raw[:min(len(raw), maxLine+1)]), " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		entries++
		var err error
		switch {
		case len(raw) > maxLine:
			err = fmt.Errorf("%d bytes, more than %d", len(raw), maxLine)
		case entries > maxEntries:
			err = fmt.Errorf("more than %d entries", maxEntries)
		case strings.ContainsFunc(line, isControl):
			err = fmt.Errorf("control character")
		default:
			err = yield(number, line)
		}
		if err != nil {
			return &lineError{line: number, err: err}
		}
	}
	return nil
}

// isControl tells what may not stand in a line that people read on a
// terminal. A tab is harmless.
func isControl(r rune) bool { return unicode.IsControl(r) && r != '\t' }

// clip bounds how much foreign text an error repeats.
func clip(s string) string { return s[:min(len(s), 80)] }

// cutWord splits s at its first run of blanks.
func cutWord(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// cleanComment makes of any text one that can stand at the end of a line.
func cleanComment(id identity.NodeID, comment string) (string, error) {
	_, comment, err := identity.ParsePublicLine(id.PublicLine(comment))
	return comment, err
}

// follow opens a file that is followed; what says what it is in the log.
func follow[T any](f *identity.Followed[T], path, what string, log *slog.Logger, parse func([]byte) (T, error)) error {
	if err := prepare(f, path, what, log, parse); err != nil {
		return err
	}
	_, err := f.Get()
	return err
}

// prepare is follow without a look at the file.
func prepare[T any](f *identity.Followed[T], path, what string, log *slog.Logger, parse func([]byte) (T, error)) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	f.SafeFile = identity.SafeFile{Path: abs, Max: maxFile}
	f.Parse = func(data []byte) (T, error) {
		v, err := parse(data)
		return v, atPath(abs, err)
	}
	if log != nil {
		f.Report = func(err error) { log.Error(what, "path", abs, "err", err) }
	}
	return nil
}

func atPath(path string, err error) error {
	if e, ok := err.(*lineError); ok {
		return &lineError{path: path, line: e.line, err: e.err}
	}
	if err != nil {
		return fmt.Errorf("%w (in %s)", err, path)
	}
	return nil
}
