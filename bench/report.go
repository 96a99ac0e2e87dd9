package main

import (
	"cmp"
	"context"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// A report is everything that is known about a run. -json prints it.
type report struct {
	Date       time.Time
	Took       time.Duration
	Machine    machine
	Commit     string
	Rounds     int
	Seconds    float64
	Alone      int
	MostIdle   int `json:",omitempty"` // the idle workloads were cut to that many channels
	Seed       uint64
	Contenders []entrant
	Noise      noise
	Results    []result
	Curves     []point `json:",omitempty"`
	Stopped    bool    `json:",omitempty"` // it was interrupted
}

// An entrant is a contender as the report names it.
type entrant struct {
	Name, Module, Version, Settings string
	Lacks                           map[string]string `json:",omitempty"`
}

// A machine is what the figures hold for.
type machine struct {
	CPU    string
	Cores  int
	Kernel string
	Go     string
}

// measure runs what the options say. After an interrupt the report has what
// there was until then, beside the error.
func measure(ctx context.Context, opt options) (*report, error) {
	cs, err := pick(opt.contenders)
	if err != nil {
		return nil, err
	}
	ws, err := pickWorkloads(opt.workloads)
	if err != nil {
		return nil, err
	}
	r := &runner{opt: opt, contenders: cs, workloads: ws}
	steps, estimate := r.steps()
	if opt.curves {
		steps += curveSteps()
		estimate += time.Duration(curveSteps()) * 3 * time.Second
	}
	r.progress = newProgress(steps, estimate)
	rep := newReport(opt, cs)
	err = r.run(ctx)
	if err == nil && opt.curves {
		rep.Curves, err = r.curves(ctx)
	}
	r.progress.end()
	if opt.linkCurve != "" {
		more, lerr := readCurve(opt.linkCurve)
		rep.Curves = append(rep.Curves, more...)
		err = cmp.Or(err, lerr)
	}
	rep.Took = time.Since(rep.Date)
	rep.Noise, rep.Results = r.noise, r.results
	rep.Stopped = ctx.Err() != nil
	return rep, err
}

func newReport(opt options, cs []contender) *report {
	rep := &report{
		Date: time.Now(), Machine: thisMachine(), Commit: commit(),
		Rounds: opt.rounds, Seconds: opt.seconds, Alone: opt.aloneRounds, MostIdle: opt.idle, Seed: opt.seed,
	}
	for _, c := range cs {
		a := c.about()
		rep.Contenders = append(rep.Contenders, entrant{
			Name: a.name, Module: cmp.Or(a.module, "standard library"), Version: version(a.module),
			Settings: a.settings, Lacks: a.lacks,
		})
	}
	return rep
}

// version is that of a module in this program.
func version(module string) string {
	info, ok := debug.ReadBuildInfo()
	if module == "" || !ok {
		return runtime.Version()
	}
	for _, m := range info.Deps {
		if m.Path != module {
			continue
		}
		if m.Replace != nil {
			return "this tree"
		}
		return m.Version
	}
	return "unknown"
}

// commit is what is checked out here, with a mark if the tree is not that.
func commit() string {
	id, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	c := strings.TrimSpace(string(id))
	changed, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no", "..").Output()
	if err == nil && len(changed) > 0 {
		c += " with changes"
	}
	return c
}

// A key names one number of the report.
type key struct{ contender, workload, metric string }

// median is that of all rounds, NaN if there was none.
func (r *report) median(k key) float64 {
	var values []float64
	for _, res := range r.Results {
		if res.Contender != k.contender || res.Workload != k.workload || res.Err != "" {
			continue
		}
		if v, ok := res.Metrics[k.metric]; ok {
			values = append(values, v)
		}
	}
	return median(values)
}

// failure is the first error of a contender with a workload, "" if there was
// none.
func (r *report) failure(contender, workload string) string {
	for _, res := range r.Results {
		if res.Contender == contender && res.Workload == workload && res.Err != "" {
			return res.Err
		}
	}
	return ""
}
