package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// options are what the command line says.
type options struct {
	contenders  []string
	workloads   []string
	rounds      int
	seconds     float64
	aloneRounds int
	repeats     int
	idle        int
	seed        uint64
	json        bool
	save        string
	report      string
	curves      bool
	linkCurve   string
	profiles    string
}

const usageText = `Measures ckt and its rivals. Each contender runs as a server and a client of its
own, and all take turns in every round. What is printed can be read by benchstat.

  go run . [flags]

Examples:
  go run . -contenders ckt,grpc -workloads small,ping -rounds 3
  go run . -contenders ckt -workloads small -rounds 10 >new.txt && benchstat old.txt new.txt
  go run . -contenders ckt -workloads bulk -rounds 1 -time 5 -profiles /tmp && go tool pprof -top /tmp/ckt-bulk-server.pprof
  go run . -report . -curves

Flags:
`

// parseOptions reads the arguments. Help goes to out, with [flag.ErrHelp].
func parseOptions(args []string, out io.Writer) (options, error) {
	var o options
	var cs, ws string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		fmt.Fprint(out, usageText)
		fs.PrintDefaults()
		fmt.Fprintf(out, "\nContenders: %s\nWorkloads:\n", strings.Join(contenderNames(), ", "))
		for _, w := range workloads() {
			fmt.Fprintf(out, "  %-9s %s\n", w.name, w.what)
		}
	}
	fs.StringVar(&cs, "contenders", "", "the `names` of those to measure, with commas between them; default: all")
	fs.StringVar(&ws, "workloads", "", "the `names` of what to measure them with, with commas between them; default: all")
	fs.IntVar(&o.rounds, "rounds", 5, "how many `times` everybody has its turn; results are medians")
	fs.Float64Var(&o.seconds, "time", 1, "`seconds` that a measurement takes; some workloads take a part of it")
	fs.IntVar(&o.aloneRounds, "idle-rounds", 1, "how many `times` the idle workloads run, which are about memory")
	fs.IntVar(&o.repeats, "repeats", 2, "how many `times` a measurement is made again if other processes had more than a tenth of the machine")
	fs.IntVar(&o.idle, "idle-channels", 0, "the most `channels` of the idle workloads; 0: no bound")
	fs.Uint64Var(&o.seed, "seed", 1, "`number` that the order of turns follows from")
	fs.BoolVar(&o.json, "json", false, "print all results as one JSON object")
	fs.StringVar(&o.save, "save", "", "`file` to write the same object into, whatever is printed; default: none")
	fs.StringVar(&o.report, "report", "", "`folder` to write RESULTS.md and plots/ into; default: none")
	fs.BoolVar(&o.curves, "curves", false, "measure how ckt behaves as it grows, as well")
	fs.StringVar(&o.linkCurve, "link-curve", "", "JSON `file` of TestLinkCurve to put into the report")
	fs.StringVar(&o.profiles, "profiles", "", "`folder`, which exists, for profiles of processor time and allocations of both sides; best with -time 5; default: none")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag", fs.Arg(0))
	}
	o.contenders, o.workloads = words(cs), words(ws)
	return o, o.check()
}

// words takes a list apart; an empty one has none.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func (o options) check() error {
	switch {
	case o.rounds < 0 || o.aloneRounds < 0 || o.repeats < 0:
		return errors.New("rounds cannot be negative")
	case o.seconds <= 0:
		return errors.New("-time must be more than nothing")
	case o.idle < 0:
		return errors.New("-idle-channels cannot be negative")
	}
	_, err := pick(o.contenders)
	if err != nil {
		return err
	}
	_, err = pickWorkloads(o.workloads)
	return err
}
