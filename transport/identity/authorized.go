package identity

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// maxLogged is how many bad lines of one load are logged.
const maxLogged = 20

// An AuthorizedFile is an authorized_peers file that is followed as it
// changes: each check goes by what the file says at that moment. Its methods
// may be called from any goroutine. It holds nothing open and needs no Close.
type AuthorizedFile struct {
	file Followed[rules]
	log  *slog.Logger

	// rates are the buckets of the lines of the last load, by their text: a
	// line that stays has used up what it has, whatever happens to others.
	// They belong to the goroutine that loads.
	rates map[string]*buckets
}

// rules are the lines of each key. A loaded map is not changed.
type rules map[NodeID][]rule

type rule struct {
	Entry
	from []pattern
	rate *buckets // nil: the line says nothing about it
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
	f := &AuthorizedFile{log: log}
	f.file.SafeFile = SafeFile{Path: abs, Max: maxPeersFile}
	f.file.Parse = f.parse
	f.file.Report = func(err error) {
		log.Error("authorized peers not used, nobody is allowed", "path", abs, "err", err)
	}
	if _, err := f.file.Get(); err != nil {
		return nil, err
	}
	return f, nil
}

// An Access is what an authorized_peers file is asked about.
type Access struct {
	ID       NodeID
	From     netip.Addr // zero: not known, and then no line that says from allows it
	Service  string     // to be used; empty: only to connect
	Start    bool       // a peer of the service is to be started
	Ask      bool       // the node itself is to be asked something
	Circuits int        // how many the node has open, the one that is asked for included; 0: none is asked for
}

// Check returns nil if the access is allowed at time now. A key with several
// lines is allowed what any one of them allows. An opening or a start that is
// allowed counts against the rate of the line that allows it; a question to the
// node itself counts against eight times that rate.
//
// Any other result is a [DeniedError]. It wraps a [QuotaError] if only a bound
// of a line stood in the way. A file that others may write to, or that belongs
// to another user than this one and root, or one of the directories above which
// does so, is not used: nobody is allowed anything, and the DeniedError wraps
// an [UnsafeFileError]. The same goes for a file that cannot be read.
func (f *AuthorizedFile) Check(a Access, now time.Time) error {
	denied := &DeniedError{ID: a.ID, Service: a.Service, Reason: "not listed"}
	if a.Service != "" {
		if err := ValidServiceName(a.Service); err != nil {
			denied.Reason = "no service can have this name"
			return denied
		}
	}
	all, err := f.file.Get()
	if err != nil {
		denied.Reason, denied.Err = err.Error(), err
		return denied
	}
	var reached *QuotaError // the widest bound: who has several lines has that
	for _, r := range all[a.ID] {
		reason := r.deny(a, now)
		if reason == "" {
			quota := r.take(a, now)
			if quota == nil {
				return nil
			}
			if reached == nil || reached.Limit < quota.Limit {
				reached = quota
				denied.Reason, denied.Err = fmt.Sprintf("line %d: a limit is reached: %d %s", r.Line, quota.Limit, quota.What), quota
			}
		}
		if reached == nil {
			denied.Reason = fmt.Sprintf("line %d: %s", r.Line, reason)
		}
	}
	return denied
}

// deny returns why the line does not allow it; empty: it does.
func (r *rule) deny(a Access, now time.Time) string {
	switch {
	case !r.Expires.IsZero() && !now.Before(r.Expires):
		return "expired at " + r.Expires.Format(time.RFC3339)
	case r.From != nil && !matchAddr(r.from, a.From):
		return fmt.Sprintf("not from address %v", a.From)
	case a.Service != "" && r.Services != nil && !slices.Contains(r.Services, a.Service):
		return "other services only"
	case a.Start && r.Start != nil && !slices.Contains(r.Start, a.Service):
		return "may not start it"
	}
	return ""
}

// take counts an access that the line allows, unless that is one too many.
func (r *rule) take(a Access, now time.Time) *QuotaError {
	if r.MaxCircuits > 0 && a.Circuits > r.MaxCircuits {
		return &QuotaError{What: "circuits of one node", Limit: int64(r.MaxCircuits)}
	}
	if r.rate == nil {
		return nil
	}
	b, most, what := &r.rate.uses, r.Rate, "openings"
	switch {
	case a.Ask:
		b, most, what = &r.rate.asks, asksForUse*r.Rate, "requests"
	case a.Start:
		what = "starts"
	case a.Circuits <= 0:
		return nil
	}
	if b.take(most, now) {
		return nil
	}
	return &QuotaError{What: what + " per second of one node", Limit: int64(most)}
}

// asksForUse is how often a node may ask for something for each opening or start
// that it may ask for: whoever is to be let start one peer in a second connects
// and learns this node's address first.
const asksForUse = 8

// The buckets of a line.
type buckets struct {
	uses bucket // openings and starts
	asks bucket // of the node itself
}

// A bucket holds what is left of a rate: it fills evenly, up to a second's
// worth.
type bucket struct {
	mu   sync.Mutex
	left float64
	at   time.Time // when left was right; zero: never used, and full
}

func (b *bucket) take(rate int, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	most := float64(rate)
	switch {
	case b.at.IsZero():
		b.left, b.at = most, now
	case now.After(b.at): // else the clock was set back, or another goroutine's look is newer
		b.left, b.at = min(most, b.left+most*now.Sub(b.at).Seconds()), now
	}
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// parse is called by one goroutine at a time.
func (f *AuthorizedFile) parse(data []byte) (rules, error) {
	entries, bad, err := ParseAuthorizedPeers(bytes.NewReader(data))
	for i, e := range bad {
		if i == maxLogged {
			f.log.Warn("more bad lines in authorized peers", "path", f.file.Path, "lines", len(bad)-i)
			break
		}
		e.Path = f.file.Path
		f.log.Warn("bad line in authorized peers skipped", "path", f.file.Path, "line", e.Line, "err", e.Err)
	}
	if err != nil {
		return nil, atPath(f.file.Path, err)
	}
	all, rates := make(rules, len(entries)), make(map[string]*buckets)
	for _, e := range entries {
		from, err := parsePatterns(e.From)
		if err != nil {
			return nil, err // cannot be: the line was read
		}
		r := rule{Entry: e, from: from}
		if e.Rate > 0 {
			text := e.String()
			r.rate = cmp.Or(rates[text], f.rates[text], &buckets{})
			rates[text] = r.rate
		}
		all[e.ID] = append(all[e.ID], r)
	}
	f.rates = rates
	return all, nil
}
