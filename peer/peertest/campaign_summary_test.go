package peertest_test

import (
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

// String is the summary of a campaign.
func (s *summary) String() string {
	var b strings.Builder
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	fmt.Fprintf(&b, "%d seeds, %d failed: %d circuits, %d ends lost, %d not opened; %d fragments, %d bytes\n",
		s.Seeds, s.Failed, s.Circuits, s.Lost, s.NotOpened, s.Fragments, s.Bytes)
	fmt.Fprintf(&b, "%d attachments, %d fragments sent again, %d came twice and were dropped, %d flushes\n",
		s.Attachments, s.Replayed, s.Duplicates, s.Flushes)
	fmt.Fprintf(&b, "faults:")
	for _, kind := range slices.Sorted(maps.Keys(s.Faults)) {
		fmt.Fprintf(&b, " %s %d,", kind, s.Faults[kind])
	}
	fmt.Fprintf(&b, "\nlongest waits: %v of %d for a network that was mended, %v after a move, %v for word of a restart, %v until all was over\n",
		ms(s.HealLag), s.Heals, ms(s.MoveLag), ms(s.RestartLag), ms(s.Settled))
	fmt.Fprintf(&b, "%v of simulated time in %v, the longest seed %v", s.Virtual.Round(time.Second), ms(s.Real), ms(s.Longest))
	return b.String()
}
