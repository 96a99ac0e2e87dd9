package identity

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
)

// A Followed is a file that is followed as it changes: each Get goes by what
// the file says at that moment. Its fields are set before its first use and
// then left alone. Its methods may be called from any goroutine. It holds
// nothing open and needs no Close.
type Followed[T any] struct {
	SafeFile // with an absolute Path

	// Parse makes of the file's content what Get returns, to be changed by
	// nobody. It is called by one goroutine at a time, and not again while the
	// content stays the same.
	Parse func(data []byte) (T, error)

	// Report, if it is set, is told that the file cannot be used, once for
	// each reason in a row.
	Report func(error)

	loading sync.Mutex // held while reading; only those who need that read wait
	current atomic.Pointer[snapshot[T]]
}

// A snapshot is what one load found. It is not changed once it is stored.
type snapshot[T any] struct {
	seen    sight
	settled bool     // a later change cannot look the same
	sum     [32]byte // of the content; zero if it was not read
	value   T
	err     error // why the file is not used
}

// Get returns what the file says now: the zero value if there is none, and an
// error if it is there and cannot be used.
func (f *Followed[T]) Get() (T, error) {
	s := f.latest()
	return s.value, s.err
}

func (f *Followed[T]) latest() *snapshot[T] {
	if s := f.current.Load(); s != nil && s.settled && s.seen.same(f.look()) {
		return s
	}
	return f.load()
}

func (f *Followed[T]) load() *snapshot[T] {
	f.loading.Lock()
	defer f.loading.Unlock()
	old := f.current.Load()
	if old != nil && old.settled && old.seen.same(f.look()) {
		return old // another goroutine was faster
	}
	next, data := f.observe()
	switch {
	case next.err != nil, next.seen.err != nil: // not to be used, or missing
	case old != nil && old.sum == next.sum:
		next.value, next.err = old.value, old.err
	default:
		next.value, next.err = f.Parse(data)
	}
	if next.err != nil && f.Report != nil && (old == nil || old.err == nil || old.err.Error() != next.err.Error()) {
		f.Report(next.err)
	}
	f.current.Store(next)
	return next
}

// observe reads the file whole, as it was at one moment.
func (f *Followed[T]) observe() (*snapshot[T], []byte) {
	for range maxTries {
		started := time.Now()
		s := &snapshot[T]{seen: f.look()}
		if errors.Is(s.seen.err, fs.ErrNotExist) {
			s.settled = true
			return s, nil
		}
		if s.seen.err != nil {
			s.err = s.seen.err
			return s, nil
		}
		data, file, err := f.read()
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
	return &snapshot[T]{err: fmt.Errorf("identity: %s: changes all the time", f.Path)}, nil
}

// A sight is what can be seen of a file without reading it.
type sight struct {
	file fs.FileInfo // nil if err is set
	err  error       // missing, or not to be trusted, or not to be seen
}

// look also checks the directories above the file, each time: somebody may
// have opened one of them to others.
func (f SafeFile) look() sight {
	if f.Holds == "" {
		if err := checkDirs(f.Path); err != nil {
			return sight{err: err}
		}
	}
	file, err := os.Stat(f.Path)
	if err != nil {
		return sight{err: fmt.Errorf("identity: %w", err)}
	}
	return sight{file: file}
}

// same tells whether nothing has changed between two sights. What could not
// be seen at all may have changed.
func (s sight) same(o sight) bool {
	if s.err != nil || o.err != nil {
		return errors.Is(s.err, fs.ErrNotExist) && errors.Is(o.err, fs.ErrNotExist)
	}
	return s.file != nil && o.file != nil && sameContent(s.file, o.file) && sameNode(s.file, o.file)
}

func sameNode(a, b fs.FileInfo) bool {
	aUID, _ := ownerOf(a)
	bUID, _ := ownerOf(b)
	return os.SameFile(a, b) && a.Mode() == b.Mode() && aUID == bUID
}
