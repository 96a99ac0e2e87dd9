package files

import (
	"errors"
	"fmt"
	"syscall"
)

// A Code is the kind of a receiver's no to one file. The values are part of
// the protocol.
type Code string

// The codes.
const (
	CodeBadPath      Code = "bad-path"      // the path leaves the tree, or leads through what is no directory
	CodeNoSpace      Code = "no-space"      // the receiver's disk or quota is full
	CodeTooLarge     Code = "too-large"     // over the receiver's limit
	CodeHashMismatch Code = "hash-mismatch" // what arrived is not what was sent
	CodeBadRequest   Code = "bad-request"   // the sender breaks the protocol
	CodeIO           Code = "io"            // anything else that went wrong with the receiver's disk
)

// Errors of this side that have nothing to tell but their kind.
var (
	// ErrChanged: the file was written to, or replaced, while it was sent.
	// Nothing of it is left at the receiver.
	ErrChanged = errors.New("files: changed while it was read")

	// ErrHashMismatch: the hash that one side has computed is not the one
	// that the other side says.
	ErrHashMismatch = errors.New("files: hashes differ")
)

// A PathError says that a path cannot be the name of a received file.
type PathError struct {
	Path   string
	Reason string
}

// Error quotes the path.
func (e *PathError) Error() string { return fmt.Sprintf("files: path %.200q %s", e.Path, e.Reason) }

// A SizeError says that a file is larger than the receiver takes, or than the
// sender had said.
type SizeError struct {
	Size, Limit int64 // bytes
}

// Error names size and limit.
func (e *SizeError) Error() string {
	return fmt.Sprintf("files: %d bytes are over the limit of %d", e.Size, e.Limit)
}

// A RemoteError is the receiver's no to one file. Other files go on.
type RemoteError struct {
	Code   Code
	Reason string // foreign text
}

// Error gives the receiver's words.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("files: receiver: %s: %s", e.Code, e.Reason)
}

// A FileError says why one file or directory was not pushed.
type FileError struct {
	Path string // slash-separated, relative to what was pushed
	Err  error
}

// Error names the path and the cause.
func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// A requestError says that a fragment does not follow the protocol.
type requestError struct{ what string }

func (e *requestError) Error() string { return "files: bad request: " + e.what }

// codeOf is the one place where an error of the receiver becomes a code.
func codeOf(err error) Code {
	if _, ok := errors.AsType[*PathError](err); ok {
		return CodeBadPath
	}
	if _, ok := errors.AsType[*SizeError](err); ok {
		return CodeTooLarge
	}
	if _, ok := errors.AsType[*requestError](err); ok {
		return CodeBadRequest
	}
	switch {
	case errors.Is(err, ErrHashMismatch):
		return CodeHashMismatch
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return CodeNoSpace
	case errors.Is(err, syscall.EFBIG):
		return CodeTooLarge
	}
	return CodeIO
}
