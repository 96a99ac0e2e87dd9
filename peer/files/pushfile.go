package files

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/zeebo/blake3"

	"ckt.local/circuit"
)

// send pushes one file or directory over a circuit of its own and returns how
// many bytes of the file it has told the progress of.
func (p *pusher) send(ctx context.Context, m meta, buf []byte) (int64, error) {
	if m.dir {
		c, err := p.open(ctx, m)
		if err != nil {
			return 0, err
		}
		defer p.close(c)
		_, err = p.answer(ctx, c, newTurn())
		return 0, err
	}
	// Not to block, should the file have become a pipe since the scan.
	f, err := p.root.OpenFile(filepath.FromSlash(m.path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, ErrChanged
	}
	now := metaOf(m.path, info)
	c, err := p.open(ctx, now)
	if err != nil {
		return 0, err
	}
	defer p.close(c)
	s := &sending{p: p, c: c, f: f, meta: now, buf: buf, turn: newTurn()}
	err = s.run(ctx)
	return s.sent, err
}

// A sending is one file on its way. The goroutine of its worker owns it.
type sending struct {
	p    *pusher
	c    *circuit.Circuit
	f    *os.File
	meta meta
	buf  []byte
	turn *turn
	sent int64
	sum  digest
}

// run sends the file while a second goroutine, joined here, waits for the
// answer, which may come at any time.
func (s *sending) run(ctx context.Context) error {
	type verdict struct {
		sum digest
		err error
	}
	answered := make(chan verdict, 1)
	sendCtx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		sum, err := s.p.answer(ctx, s.c, s.turn)
		answered <- verdict{sum, err}
		stop()
	}()
	local := s.stream(sendCtx)
	s.p.watch.settling.Add(s.sent)
	defer s.p.watch.settling.Add(-s.sent)
	defer s.p.watch.answered(s.sent)
	if local != nil {
		// The answering goroutine ends with the circuit, if it has not yet.
		s.c.CloseWith(local)
	}
	v := <-answered
	switch {
	case local != nil:
		return local
	case v.err != nil:
		return v.err
	case v.sum != s.sum:
		return ErrHashMismatch
	}
	return nil
}

// stream sends data and end. Its error is about the file; whatever is wrong
// with the circuit, the answer tells, and stream returns nil.
func (s *sending) stream(ctx context.Context) error {
	hash := blake3.New()
	for part := int64(1); ; part++ {
		n, err := io.ReadFull(s.f, s.buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if s.sent+int64(n) > s.meta.size {
			return ErrChanged
		}
		_, _ = hash.Write(s.buf[:n]) // never fails
		if s.sent+int64(n) > maxAhead && !s.turn.wait(ctx) {
			return nil
		}
		if s.c.Send(ctx, &circuit.Fragment{FragOp: opData, FragPart: part, Payload: s.buf[:n]}) != nil {
			return nil
		}
		s.p.watch.sent(s.sent, int64(n))
		s.sent += int64(n)
		s.p.doneBytes.Add(int64(n))
		s.p.progress()
	}
	if err := s.unchanged(); err != nil {
		return err
	}
	s.sum = digest{hash: hex.EncodeToString(hash.Sum(nil)), bytes: s.sent}
	_ = s.c.Send(ctx, &circuit.Fragment{FragOp: opEnd, Args: s.sum.args()})
	return nil
}

func (s *sending) unchanged() error {
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	if s.sent != s.meta.size || info.Size() != s.meta.size || !info.ModTime().Equal(s.meta.mtime) {
		return ErrChanged
	}
	return nil
}

// A turn is when a file gets its place at the receiver.
type turn struct{ come chan struct{} }

func newTurn() *turn { return &turn{come: make(chan struct{})} }

// wait returns whether the turn has come before ctx ended.
func (t *turn) wait(ctx context.Context) bool {
	select {
	case <-t.come:
		return true
	case <-ctx.Done():
		return false
	}
}

// hear takes the receiver's word on the turn, and tells whether it was one
// that may be said now. Said again, it would pass for progress without end.
func (t *turn) hear(op int, w *watch) bool {
	select {
	case <-t.come:
		return false
	default:
	}
	switch op {
	case opWait:
		w.waiting()
	case opGo:
		w.touch()
		close(t.come)
	default:
		return false
	}
	return true
}

// answer waits for the receiver's word on what c carries, which has its turn
// at t.
func (p *pusher) answer(ctx context.Context, c *circuit.Circuit, t *turn) (digest, error) {
	for f, err := range c.Fragments(ctx) {
		if f == nil {
			return digest{}, lost(err)
		}
		if err == nil && t.hear(f.FragOp, p.watch) {
			continue
		}
		p.watch.touch()
		switch {
		case f.FragOp == opFailed:
			return digest{}, &RemoteError{Code: Code(f.Args[argCode]), Reason: f.Err}
		case err != nil:
			return digest{}, err
		case f.FragOp == opDone && f.Args[argHash] == "":
			return digest{}, nil // a directory's
		case f.FragOp == opDone:
			return parseDigest(f)
		}
		return digest{}, &stopError{err: ErrNotFiles}
	}
	return digest{}, lost(circuit.ErrRemoteClosed)
}

// lost decides whether a circuit that ended without an answer stops the push:
// without the peer, the other files would wait for their failure one by one.
func lost(err error) error {
	if errors.Is(err, circuit.ErrPeerLost) {
		return &stopError{err: err}
	}
	return err
}
