package main

import (
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
)

// openAudit is where decisions about other nodes are written, as JSON lines:
// a file that is appended to, or stderr. The caller closes it.
func (a *app) openAudit(path string, log *slog.Logger) (*slog.Logger, io.Closer, error) {
	if path == "-" {
		return slog.New(slog.NewJSONHandler(a.stderr, nil)), io.NopCloser(nil), nil
	}
	// Opening a named pipe would wait for a reader.
	if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		return nil, nil, usagef("--audit %s is a pipe; \"-\" writes to stderr", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, advise(fmt.Errorf("the audit log: %w", err), "give --audit a FILE in a directory that this user may write to, or - for stderr")
	}
	w := &auditFile{file: f, log: log}
	return slog.New(slog.NewJSONHandler(w, nil)), w, nil
}

// An auditFile goes on when records cannot be written, and says so once: a
// full disk must not stop a node. What is in the file is whole lines.
type auditFile struct {
	log *slog.Logger

	mu   sync.Mutex // guards what follows; held while a line is written, which waits for the disk only
	file *os.File
	lost int // records, since it could be written last
	torn bool
}

// Write writes one line. It never fails: nobody could do anything about it.
func (w *auditFile) Write(line []byte) (int, error) {
	w.mu.Lock()
	lost, back, err := w.append(line)
	w.mu.Unlock()
	switch {
	case err != nil && lost == 1:
		w.log.Error("audit records are being lost", "file", w.file.Name(), "err", err)
	case back > 0:
		w.log.Warn("audit records are written again", "file", w.file.Name(), "lost", back)
	}
	return len(line), nil
}

// append returns how many records are lost by now, or how many were until now.
func (w *auditFile) append(line []byte) (lost, back int, err error) {
	text := line
	if w.torn {
		text = append([]byte("\n"), line...)
	}
	n, err := w.file.Write(text)
	if err != nil {
		w.lost++
		if n > 0 {
			w.torn = !w.takeBack(int64(n))
		}
		return w.lost, 0, err
	}
	back, w.lost, w.torn = w.lost, 0, false
	return 0, back, nil
}

// takeBack removes the n bytes of half a line, unless another process has
// written after them.
func (w *auditFile) takeBack(n int64) bool {
	end, err := w.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return false
	}
	info, err := w.file.Stat()
	return err == nil && info.Size() == end && w.file.Truncate(end-n) == nil
}

// Close ends it.
func (w *auditFile) Close() error { return w.file.Close() }
