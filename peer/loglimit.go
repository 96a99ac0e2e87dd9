package peer

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// How many records of one message are logged: logBurst at once, then one every
// logEvery. Strangers can cause records as fast as they can send packets, and
// must not fill the disk.
const (
	logBurst = 20
	logEvery = time.Second
)

// A logLimit is a [slog.Handler] that drops what comes too often and says with
// the next record of that message how many it has dropped.
type logLimit struct {
	slog.Handler
	state *logState // shared by all handlers that WithAttrs and WithGroup derive
}

// logState counts by message. The library's messages are constants, so there
// are few.
type logState struct {
	mu sync.Mutex
	by map[string]*logCount
}

type logCount struct {
	left    int       // records that may be logged now
	at      time.Time // when left was right
	dropped int
}

func limitLogs(l *slog.Logger) *slog.Logger {
	return slog.New(logLimit{l.Handler(), &logState{by: make(map[string]*logCount)}})
}

// Handle logs r, or counts it as dropped.
func (h logLimit) Handle(ctx context.Context, r slog.Record) error {
	ok, dropped := h.state.allow(r.Message, r.Time)
	if !ok {
		return nil
	}
	if dropped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("dropped", dropped))
	}
	return h.Handler.Handle(ctx, r)
}

func (s *logState) allow(msg string, now time.Time) (ok bool, dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.by[msg]
	if c == nil {
		c = &logCount{left: logBurst, at: now}
		s.by[msg] = c
	}
	if n := now.Sub(c.at) / logEvery; n > 0 {
		c.left = min(logBurst, c.left+int(min(n, logBurst)))
		c.at = c.at.Add(n * logEvery)
	}
	if c.left == 0 {
		c.dropped++
		return false, 0
	}
	c.left--
	dropped, c.dropped = c.dropped, 0
	return true, dropped
}

// WithAttrs and WithGroup keep the counts.
func (h logLimit) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logLimit{h.Handler.WithAttrs(attrs), h.state}
}

// WithGroup is as WithAttrs.
func (h logLimit) WithGroup(name string) slog.Handler {
	return logLimit{h.Handler.WithGroup(name), h.state}
}
