package main

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
)

// writeBench prints each measurement as a line of the Go benchmark format.
// benchstat compares files of them, or contenders with -col /contender.
func (r *report) writeBench(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: ckt.local/bench\ncpu: %s\n", runtime.GOOS, runtime.GOARCH, r.Machine.CPU)
	for _, unit := range []string{metricRate, metricMBps} {
		fmt.Fprintf(w, "Unit %s better=higher\n", unit)
	}
	for _, res := range r.Results {
		if res.Err != "" {
			fmt.Fprintf(w, "# %s/%s failed: %s\n", res.Workload, res.Contender, firstLine(res.Err))
			continue
		}
		fmt.Fprintln(w, benchLine(res))
	}
	return w.Flush()
}

func benchLine(res result) string {
	var b strings.Builder
	name := strings.ToUpper(res.Workload[:1]) + res.Workload[1:]
	fmt.Fprintf(&b, "Benchmark%s/contender=%s %.0f", name, res.Contender, max(1, res.Metrics[metricMessages]))
	for _, unit := range benchUnits() {
		if v, ok := res.Metrics[unit]; ok {
			fmt.Fprintf(&b, " %.6g %s", v, unit)
		}
	}
	return b.String()
}

// benchUnits are the metrics that are printed, in their order.
func benchUnits() []string {
	return slices.Concat(
		[]string{metricRate, metricMBps, metricP50, metricP99},
		[]string{metricCPU, metricCPUMillion, metricCPUGB, metricAllocClient, metricAllocServer},
		[]string{metricHeapClient, metricHeapServer, metricRSSClient, metricRSSServer},
	)
}
