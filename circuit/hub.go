package circuit

import (
	"context"
	"log/slog"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/limit"
)

// Config bounds the circuits of a [Hub]. The zero value of each field is its
// default.
type Config struct {
	// Ledger has the bounds, and counts what is used: [Hub] needs its Circuit
	// part. Default: a new one with the default bounds.
	Ledger *limit.Ledger

	// OpenTimeout bounds the wait for the other side's yes where the caller
	// gives no deadline. Default 10 s.
	OpenTimeout time.Duration

	// Silence is how long acknowledgements may fail to come before the
	// connection counts as lost. Default 5 s.
	Silence time.Duration

	// Linger is how long a circuit outlives its connection. If no new one has
	// taken it up by then, it ends with a [LostError]. The shorter one of both
	// sides holds. Default 2 min, at most 24 h.
	Linger time.Duration

	// NoResume ends circuits with their connection. If either side says so,
	// it is so.
	NoResume bool

	// Logger gets what goes wrong with foreign input, and what becomes of
	// connections. Default: discarded.
	Logger *slog.Logger

	limits limit.Circuit // of Ledger
}

// The bounds of Config's defaults.
const (
	defaultOpenTimeout = 10 * time.Second
	defaultSilence     = 5 * time.Second
	defaultLinger      = 2 * time.Minute
	longestLinger      = 24 * time.Hour
)

func (cfg Config) withDefaults() Config {
	if cfg.Ledger == nil {
		cfg.Ledger = limit.NewLedger(limit.Limits{})
	}
	cfg.limits = cfg.Ledger.Limits().Circuit
	if cfg.OpenTimeout <= 0 {
		cfg.OpenTimeout = defaultOpenTimeout
	}
	if cfg.Silence <= 0 {
		cfg.Silence = defaultSilence
	}
	if cfg.Linger <= 0 {
		cfg.Linger = defaultLinger
	}
	cfg.Linger = min(cfg.Linger, longestLinger)
	if cfg.NoResume {
		cfg.Linger = 0
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// A Hub is what the links of one node have in common: who decides about new
// circuits, and the bounds. Its methods
// may be called from any goroutine.
type Hub struct {
	acceptor Acceptor
	cfg      Config
	bufs     buffers
	redials  chan struct{} // has a token for each link that dials back
}

// maxRedials is how many links dial at a time whose other side has dialled
// first: a server that has lost all its clients at once leaves most of the work
// to them, each of which has few others.
const maxRedials = 64

// NewHub returns a hub whose circuits acc decides about.
func NewHub(acc Acceptor, cfg Config) *Hub {
	return &Hub{acceptor: acc, cfg: cfg.withDefaults(), redials: make(chan struct{}, maxRedials)}
}

// Link starts to serve conn, which the link owns from now on. redial makes one
// try at another connection to the same process and hands it to
// [Link.Attach]; it is called while circuits wait for one, or doubt the one
// they have, from a goroutine of the link. [ErrPeerRestarted] and
// [transport.ErrClosed], which is for an endpoint that has been closed here, end
// the circuits; after any other error it is called again. A nil redial leaves
// it to the other side. [Link.Wait] joins the link's goroutines.
func (h *Hub) Link(conn transport.Conn, redial func(ctx context.Context) error) *Link {
	return newLink(h, conn, redial)
}
