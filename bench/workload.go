package main

import (
	"fmt"
	"slices"
	"strings"
)

// A workload is what every contender is measured with.
type workload struct {
	name  string
	what  string // for RESULTS.md
	task  task
	share float64 // of the time of a measurement that it takes
	crowd crowd
	alone bool // in processes of its own, once per run: for memory
	extra bool // only for those that say they can
}

const (
	bulkSize     = 64 << 10
	manyAtOnce   = 32
	fanChannels  = 1000
	idleChannels = 10_000
	idleMany     = 100_000
)

// workloads are all there are, in the order in which they run.
func workloads() []workload {
	return []workload{
		{name: "ping", what: "64 B there and back, one at a time", share: 1,
			task: task{Kind: taskPing, Channels: 1}},
		{name: "ping32", what: "the same on 32 channels at once", share: 0.7,
			task: task{Kind: taskPing, Channels: manyAtOnce}},
		{name: "small", what: "64 B, one way", share: 1,
			task: task{Kind: taskOneWay, Channels: 1, Size: pingSize}},
		{name: "kilo", what: "1 KiB, one way", share: 1,
			task: task{Kind: taskOneWay, Channels: 1, Size: 1 << 10}},
		{name: "bulk", what: "64 KiB, one way", share: 1,
			task: task{Kind: taskOneWay, Channels: 1, Size: bulkSize}},
		{name: "bulk4", what: "64 KiB, one way, on 4 channels at once", share: 1,
			task: task{Kind: taskOneWay, Channels: 4, Size: bulkSize}},
		{name: "mixed", what: "ping on one channel while another is filled with 64 KiB messages", share: 1,
			task: task{Kind: taskMixed, Channels: 2, Size: bulkSize}},
		{name: "connect", what: "cold start: dial, first answer, hang up", share: 0.7,
			task: task{Kind: taskConnect, Channels: 1}},
		{name: "open", what: "open, 64 B there and back, close, one at a time", share: 0.5, crowd: many,
			task: task{Kind: taskOpen, Channels: 1}},
		{name: "open32", what: "the same, 32 at a time", share: 0.7, crowd: many,
			task: task{Kind: taskOpen, Channels: manyAtOnce}},
		{name: "fan", what: "1,000 channels, 64 B there and back every 100 ms on each", share: 1, crowd: many,
			task: task{Kind: taskFan, Channels: fanChannels}},
		{name: "idle", what: "10,000 channels that are open and silent", crowd: many, alone: true,
			task: task{Kind: taskIdle, Channels: idleChannels}},
		{name: "idle100k", what: "100,000 channels that are open and silent", crowd: many, alone: true, extra: true,
			task: task{Kind: taskIdle, Channels: idleMany}},
	}
}

// pickWorkloads returns those with the names, all if there are none.
func pickWorkloads(names []string) ([]workload, error) {
	all := workloads()
	if len(names) == 0 {
		return all, nil
	}
	var out []workload
	for _, name := range names {
		i := slices.IndexFunc(all, func(w workload) bool { return w.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no workload is called %q; there are %s", name, strings.Join(workloadNames(), ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

func workloadNames() []string {
	var names []string
	for _, w := range workloads() {
		names = append(names, w.name)
	}
	return names
}

// lacking is why the contender does not take part in w, "" if it does.
func (a about) lacking(w workload) string {
	if why, ok := a.lacks[w.name]; ok {
		return why
	}
	if w.extra && !slices.Contains(a.extras, w.name) {
		return "not tried"
	}
	return ""
}
