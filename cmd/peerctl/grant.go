package main

import (
	"fmt"
	"strings"

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
	return nil
}

// entry is the grant as a line for a key. Its options are read back as the
// file will be, so what is wrong with one is said in the same words.
func (g *grant) entry(id identity.NodeID, comment string) (identity.Entry, error) {
	e := identity.Entry{
		ID: id, Comment: comment, Services: g.services, Start: g.start, From: g.from,
		MaxCircuits: g.maxCircuits, Rate: g.rate,
	}
	line := e.String()
	if g.expires != "" {
		if strings.ContainsAny(g.expires, "\"\\") {
			return e, usagef("--expires %q is not YYYYMMDD[HHMM[SS]][Z]", g.expires)
		}
		sep := ","
		if line == id.PublicLine(comment) {
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
	return e, nil
}
