package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
)

// PushOptions says how to push. Zero fields are their defaults.
type PushOptions struct {
	// Parallel is how many files are under way at once. Default 8.
	Parallel int

	// Into is the directory, relative to the receiver's, that what is pushed
	// goes to. Default: the receiver's own.
	Into string

	// OpenTimeout bounds the wait for the receiver's yes to each circuit.
	// Default 10 s; negative: for ever.
	OpenTimeout time.Duration

	// Linger is how long a connection that is lost after the receiver's first
	// answer is waited for when a circuit is to be opened. The circuits that
	// are open wait as Config.Circuit.Linger of the node says. Default 2 min,
	// negative: not at all.
	Linger time.Duration

	// StallTimeout is how long nothing of the push may move before it is
	// given up. What is under way, at most 1 MiB of each file, gives a second
	// more for each 32 KiB, and files sent whole a second for each 16 MiB, to
	// bring them to the receiver's disk. Time without a connection does not
	// count, once it is noticed, which takes up to 6 s. A file that waits
	// because the receiver has no place for more moves while others do there,
	// of which the receiver tells every 3 s; if that is all that moves, it is
	// believed for an hour. Default 30 s; negative: for ever.
	StallTimeout time.Duration

	// Progress is told after each step how far the push has come. It is
	// called from several goroutines at once.
	Progress func(Progress)

	// Opened is told of each circuit when it is open, to see what becomes of
	// it. Waiting is told why a circuit could not be opened for want of a
	// connection, before that is tried again. They are called from several
	// goroutines at once; what they keep waiting is the push.
	Opened  func(*circuit.Circuit)
	Waiting func(error)
}

// Progress is how far a push has come. What has failed counts as done.
type Progress struct {
	Files, TotalFiles int   // directories are not counted
	Bytes, TotalBytes int64 // of files
}

// A Report is the result of a push.
type Report struct {
	Files   int   // verified at the receiver
	Dirs    int   // made at the receiver
	Bytes   int64 // in those files
	Elapsed time.Duration
	Skipped []string     // paths of symbolic links, devices, pipes, sockets
	Failed  []*FileError // what did not get there, each once, in lexical order
}

// Push sends the file, or what is in the directory, at path to the files peer
// at peerURL, one circuit for each, and returns when all of it is verified
// there. The files get the permission bits and modification times they have
// here. The receiver is spoken to before anything is sent, and so if there is
// nothing to send, too. A connection that is lost under way is waited for.
//
// What goes wrong with one file is in the report and does not stop the
// others. The error is for what stops the push: path is neither a directory
// nor a regular file ([SourceError]) or cannot be opened, Into is no path
// ([PathError]) or is refused ([RemoteError]), a circuit is refused, the peer
// is none of this service ([ErrNotFiles]), is lost or stands still
// ([ErrStalled]), ctx or lp has ended; the report then tells what was done.
func Push(ctx context.Context, lp *peer.LocalPeer, peerURL, path string, opts PushOptions) (Report, error) {
	start := time.Now()
	if opts.Into != "" {
		if err := CheckPath(opts.Into); err != nil {
			return Report{}, err
		}
	}
	root, only, err := openSource(path)
	if err != nil {
		return Report{}, err
	}
	defer root.Close()
	t, err := scan(ctx, root, only)
	if err != nil {
		return Report{}, fmt.Errorf("files: %w", err)
	}
	p := &pusher{
		lp: lp, url: peerURL, opts: opts, root: root, tree: t, watch: newWatch(opts.StallTimeout),
		report: Report{Skipped: t.skipped, Failed: t.failed},
	}
	for _, m := range t.items {
		if !m.dir {
			p.files++
		}
	}
	err = p.run(ctx)
	p.report.Elapsed = time.Since(start)
	slices.SortFunc(p.report.Failed, func(a, b *FileError) int { return strings.Compare(a.Path, b.Path) })
	return p.report, err
}

// A pusher is one Push under way.
type pusher struct {
	lp    *peer.LocalPeer
	url   string
	opts  PushOptions
	root  *os.Root
	tree  *tree
	files int // in tree
	watch *watch

	doneFiles atomic.Int64
	doneBytes atomic.Int64

	mu     sync.Mutex // never held while anything waits
	report Report
}

// run joins the workers before it returns.
func (p *pusher) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var guard sync.WaitGroup
	defer guard.Wait()
	defer cancel(nil)
	guard.Go(func() { p.watch.guard(ctx, cancel) })
	if err := p.greet(ctx); err != nil {
		return err
	}
	work := make(chan meta)
	var workers sync.WaitGroup
	defer workers.Wait()
	parallel := min(cmp.Or(max(p.opts.Parallel, 0), 8), max(len(p.tree.items), 1))
	for range parallel {
		workers.Go(func() {
			buf := make([]byte, maxData)
			for m := range work {
				if err := p.one(ctx, m, buf); err != nil {
					cancel(err)
				}
			}
		})
	}
	p.progress()
	for _, m := range p.tree.items {
		select {
		case work <- m:
		case <-ctx.Done():
		}
	}
	close(work)
	workers.Wait()
	return context.Cause(ctx)
}

// one pushes one file or directory and notes the outcome. It returns an error
// only if the whole push must stop.
func (p *pusher) one(ctx context.Context, m meta, buf []byte) error {
	if ctx.Err() != nil {
		return nil // the push has stopped already
	}
	sent, err := p.send(ctx, m, buf)
	if ctx.Err() != nil && err != nil {
		return nil // the cause is another file's, or the caller's
	}
	if stopped, ok := errors.AsType[*stopError](err); ok {
		return stopped.err
	}
	if !m.dir {
		p.doneFiles.Add(1)
		p.doneBytes.Add(m.size - sent) // what was not sent will not be
	}
	p.note(m, sent, err)
	p.progress()
	return nil
}

func (p *pusher) note(m meta, sent int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil:
		p.report.Failed = append(p.report.Failed, &FileError{Path: m.path, Err: err})
	case m.dir:
		p.report.Dirs++
	default:
		p.report.Files++
		p.report.Bytes += sent
	}
}

func (p *pusher) progress() {
	if p.opts.Progress == nil {
		return
	}
	p.opts.Progress(Progress{
		Files: int(p.doneFiles.Load()), TotalFiles: p.files,
		Bytes: p.doneBytes.Load(), TotalBytes: p.tree.bytes,
	})
}

// A stopError is what no other file would fare better with.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

// greet makes sure that a receiver is there, speaks the protocol, and has the
// directory that everything goes to. Its error stops the push.
func (p *pusher) greet(ctx context.Context) error {
	there := meta{path: cmp.Or(p.opts.Into, rootPath), dir: true, anyMode: true}
	c, err := p.dial(there, cmp.Or(p.opts.OpenTimeout, defaultOpenTimeout))
	if err != nil {
		return err
	}
	defer p.close(c)
	_, err = p.answer(ctx, c, newTurn())
	if stopped, ok := errors.AsType[*stopError](err); ok {
		return stopped.err
	}
	return err
}
