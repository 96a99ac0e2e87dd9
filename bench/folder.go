package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The names of what a report is written into.
const (
	resultsFile = "RESULTS.md"
	plotsFolder = "plots"
)

// writeFolder writes RESULTS.md and the plots.
func (r *report) writeFolder(dir string) error {
	plots, perr := r.writePlots(filepath.Join(dir, plotsFolder))
	err := os.WriteFile(filepath.Join(dir, resultsFile), []byte(r.markdown(plots)), 0o644)
	return errors.Join(perr, err)
}

// markdown is RESULTS.md, with the plots of those names.
func (r *report) markdown(plots []string) string {
	var b strings.Builder
	b.WriteString("# Results\n\nWritten by `make bench`: do not edit.\n\n")
	r.writeNoise(&b)
	r.writeHead(&b)
	r.writeTargets(&b)
	b.WriteString("\nIn the tables below, what is in parentheses is ckt's figure divided by this one.\n")
	for _, t := range tables() {
		t.write(&b, r)
	}
	r.writeCurves(&b)
	r.writePlotLinks(&b, plots)
	r.writeContenders(&b)
	r.writeFailures(&b)
	return b.String()
}

// writeNoise comes first: it says whether to read on.
func (r *report) writeNoise(b *strings.Builder) {
	why := r.Noise.verdict(r.Machine.Cores)
	if r.Stopped {
		why = append(why, "the run was interrupted, and what follows is a part of it")
	}
	if len(why) == 0 {
		fmt.Fprintf(b, "The machine was quiet: ")
	} else {
		fmt.Fprintf(b, "> **The machine was busy; do not trust these figures**: %s.\n\nMeasured: ", strings.Join(why, "; "))
	}
	n := r.Noise
	fmt.Fprintf(b, "the same work before each round took %s ms (spread %.0f %%); other processes had %s %% of the machine in the rounds, "+
		"the host stole up to %.1f %%; load %.2f before, %.2f after. Of %d measurements, %d attempts were made again because other processes "+
		"had more than %.0f %%, and in %d they had that every time.\n",
		joined(n.Calibrations, "%.0f"), 100*spread(n.Calibrations), joined(percents(n.Others), "%.1f"),
		100*largest(n.Steal), n.LoadBefore, n.LoadAfter, n.Measured, n.Repeated, 100*mostOthers, n.Disturbed)
}

func percents(shares []float64) []float64 {
	var out []float64
	for _, s := range shares {
		out = append(out, 100*s)
	}
	return out
}

func joined(values []float64, format string) string {
	var out []string
	for _, v := range values {
		out = append(out, fmt.Sprintf(format, v))
	}
	return strings.Join(out, ", ")
}

func (r *report) writeHead(b *strings.Builder) {
	rows := [][2]string{
		{"date", r.Date.UTC().Format("2006-01-02 15:04 UTC")},
		{"commit", r.Commit},
		{"machine", fmt.Sprintf("%s, %d cores, Linux %s, %s", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go)},
		{"how", fmt.Sprintf("loopback, two processes; medians of %d rounds in which all take turns, %.2g s for each workload "+
			"(ping32, open32, connect 0.7 of that, open half); idle ×%d; seed %d; took %v",
			r.Rounds, r.Seconds, r.Alone, r.Seed, r.Took.Round(time.Second))},
	}
	if r.MostIdle > 0 {
		rows = append(rows, [2]string{"cut", fmt.Sprintf("the idle workloads had %d channels at most, whatever is said below", r.MostIdle)})
	}
	b.WriteString("\n| | |\n|---|---|\n")
	for _, row := range rows {
		fmt.Fprintf(b, "| %s | %s |\n", row[0], row[1])
	}
}

func (r *report) writeTargets(b *strings.Builder) {
	b.WriteString("\n## Targets\n\n| what | target | measured | |\n|---|---|--:|---|\n")
	for _, t := range targets() {
		s := t.against(r)
		value := "–"
		if !math.IsNaN(s.value) {
			value = figure(s.value)
		}
		if len(t.rivals) > 1 && s.rival != "" {
			value += " × " + s.rival
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", t.what, t.wanted(), value, s.verdict())
	}
}

func (r *report) writeContenders(b *strings.Builder) {
	b.WriteString("\n## Contenders\n\n| | module | settings |\n|---|---|---|\n")
	for _, e := range r.Contenders {
		text := e.Settings
		for _, w := range slices.Sorted(maps.Keys(e.Lacks)) {
			text += fmt.Sprintf(". Not in %s: %s", w, e.Lacks[w])
		}
		fmt.Fprintf(b, "| %s | %s %s | %s |\n", e.Name, e.Module, e.Version, text)
	}
	b.WriteString("\narpc (github.com/lesismal/arpc) is missing: its module could not be fetched.\n")
}

func (r *report) writeFailures(b *strings.Builder) {
	head := "\n## Failed\n\n"
	for _, res := range r.Results {
		if res.Err != "" {
			fmt.Fprintf(b, "%s- %s, %s, round %d: `%s`\n", head, res.Contender, res.Workload, res.Round, firstLine(res.Err))
			head = ""
		}
	}
}

// firstLine leaves out where the goroutines of a child stood when it ended.
func firstLine(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return first
}

func (r *report) writePlotLinks(b *strings.Builder, plots []string) {
	if len(plots) == 0 {
		return
	}
	b.WriteString("\n## Plots\n\n")
	for _, p := range plots {
		fmt.Fprintf(b, "![%s](%s/%s)\n", strings.TrimSuffix(p, ".svg"), plotsFolder, p)
	}
}
