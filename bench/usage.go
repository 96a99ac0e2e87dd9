package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

// A usage is what a process has used so far, and what it holds.
type usage struct {
	CPU     float64 // seconds, of user and system
	Mallocs uint64
	Heap    int64 // bytes of objects and stacks
	RSS     int64 // bytes
}

// usageNow looks at this process.
func usageNow() (usage, error) {
	cpu, err := cpuOf(syscall.RUSAGE_SELF)
	if err != nil {
		return usage{}, err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	rss, err := residentNow()
	return usage{CPU: cpu.Seconds(), Mallocs: m.Mallocs, Heap: int64(m.HeapAlloc + m.StackInuse), RSS: rss}, err
}

// usageSettled is usageNow after what can be given back has been given back.
// The first collection lets finalizers and pools go, the second what they held.
func usageSettled() (usage, error) {
	for range 2 {
		time.Sleep(settlePause)
		runtime.GC()
	}
	debug.FreeOSMemory()
	return usageNow()
}

// settlePause lets timers and acknowledgements that are under way pass.
const settlePause = 250 * time.Millisecond

// cpuOf is the processor time of who: this process, or its children that have
// ended.
func cpuOf(who int) (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(who, &r); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}

func residentNow() (int64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/self/statm says %q", text)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}
