package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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
	line := e.String()
	back, err := parseEntry(line, len(line)+1)
	if err != nil {
		return fmt.Errorf("identity: entry: %w", err)
	}
	if !slices.Equal(back.Services, e.Services) || !slices.Equal(back.From, e.From) {
		return errors.New("identity: entry: a list element holds a comma")
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	err = appendLine(f, path, line)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return nil
}

func appendLine(f *os.File, path, line string) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("identity: %s: not a regular file", path)
	}
	if err := errors.Join(checkDirs(path), checkTrusted(path, info)); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPeersFile+1))
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	for old := range bytes.Lines(data) {
		if strings.Trim(string(old), " \t\r\n") == line {
			return nil
		}
	}
	text := line + "\n"
	if len(data) > 0 && data[len(data)-1] != '\n' {
		text = "\n" + text
	}
	if len(data)+len(text) > maxPeersFile {
		return fmt.Errorf("identity: %s: would have more than %d bytes", path, maxPeersFile)
	}
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return nil
}
