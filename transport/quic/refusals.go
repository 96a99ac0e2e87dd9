package quic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// A refusalError is what this side says no with.
type refusalError struct {
	code   transport.Code
	reason string
	key    identity.NodeID       // who is refused, once that is known
	holds  uint64                // with CodeDuplicate, as is yours
	yours  uint64                //
	limit  *transport.LimitError // with CodeLimit, if it is one of those with a name
	why    error                 // for this side only: it may name files and other keys
	told   bool                  // report has been called
}

func (r *refusalError) Error() string { return r.code.String() + ": " + r.reason }

func (r *refusalError) Unwrap() error { return r.why }

// overLimit is the refusal that says which limit is reached.
func overLimit(l *transport.LimitError) *refusalError {
	return &refusalError{code: transport.CodeLimit, reason: "too many " + l.What, limit: l}
}

// limited makes a refusal of what the ledger says.
func limited(err error) error {
	if l, ok := errors.AsType[*transport.LimitError](err); ok {
		return overLimit(l)
	}
	return err
}

// A refusalLog keeps others from filling the log: one line for a key and a
// reason in a minute, and no more than maxSaid of them. The rest is for
// debugging.
type refusalLog struct {
	mu   sync.Mutex
	last map[said]time.Time
}

type said struct {
	key    identity.NodeID
	code   transport.Code
	reason string
}

const (
	sayAgain = time.Minute
	maxSaid  = 256
)

// first reports whether s is to be said aloud now.
func (l *refusalLog) first(s said) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if at, ok := l.last[s]; ok && now.Sub(at) < sayAgain {
		return false
	}
	if len(l.last) >= maxSaid {
		for old, at := range l.last {
			if now.Sub(at) >= sayAgain {
				delete(l.last, old)
			}
		}
	}
	if len(l.last) >= maxSaid {
		return false
	}
	l.last[s] = now
	return true
}

// note logs that an inbound connection has come to nothing.
func (e *Endpoint) note(addr net.Addr, err error) {
	r, ok := errors.AsType[*refusalError](err)
	if !ok {
		e.cfg.Logger.Debug("inbound connection has failed", "addr", addr.String(), "err", err)
		return
	}
	level := slog.LevelDebug
	// A duplicate is how two dials that cross find together.
	if r.code != transport.CodeDuplicate && r.code != transport.CodeClosed &&
		e.refusals.first(said{key: r.key, code: r.code, reason: r.reason}) {
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{slog.String("addr", addr.String()), slog.String("why", r.Error())}
	if !r.key.IsZero() {
		attrs = append(attrs, slog.String("key", r.key.String()))
	}
	if r.why != nil {
		attrs = append(attrs, slog.String("err", r.why.Error()))
	}
	e.cfg.Logger.LogAttrs(context.Background(), level, "inbound connection refused", attrs...)
	e.report(addr, r)
}

// report tells whoever keeps a log of decisions, once, and before the other side
// hears of it.
func (e *Endpoint) report(addr net.Addr, r *refusalError) {
	if r.told || r.code == transport.CodeDuplicate || r.code == transport.CodeClosed || e.cfg.Refused == nil {
		return
	}
	r.told = true
	var why error = r
	switch {
	case r.why != nil && r.code == transport.CodeRefused:
		why = r.why
	case r.why != nil:
		why = fmt.Errorf("%s: %w", r.Error(), r.why)
	}
	e.cfg.Refused(r.key, addr, why)
}
