package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// errAppeared: a file that was missing is there by now.
var errAppeared = errors.New("the file has appeared")

// Change changes the lines of one key in one step, or not at all. It gives
// change the entries of the whole file, and change returns those that the key
// is to have: lines that are among them stay as they are, the others of the
// key go, and entries whose Line is 0 are written, where the first line that
// goes was, or at the end. Comments, lines of other keys and those that are
// not understood stay byte for byte. If nothing changes nothing is written; a
// missing file has no entries, and is made if there is something to write.
//
// change may be called more than once, and between its last call and the end
// no other process changes the file. Its error is returned as it is. Entries
// are refused as by [AppendAuthorized], and so is a file that nobody would be
// allowed by any more.
func (f *AuthorizedFile) Change(id NodeID, change func(all []Entry) ([]Entry, error)) error {
	next := func(old []byte) ([]byte, error) { return f.changed(old, id, change) }
	for {
		missing := true
		err := f.file.Rewrite(func(old []byte) ([]byte, error) {
			missing = false
			return next(old)
		})
		if !missing || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// Append makes directories, which an error is not worth.
		if first, err := next(nil); err != nil || len(first) == 0 {
			return err
		}
		err = f.file.Append(func(old []byte) (string, error) {
			if len(old) > 0 {
				return "", errAppeared
			}
			data, err := next(nil)
			return strings.TrimSuffix(string(data), "\n"), err
		})
		if !errors.Is(err, errAppeared) {
			return err
		}
	}
}

// changed is what Change makes of the file's content.
func (f *AuthorizedFile) changed(old []byte, id NodeID, change func([]Entry) ([]Entry, error)) ([]byte, error) {
	all, _, err := parsePeers(old)
	if err != nil {
		return nil, atPath(f.file.Path, err)
	}
	wanted, err := change(slices.Clone(all))
	if err != nil {
		return nil, err
	}
	goes := make(map[int]bool) // by line
	for _, e := range all {
		goes[e.Line] = e.ID == id
	}
	var fresh []byte
	for _, e := range wanted {
		if e.ID != id {
			return nil, errors.New("identity: entry: it is another key's")
		}
		if e.Line != 0 {
			delete(goes, e.Line)
			continue
		}
		line, err := e.checkedLine()
		if err != nil {
			return nil, err
		}
		fresh = append(fresh, line+"\n"...)
	}
	data := spliced(old, goes, fresh)
	if _, _, err := parsePeers(data); err != nil {
		return nil, atPath(f.file.Path, err)
	}
	if len(data) > maxPeersFile {
		return nil, fmt.Errorf("identity: %s: would have more than %d bytes", f.file.Path, maxPeersFile)
	}
	return data, nil
}

// spliced is old without the lines that go, and with fresh in the place of
// the first of them.
func spliced(old []byte, goes map[int]bool, fresh []byte) []byte {
	var data []byte
	number := 0
	for raw := range bytes.Lines(old) {
		number++
		if !goes[number] {
			data = append(data, raw...)
			continue
		}
		data, fresh = append(data, fresh...), nil
	}
	if len(fresh) > 0 && len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data, '\n')
	}
	return append(data, fresh...)
}

// checkedLine is the line of e, if that is read back as e.
func (e Entry) checkedLine() (string, error) {
	line := e.String()
	back, err := parseEntry(line, len(line)+1)
	if err != nil {
		return "", fmt.Errorf("identity: entry: %w", err)
	}
	for _, list := range [][2][]string{{back.Services, e.Services}, {back.Start, e.Start}, {back.From, e.From}} {
		if !slices.Equal(list[0], list[1]) {
			return "", errors.New("identity: entry: a list element holds a comma, or is empty")
		}
	}
	return line, nil
}
