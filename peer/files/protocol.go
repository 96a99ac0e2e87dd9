package files

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"ckt.local/circuit"
)

// The operations, as FragOp. The sender opens a circuit with opPut, sends
// opData until all is sent, then opEnd; the receiver answers with one opDone
// or one opFailed, at any time, and closes. A directory is an opPut alone;
// without a mode it gets, or keeps, what the receiver gives it. The directory
// rootPath is the receiver's own: putting it asks whether somebody is there.
//
// What has no place at the receiver yet may be told so by opWait, now and then.
// Once it has one, the receiver says opGo, once, if it has said opWait or the
// file is larger than maxAhead; it says no opWait behind it. More than maxAhead
// bytes of a file are not sent before opGo.
const (
	opPut    = 1 // FragSubject: path; Args: kind, size, mode, mtime
	opData   = 2 // FragPart: 1, 2, 3 …; Payload: up to maxData bytes
	opEnd    = 3 // Args: hash, bytes
	opDone   = 4 // Args: hash, bytes
	opFailed = 5 // Err: in words; Args: code
	opWait   = 6 // other files move, and this one has no place yet
	opGo     = 7 // it has one
)

// maxData is the payload of an opData, in bytes: large enough that the cost
// per fragment does not matter, and a quarter of the default window, so that
// one is written while others are under way.
const maxData = 256 << 10

// maxAhead is how many bytes of a file may be sent before it is known to have a
// place: the default window of a circuit, so that nothing waits for opGo that
// would not wait for credit.
const maxAhead = 1 << 20

// The keys of Args.
const (
	argKind  = "kind"
	argSize  = "size"
	argMode  = "mode"
	argMtime = "mtime"
	argHash  = "hash"
	argBytes = "bytes"
	argCode  = "code"
)

// The values of argKind.
const (
	kindFile = "file"
	kindDir  = "dir"
)

// The texts of a fragment may be this long, in bytes.
const (
	maxPath = 1024 // FragSubject
	maxErr  = 4096 // Err
)

// rootPath is the one path that [CheckPath] refuses and a directory may have.
const rootPath = "."

// meta is what opPut says of a file or directory.
type meta struct {
	path  string // slash-separated, relative to the receiver's directory
	dir   bool
	size  int64       // bytes
	mode  fs.FileMode // permission bits only
	mtime time.Time   // to the nanosecond

	anyMode bool // of a directory: mode does not count
}

func (m meta) fragment() *circuit.Fragment {
	kind := kindFile
	if m.dir {
		kind = kindDir
	}
	args := map[string]string{
		argKind:  kind,
		argSize:  strconv.FormatInt(m.size, 10),
		argMtime: m.mtime.UTC().Format(time.RFC3339Nano),
	}
	if !m.anyMode {
		args[argMode] = strconv.FormatUint(uint64(m.mode.Perm()), 8)
	}
	return &circuit.Fragment{FragOp: opPut, FragSubject: m.path, Args: args}
}

func parseMeta(f *circuit.Fragment) (meta, error) {
	m := meta{path: f.FragSubject}
	switch kind := f.Args[argKind]; kind {
	case kindFile:
	case kindDir:
		m.dir = true
	default:
		return m, &requestError{what: fmt.Sprintf("kind %.40q", kind)}
	}
	size, err := strconv.ParseInt(f.Args[argSize], 10, 64)
	if err != nil || size < 0 {
		return m, &requestError{what: fmt.Sprintf("size %.40q", f.Args[argSize])}
	}
	if err := m.parseMode(f.Args); err != nil {
		return m, err
	}
	m.mtime, err = time.Parse(time.RFC3339Nano, f.Args[argMtime])
	if err != nil {
		return m, &requestError{what: fmt.Sprintf("mtime %.40q", f.Args[argMtime])}
	}
	m.size = size
	return m, nil
}

func (m *meta) parseMode(args map[string]string) error {
	text, ok := args[argMode]
	if m.dir && !ok {
		m.anyMode = true
		return nil
	}
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || fs.FileMode(mode)&^fs.ModePerm != 0 {
		return &requestError{what: fmt.Sprintf("mode %.40q", text)}
	}
	m.mode = fs.FileMode(mode)
	return nil
}

// A digest is the BLAKE3-256 of a file and its length in bytes, which opEnd
// and opDone carry.
type digest struct {
	hash  string // 64 hexadecimal digits
	bytes int64
}

func (d digest) args() map[string]string {
	return map[string]string{argHash: d.hash, argBytes: strconv.FormatInt(d.bytes, 10)}
}

func parseDigest(f *circuit.Fragment) (digest, error) {
	d := digest{hash: f.Args[argHash]}
	if b, err := hex.DecodeString(d.hash); err != nil || len(b) != 32 {
		return d, &requestError{what: fmt.Sprintf("hash %.80q", d.hash)}
	}
	var err error
	if d.bytes, err = strconv.ParseInt(f.Args[argBytes], 10, 64); err != nil {
		return d, &requestError{what: fmt.Sprintf("bytes %.40q", f.Args[argBytes])}
	}
	return d, nil
}

// failure is the receiver's no to the file at path.
func failure(path string, err error) *circuit.Fragment {
	reason := err.Error()
	// The path of the temporary file is nobody's business but the log's.
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		reason = e.Err.Error()
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		reason = e.Err.Error()
	}
	if len(reason) > maxErr {
		reason = reason[:maxErr]
	}
	return &circuit.Fragment{
		FragOp: opFailed, FragSubject: path, Err: reason,
		Args: map[string]string{argCode: string(codeOf(err))},
	}
}
