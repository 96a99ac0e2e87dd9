package peertest_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A summary is what has come of one seed, or of many.
type summary struct {
	Seed   uint64
	Errors []string `json:",omitempty"` // broken promises
	Kept   string   `json:",omitempty"` // where the events of a failed run are

	Seeds, Failed                         int
	Circuits, NotOpened, Lost             int
	Fragments, Bytes                      int64
	Attachments, Flushes                  int
	Replayed, Duplicates                  int64 // fragments
	Faults                                map[string]int
	Heals                                 int           // waits for a mended network
	HealLag, MoveLag, RestartLag, Settled time.Duration // the longest ones
	Virtual, Real, Longest                time.Duration
	Trace                                 uint64
}

// healed counts that something got on after the network was mended.
func (s *summary) healed(lag, limit time.Duration) {
	s.Heals++
	if limit > healLimit {
		s.MoveLag = max(s.MoveLag, lag)
	} else {
		s.HealLag = max(s.HealLag, lag)
	}
}

// add adds another seed.
func (s *summary) add(o summary) {
	s.Seeds++
	if len(o.Errors) > 0 {
		s.Failed++
	}
	s.Circuits += o.Circuits
	s.NotOpened += o.NotOpened
	s.Lost += o.Lost
	s.Fragments += o.Fragments
	s.Bytes += o.Bytes
	s.Attachments += o.Attachments
	s.Flushes += o.Flushes
	s.Replayed += o.Replayed
	s.Duplicates += o.Duplicates
	if s.Faults == nil {
		s.Faults = make(map[string]int)
	}
	for kind, n := range o.Faults {
		s.Faults[kind] += n
	}
	s.Heals += o.Heals
	s.HealLag = max(s.HealLag, o.HealLag)
	s.MoveLag = max(s.MoveLag, o.MoveLag)
	s.RestartLag = max(s.RestartLag, o.RestartLag)
	s.Settled = max(s.Settled, o.Settled)
	s.Virtual += o.Virtual
	s.Real += o.Real
	s.Longest = max(s.Longest, o.Real)
}

// count is n of a thing, "1 seed" or "2 seeds".
func count[N int | int64](n N, thing string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(thing, "sh"):
		thing += "es"
	default:
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// String is the summary of a campaign.
func (s *summary) String() string {
	var b strings.Builder
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	why := ""
	if s.Lost > 0 && s.Failed == 0 {
		why = " (as they had to be)"
	}
	fmt.Fprintf(&b, "%s, %d failed: %s, %s lost%s, %d not opened; %s, %s\n", count(s.Seeds, "seed"), s.Failed,
		count(s.Circuits, "circuit"), count(s.Lost, "end"), why, s.NotOpened, count(s.Fragments, "fragment"), count(s.Bytes, "byte"))
	fmt.Fprintf(&b, "%s, %s sent again, %s dropped, %s\n", count(s.Attachments, "attachment"),
		count(s.Replayed, "fragment"), count(s.Duplicates, "duplicate"), count(s.Flushes, "flush"))
	var faults []string
	for _, kind := range slices.Sorted(maps.Keys(s.Faults)) {
		faults = append(faults, fmt.Sprintf("%s %d", kind, s.Faults[kind]))
	}
	fmt.Fprintf(&b, "faults: %s\n", cmp.Or(strings.Join(faults, ", "), "none"))
	fmt.Fprintf(&b, "until things moved on: at most %v after the network was mended and %v after a move (the longest of %s), "+
		"%v for word of a restart; all was over %v after the last mending\n",
		ms(s.HealLag), ms(s.MoveLag), count(s.Heals, "wait"), ms(s.RestartLag), ms(s.Settled))
	fmt.Fprintf(&b, "%v of simulated time in %v, the longest seed %v", s.Virtual.Round(time.Second), ms(s.Real), ms(s.Longest))
	return b.String()
}
