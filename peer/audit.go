package peer

import (
	"container/list"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode"

	"ckt.local/transport/identity"
)

// Bounds of what an auditor keeps. Strangers decide how many kinds of refusals
// there are, so both the memory and the lines in a minute are bounded.
const (
	auditEvery   = time.Minute // equal refusals are logged once in
	maxKinds     = 1024        // of refusals that are kept apart
	maxNodeKinds = 64          // of those, of one node
	maxFromKinds = 32          // of those, about connecting from one IPv4 address or IPv6 /64: keys cost nothing
	maxAudited   = 128         // bytes of a text
	maxCause     = 512         // bytes of a reason, which is in this node's words and may name a file
)

// What stands where refusals are not kept apart any more.
const (
	severalReasons = "several reasons, too many to keep apart"
	severalKeys    = "several keys from there, too many to keep apart"
	severalNodes   = "several nodes and reasons, too many to keep apart"
	auditOverflow  = "refusals"
)

// A decision is one record of the audit log. Every text in it is cut.
type decision struct {
	action    string
	node, key identity.NodeID // in whose name, and the key that was proved; zero: not known
	from      netip.AddrPort
	addr      string // that was dialled
	service   string
	peer      string
	circuit   string
	allowed   bool
	reason    string // why not
}

// decisionOf begins the record of a request.
func decisionOf(r Request, action string, err error) decision {
	d := decision{action: action, node: r.Node, key: r.Key, from: r.From, service: clip(r.Service), allowed: err == nil}
	if err != nil {
		d.reason = clipTo(whyNot(err), maxCause)
	}
	return d
}

// kind is what equal refusals have in common.
func (d decision) kind() decision {
	d.from = netip.AddrPortFrom(d.from.Addr(), 0) // another one for each connection
	d.peer, d.circuit = "", ""                    // as many as a node likes
	return d
}

// source is where a refused connection came from, as far as somebody who makes
// up keys has only one of it; the zero Prefix for anything else.
func (d decision) source() netip.Prefix {
	addr, bits := d.from.Addr().Unmap(), 64
	if addr.Is4() {
		bits = 32
	}
	if d.action != ActionConnect.String() || d.allowed {
		return netip.Prefix{}
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// clip makes a foreign text fit for a log: short, and without characters that
// a handler may leave as they are and a terminal obeys.
func clip(s string) string { return clipTo(s, maxAudited) }

func clipTo(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r >= 0x7f && !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s[:min(len(s), most)])
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// An auditor writes the audit log. A nil one writes none.
type auditor struct {
	log *slog.Logger

	mu    sync.Mutex                 // guards what follows, and is never held while a handler runs
	kinds map[decision]*list.Element // of order
	nodes map[identity.NodeID]int    // how many of kinds there are of a node
	froms map[netip.Prefix]int       // and of a source
	order list.List                  // of *repeated, as they were logged
}

// A repeated is a refusal that was logged, and what has come of its kind since.
type repeated struct {
	kind  decision
	since time.Time
	left  int      // that were not logged
	last  auditRow // of those
}

// An auditRow is a decision, when it was made, and how many equal ones were
// left out.
type auditRow struct {
	decision
	at time.Time
	n  int
}

func newAuditor(log *slog.Logger) *auditor {
	if log == nil {
		return nil
	}
	return &auditor{log: log, kinds: make(map[decision]*list.Element), nodes: make(map[identity.NodeID]int), froms: make(map[netip.Prefix]int)}
}

// record logs a decision, or counts it: a refusal, or a list, which changes
// nothing, like one within a minute before.
func (a *auditor) record(d decision) {
	if a == nil {
		return
	}
	now := time.Now()
	a.mu.Lock()
	rows := a.expiredLocked(now.Add(-auditEvery))
	if d.allowed && d.action != ActionList.String() || a.firstLocked(&d, now) {
		rows = append(rows, auditRow{decision: d, at: now})
	}
	a.mu.Unlock()
	a.write(rows)
}

// firstLocked tells whether a refusal is to be logged, and how: it makes one of
// d that stands for several kinds if there are too many.
func (a *auditor) firstLocked(d *decision, now time.Time) bool {
	kind := d.kind()
	if _, ok := a.kinds[kind]; !ok && a.nodes[d.node] >= maxNodeKinds {
		*d = decision{action: d.action, node: d.node, key: d.key, allowed: d.allowed, reason: severalReasons}
		kind = *d
	}
	if from := kind.source(); from.IsValid() && a.kinds[kind] == nil && a.froms[from] >= maxFromKinds {
		*d = decision{action: d.action, from: netip.AddrPortFrom(from.Addr(), 0), reason: severalKeys}
		kind = *d
	}
	if _, ok := a.kinds[kind]; !ok && len(a.kinds) >= maxKinds {
		*d = decision{action: auditOverflow, reason: severalNodes}
		if kind.allowed { // what was allowed never comes out as a refusal
			*d = decision{action: kind.action, allowed: true, reason: severalNodes}
		}
		kind = *d
	}
	if e, ok := a.kinds[kind]; ok {
		r := e.Value.(*repeated)
		r.left++
		r.last = auditRow{decision: *d, at: now}
		return false
	}
	a.kinds[kind] = a.order.PushBack(&repeated{kind: kind, since: now})
	a.nodes[kind.node]++
	if from := kind.source(); from.IsValid() {
		a.froms[from]++
	}
	return true
}

// expiredLocked forgets the refusals that were logged before then. The last one
// of each that was left out comes out now, and speaks for the others.
func (a *auditor) expiredLocked(then time.Time) (rows []auditRow) {
	for e := a.order.Front(); e != nil; e = a.order.Front() {
		r := e.Value.(*repeated)
		if r.since.After(then) {
			break
		}
		a.order.Remove(e)
		delete(a.kinds, r.kind)
		if a.nodes[r.kind.node]--; a.nodes[r.kind.node] == 0 {
			delete(a.nodes, r.kind.node)
		}
		if from := r.kind.source(); from.IsValid() {
			if a.froms[from]--; a.froms[from] == 0 {
				delete(a.froms, from)
			}
		}
		if r.left > 0 {
			r.last.n = r.left - 1
			rows = append(rows, r.last)
		}
	}
	return rows
}

// close writes what is counted.
func (a *auditor) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	rows := a.expiredLocked(time.Now())
	a.mu.Unlock()
	a.write(rows)
}

func (a *auditor) write(rows []auditRow) {
	ctx, h := context.Background(), a.log.Handler()
	for _, row := range rows {
		level := slog.LevelInfo
		if !row.allowed {
			level = slog.LevelWarn
		}
		if !h.Enabled(ctx, level) {
			continue
		}
		r := slog.NewRecord(row.at, level, "audit", 0)
		r.AddAttrs(row.attrs()...)
		_ = h.Handle(ctx, r) // a log that cannot be written is no reason to decide otherwise
	}
}

func (row auditRow) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("action", row.action)}
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	if !row.node.IsZero() {
		add("node", row.node.String())
	}
	if !row.key.IsZero() && row.key != row.node {
		add("key", row.key.String())
	}
	if row.from.IsValid() {
		add("from", row.from.String())
	}
	add("addr", row.addr)
	add("service", row.service)
	add("peer", row.peer)
	add("circuit", row.circuit)
	attrs = append(attrs, slog.Bool("allowed", row.allowed))
	add("reason", row.reason)
	if row.n > 0 {
		attrs = append(attrs, slog.Int("n", row.n))
	}
	return attrs
}
