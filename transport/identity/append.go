package identity

import (
	"bytes"
	"strings"
)

// AppendAuthorized adds the line of e to the authorized_peers file at path,
// in one write, and returns when it is on the disk. A line that is there
// already is not added again. A missing file is made with mode 0600, missing
// directories with 0700.
//
// An entry that would not be read back as it is, such as one with a bad
// service name or an empty list, is an error, and so is a file that
// [AuthorizedFile] would not use; nothing is written then.
func AppendAuthorized(path string, e Entry) error {
	line, err := e.checkedLine()
	if err != nil {
		return err
	}
	file := SafeFile{Path: path, Max: maxPeersFile}
	return file.Append(func(old []byte) (string, error) {
		for there := range bytes.Lines(old) {
			if strings.Trim(string(there), " \t\r\n") == line {
				return "", nil
			}
		}
		return line, nil
	})
}
