package peer

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"ckt.local/transport"
)

// loopbackBuffer is how many bytes wait in one direction of a stream.
const loopbackBuffer = 64 << 10

// A loopPipe is one direction of a stream.
type loopPipe struct {
	mu             sync.Mutex // guards all of it
	changed        *sync.Cond
	buf            []byte
	eof            bool // the writer has closed
	reader, writer loopSide

	written context.Context // ends when the writer's side is done
	over    context.CancelFunc
}

// A loopSide is what one side of a pipe may do.
type loopSide struct {
	err      error // why no more
	deadline time.Time
	timer    *time.Timer
}

func newLoopPipe() *loopPipe {
	p := new(loopPipe)
	p.changed = sync.NewCond(&p.mu)
	p.written, p.over = context.WithCancel(context.Background())
	return p
}

// wake takes the lock: whoever has just looked at the deadline must be waiting
// by then, or it would miss the call.
func (p *loopPipe) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed.Broadcast()
}

// set sets the side's deadline.
func (side *loopSide) set(p *loopPipe, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if side.timer != nil {
		side.timer.Stop()
		side.timer = nil
	}
	side.deadline = t
	if d := time.Until(t); !t.IsZero() && d > 0 {
		side.timer = time.AfterFunc(d, p.wake)
	}
	p.changed.Broadcast()
}

// blocked returns why the side may not go on.
func (side *loopSide) blocked() error {
	if side.err == nil && !side.deadline.IsZero() && !time.Now().Before(side.deadline) {
		return os.ErrDeadlineExceeded
	}
	return side.err
}

func (p *loopPipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if err := p.reader.blocked(); err != nil {
			return 0, err
		}
		if len(p.buf) > 0 || len(b) == 0 {
			n := copy(b, p.buf)
			if p.buf = p.buf[n:]; len(p.buf) == 0 {
				p.buf = nil // an idle stream holds no memory
			}
			p.changed.Broadcast()
			return n, nil
		}
		if p.eof {
			return 0, io.EOF
		}
		p.changed.Wait()
	}
}

func (p *loopPipe) tryWrite(b []byte) (ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.writer.err != nil:
		return false, p.writer.err
	case p.eof:
		return false, transport.ErrClosed
	case len(b) > loopbackBuffer-len(p.buf):
		return false, nil
	}
	p.buf = append(p.buf, b...)
	p.changed.Broadcast()
	return true, nil
}

func (p *loopPipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if err := p.writer.blocked(); err != nil {
			return n, err
		}
		if p.eof {
			return n, transport.ErrClosed
		}
		room := min(loopbackBuffer-len(p.buf), len(b)-n)
		p.buf = append(p.buf, b[n:n+room]...)
		n += room
		p.changed.Broadcast()
		if n == len(b) {
			return n, nil
		}
		p.changed.Wait()
	}
}

func (p *loopPipe) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eof = true
	p.over()
	p.changed.Broadcast()
	return p.writer.err
}

// fail ends the pipe's sides; nil leaves one as it is. What was not read is
// dropped if the reader's side ends.
func (p *loopPipe) fail(reader, writer error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reader != nil && p.reader.err == nil {
		p.reader.err, p.buf = reader, nil
	}
	if writer != nil && p.writer.err == nil {
		p.writer.err = writer
		p.over()
	}
	p.changed.Broadcast()
}

// readOver tells whether the reader's side has nothing more to come.
func (p *loopPipe) readOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reader.err != nil || p.eof && len(p.buf) == 0
}

// writeOver tells whether the writer's side is done.
func (p *loopPipe) writeOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writer.err != nil || p.eof
}
