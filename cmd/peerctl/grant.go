package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"ckt.local/transport/identity"
)

// A grant is what authorize's flags say that a key may do.
type grant struct {
	services, start, from []string
	expires               string
	maxCircuits, rate     int
}

func (g *grant) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&g.services, "services", nil, "the `NAMES` of services, with commas between (default: all)")
	f.StringSliceVar(&g.start, "start", nil, "the `NAMES` of those it may start; '' is none (default: all of them)")
	f.StringSliceVar(&g.from, "from", nil, "the `ADDRS` it may come from, with commas between (default: any)")
	f.StringVar(&g.expires, "expires", "", "`WHEN` that ends: YYYYMMDD[HHMM[SS]][Z] (default: never)")
	f.IntVar(&g.maxCircuits, "max-circuits", 0, "how many circuits it may have open here (default: the node's limit)")
	f.IntVar(&g.rate, "rate", 0, "how many openings and starts it may ask for in a second (default: the node's limits)")
}

// check refuses what was given without a value: it is most often a variable
// that is not set, and would be taken for no bound at all.
func (g *grant) check(f *pflag.FlagSet) error {
	given := func(name string) bool { return f.Changed(name) }
	switch {
	case given("services") && len(g.services) == 0:
		return usagef("--services names none; without it, all are meant")
	case given("from") && len(g.from) == 0:
		return usagef("--from names no address; without it, all are meant")
	case given("expires") && g.expires == "":
		return usagef("--expires says not when; without it, never")
	case given("max-circuits") && g.maxCircuits < 1:
		return usagef("--max-circuits must be at least 1")
	case given("rate") && g.rate < 1:
		return usagef("--rate must be at least 1")
	}
	if given("start") && g.start == nil {
		g.start = []string{}
	}
	return g.checkFrom()
}

// checkFrom refuses addresses from which nobody can come. In the file they are
// no error, but who is being let in is to get in.
func (g *grant) checkFrom() error {
	only := len(g.from) > 0 // negations
	for _, s := range g.from {
		s, negated := strings.CutPrefix(s, "!")
		only = only && negated
		if _, err := netip.ParseAddr(s); err == nil || s == "" || strings.Contains(s, "/") {
			continue // what is wrong with these, reading the line tells
		}
		odd := strings.Trim(strings.ToLower(s), "0123456789abcdef.:*?") != ""
		if odd || !strings.ContainsAny(s, "*?") {
			return usagef("--from %q can match no address, and names are not looked up: give IP addresses, CIDR blocks such as 192.0.2.0/24, or patterns such as '192.0.2.*'", s)
		}
	}
	if only {
		return usagef("--from only says who is denied, so nobody would be let in; for all others: --from '*,%s'", strings.Join(g.from, ","))
	}
	return nil
}

// entry is e with what the flags say. Its options are read back as the file
// will be, so what is wrong with one is said in the same words.
func (g *grant) entry(e identity.Entry) (identity.Entry, error) {
	if g.services != nil {
		e.Services = g.services
	}
	if g.start != nil {
		e.Start = g.start
	}
	if g.from != nil {
		e.From = g.from
	}
	e.MaxCircuits, e.Rate = cmp.Or(g.maxCircuits, e.MaxCircuits), cmp.Or(g.rate, e.Rate)
	if g.expires != "" {
		e.Expires = time.Time{}
	}
	line := e.String()
	if g.expires != "" {
		if strings.ContainsAny(g.expires, "\"\\") {
			return e, usagef("--expires %q is not YYYYMMDD[HHMM[SS]][Z]", g.expires)
		}
		sep := ","
		if line == e.ID.PublicLine(e.Comment) {
			sep = " "
		}
		line = fmt.Sprintf("expiry-time=%q%s%s", g.expires, sep, line)
	}
	entries, bad, err := identity.ParseAuthorizedPeers(strings.NewReader(line))
	switch {
	case err != nil:
		return e, &usageError{err: err}
	case len(bad) > 0:
		return e, &usageError{err: bad[0].Err}
	}
	e.Expires = entries[0].Expires
	if g.expires != "" && !e.Expires.After(time.Now()) {
		return e, usagef("--expires %s is in the past, so nobody would be let in; to take a key off: peerctl deauthorize", g.expires)
	}
	return e, nil
}

// like is each line of another key as one for this entry's, with what the
// flags say.
func (g *grant) like(all []identity.Entry, other identity.NodeID, entry identity.Entry, path string) ([]identity.Entry, error) {
	var wanted []identity.Entry
	for _, e := range linesOf(all, other) {
		e.ID, e.Line, e.Comment = entry.ID, 0, cmp.Or(entry.Comment, e.Comment)
		e, err := g.entry(e)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, e)
	}
	if wanted == nil {
		return nil, &notListedError{id: other, path: path}
	}
	return wanted, nil
}

// rights are what one line allows.
type rights struct {
	Services []string `json:"services"` // null: all

	// These are there if they were given.
	Start       []string  `json:"start,omitzero"`
	From        []string  `json:"from,omitzero"`
	Expires     time.Time `json:"expires,omitzero"`
	MaxCircuits int       `json:"max_circuits,omitzero"`
	Rate        int       `json:"rate,omitzero"`
}

func rightsOf(e identity.Entry) rights {
	return rights{Services: e.Services, Start: e.Start, From: e.From, Expires: e.Expires, MaxCircuits: e.MaxCircuits, Rate: e.Rate}
}

// String is what may be used, to follow "may use".
func (r rights) String() string {
	what := "every service"
	if r.Services != nil {
		what = strings.Join(r.Services, ", ")
	}
	if r.Start != nil {
		what += ", and start " + cmp.Or(strings.Join(r.Start, ", "), "none of them,")
	}
	what += " here"
	if r.From != nil {
		what += ", from " + strings.Join(r.From, ", ")
	}
	if !r.Expires.IsZero() {
		what += ", until " + r.Expires.Format(time.DateTime+" MST")
	}
	if r.MaxCircuits != 0 {
		what += ", " + number(r.MaxCircuits, "circuit") + " at most"
	}
	if r.Rate != 0 {
		what += ", " + number(r.Rate, "request") + " a second"
	}
	return what
}
