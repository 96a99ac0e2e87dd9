package files

import (
	"errors"
	"fmt"
	"io/fs"
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
	CodeSlow         Code = "slow"          // too little came of the file while others waited for its place
	CodeIO           Code = "io"            // anything else that went wrong with the receiver's disk
)

// Errors of this side that have nothing to tell but their kind.
var (
	// ErrChanged: the file was written to, or replaced, while it was sent.
	// Nothing of it is left at the receiver.
	ErrChanged = errors.New("files: changed while it was read")

	// ErrStalled: the receiver took the circuits and then neither read nor
	// answered for [PushOptions.StallTimeout].
	ErrStalled = errors.New("files: nothing has moved")

	// errIdle is how the receiver ends a circuit on which nothing came for
	// maxIdle.
	errIdle = errors.New("files: nothing was sent for too long")

	// errSlow is how the receiver takes a place away.
	errSlow = errors.New("files: too slow while others wait for the place")

	// ErrNotFiles: what the peer answers is no answer of a files peer. It may
	// run another service, such as echo.
	ErrNotFiles = errors.New("files: the peer does not speak the files protocol")

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

// A SourceError says that what was named to be pushed is neither a directory
// nor a regular file.
type SourceError struct {
	Path string
	Mode fs.FileMode
}

// Error says what it is.
func (e *SourceError) Error() string {
	return fmt.Sprintf("files: %.200q is %s", e.Path, kindOf(e.Mode))
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link; name what it points to"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe, no file or directory"
	case mode&fs.ModeSocket != 0:
		return "a socket, no file or directory"
	case mode&fs.ModeDevice != 0:
		return "a device, no file or directory"
	case mode.IsRegular():
		return "a file that was not received whole"
	}
	return "no file or directory"
}

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

// Error quotes the receiver's words.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("files: receiver: %.40q: %q", e.Code, e.Reason)
}

// A FileError says why one file or directory was not pushed.
type FileError struct {
	Path string // slash-separated, relative to what was pushed
	Err  error
}

// Error quotes the path and tells the cause.
func (e *FileError) Error() string { return fmt.Sprintf("%q: %v", e.Path, e.Err) }

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
	case errors.Is(err, errSlow):
		return CodeSlow
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return CodeNoSpace
	case errors.Is(err, syscall.EFBIG):
		return CodeTooLarge
	}
	return CodeIO
}
