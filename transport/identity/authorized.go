package identity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// unsettled is how long after its last change a file is read anew each
	// time: two writes within the coarsest clock of a file system (2 s) can
	// leave the same time and size behind.
	unsettled = 2 * time.Second

	// maxTries is how often a file that changes while it is read is read.
	maxTries = 5

	// maxLogged is how many bad lines of one load are logged.
	maxLogged = 20
)

// An AuthorizedFile is an authorized_peers file that is followed as it
// changes: each check goes by what the file says at that moment. Its methods
// may be called from any goroutine. It holds nothing open and needs no Close.
type AuthorizedFile struct {
	path string
	log  *slog.Logger

	loading sync.Mutex // held while reading; only those who need that read wait
	current atomic.Pointer[snapshot]
}

// A snapshot is what one load found. It is not changed once it is stored.
type snapshot struct {
	seen    sight
	settled bool     // a later change cannot look the same
	sum     [32]byte // of the content; zero if it was not read
	rules   map[NodeID][]rule
	err     error // why the file is not used
}

type rule struct {
	Entry
	from []pattern
}

// OpenAuthorizedFile reads the file at path. A missing file is not an error:
// nobody is listed until it appears. A file that is there and cannot be used
// is one; see [AuthorizedFile.Check]. A nil log is no log.
func OpenAuthorizedFile(path string, log *slog.Logger) (*AuthorizedFile, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &AuthorizedFile{path: abs, log: log}
	if s := f.load(); s.err != nil {
		return nil, s.err
	}
	return f, nil
}

// An Access is what an authorized_peers file is asked about.
type Access struct {
	ID       NodeID
	From     netip.Addr // zero: not known, and then no line that says from allows it
	Service  string     // to be used; empty: only to connect
	Start    bool       // a peer of the service is to be started
	Circuits int        // how many the node has open, the one that is asked for included; 0: none is asked for
}

// Check returns nil if the access is allowed at time now. A key with several
// lines is allowed what any one of them allows.
//
// Any other result is a [DeniedError]. A file that others may write to, or
// that belongs to another user than this one and root, or whose directory
// does so, is not used: nobody is allowed anything, and the DeniedError wraps
// an [UnsafeFileError]. The same goes for a file that cannot be read.
func (f *AuthorizedFile) Check(a Access, now time.Time) error {
	id, from, service := a.ID, a.From, a.Service
	denied := &DeniedError{ID: id, Service: service, Reason: "not listed"}
	if service != "" {
		if err := ValidServiceName(service); err != nil {
			denied.Reason = "no service can have this name"
			return denied
		}
	}
	s := f.latest()
	if s.err != nil {
		denied.Reason, denied.Err = s.err.Error(), s.err
		return denied
	}
	for _, r := range s.rules[id] {
		reason := r.deny(from, service, now)
		if reason == "" {
			return nil
		}
		denied.Reason = fmt.Sprintf("line %d: %s", r.Line, reason)
	}
	return denied
}

// deny returns why the line does not allow it; empty: it does.
func (r *rule) deny(from netip.Addr, service string, now time.Time) string {
	switch {
	case !r.Expires.IsZero() && !now.Before(r.Expires):
		return "expired at " + r.Expires.Format(time.RFC3339)
	case r.From != nil && !matchAddr(r.from, from):
		return fmt.Sprintf("not from address %v", from)
	case service != "" && r.Services != nil && !slices.Contains(r.Services, service):
		return "other services only"
	}
	return ""
}

// latest returns what the file says now.
func (f *AuthorizedFile) latest() *snapshot {
	if s := f.current.Load(); s.settled && s.seen.same(look(f.path)) {
		return s
	}
	return f.load()
}

func (f *AuthorizedFile) load() *snapshot {
	f.loading.Lock()
	defer f.loading.Unlock()
	old := f.current.Load()
	if old != nil && old.settled && old.seen.same(look(f.path)) {
		return old // another goroutine was faster
	}
	next, data := f.read()
	switch {
	case next.err != nil:
		if old == nil || old.err == nil || old.err.Error() != next.err.Error() {
			f.log.Error("authorized peers not used, nobody is allowed", "path", f.path, "err", next.err)
		}
	case next.seen.err != nil: // missing, so nobody is listed
	case old != nil && old.sum == next.sum:
		next.rules, next.err = old.rules, old.err
	default:
		next.rules, next.err = f.parse(data)
	}
	f.current.Store(next)
	return next
}

// read reads the file whole, as it was at one moment.
func (f *AuthorizedFile) read() (*snapshot, []byte) {
	for range maxTries {
		started := time.Now()
		s := &snapshot{seen: look(f.path)}
		if errors.Is(s.seen.err, fs.ErrNotExist) {
			s.settled = true
			return s, nil
		}
		if s.seen.err != nil {
			s.err = fmt.Errorf("identity: %w", s.seen.err)
			return s, nil
		}
		data, file, err := readTrusted(f.path)
		if errors.Is(err, errChanged) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			s.err = err
			return s, nil
		}
		// If another file has taken its place since, the next look shows it.
		s.seen.file = file
		s.settled = started.Sub(s.seen.file.ModTime()) > unsettled
		s.sum = sha256.Sum256(data)
		return s, data
	}
	return &snapshot{err: fmt.Errorf("identity: %s: changes all the time", f.path)}, nil
}

func (f *AuthorizedFile) parse(data []byte) (map[NodeID][]rule, error) {
	entries, bad, err := ParseAuthorizedPeers(bytes.NewReader(data))
	for i, e := range bad {
		if i == maxLogged {
			f.log.Warn("more bad lines in authorized peers", "path", f.path, "lines", len(bad)-i)
			break
		}
		e.Path = f.path
		f.log.Warn("bad line in authorized peers skipped", "path", f.path, "line", e.Line, "err", e.Err)
	}
	if err != nil {
		f.log.Error("authorized peers not used, nobody is allowed", "path", f.path, "err", err)
		return nil, atPath(f.path, err)
	}
	rules := make(map[NodeID][]rule, len(entries))
	for _, e := range entries {
		from, err := parsePatterns(e.From)
		if err != nil {
			return nil, err // cannot be: the line was read
		}
		rules[e.ID] = append(rules[e.ID], rule{Entry: e, from: from})
	}
	return rules, nil
}

// readTrusted reads the file if nobody else can have written it.
func readTrusted(path string) ([]byte, fs.FileInfo, error) {
	if err := checkDirs(path); err != nil {
		return nil, nil, err
	}
	return readBounded(path, maxPeersFile, checkTrusted)
}

// checkDirs checks the directory of path, and the one where the file really
// lies if path is a link.
func checkDirs(path string) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(target)} {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("identity: %w", err)
		}
		if err := checkTrusted(dir, info); err != nil {
			return err
		}
	}
	return nil
}

// A sight is what can be seen of a file without reading it.
type sight struct {
	file, dir fs.FileInfo // nil if err is set
	err       error
}

func look(path string) sight {
	file, err := os.Stat(path)
	if err != nil {
		return sight{err: err}
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return sight{err: err}
	}
	return sight{file: file, dir: dir}
}

// same tells whether nothing has changed between two sights. What could not
// be seen at all may have changed.
func (s sight) same(o sight) bool {
	if s.err != nil || o.err != nil {
		return errors.Is(s.err, fs.ErrNotExist) && errors.Is(o.err, fs.ErrNotExist)
	}
	return s.file != nil && o.file != nil &&
		sameContent(s.file, o.file) && sameNode(s.file, o.file) && sameNode(s.dir, o.dir)
}

func sameNode(a, b fs.FileInfo) bool {
	aUID, _ := ownerOf(a)
	bUID, _ := ownerOf(b)
	return os.SameFile(a, b) && a.Mode() == b.Mode() && aUID == bUID
}
