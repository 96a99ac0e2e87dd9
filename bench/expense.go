package main

import "time"

// An expense is what both sides had used before and after a task.
type expense struct {
	client, server [2]usage
	machine        [2]ticks
	took           time.Duration
}

// cpu is the processor time of both sides, in seconds.
func (e expense) cpu() float64 {
	return e.client[1].CPU - e.client[0].CPU + e.server[1].CPU - e.server[0].CPU
}

// others is the share of the machine that other processes had meanwhile.
func (e expense) others() float64 {
	before, after := e.machine[0], e.machine[1]
	before.own, after.own = 0, e.cpu()
	share, _ := shares(before, after)
	return share
}

// addTo divides it by what was done.
func (e expense) addTo(m metrics, t task) {
	n := m[metricMessages]
	if n == 0 {
		return
	}
	m[metricOthers] = e.others()
	if t.forMemory() {
		m[metricHeapClient] = float64(e.client[1].Heap-e.client[0].Heap) / n
		m[metricHeapServer] = float64(e.server[1].Heap-e.server[0].Heap) / n
		m[metricRSSClient] = float64(e.client[1].RSS-e.client[0].RSS) / n
		m[metricRSSServer] = float64(e.server[1].RSS-e.server[0].RSS) / n
		return
	}
	cpu := e.cpu()
	m[metricCPU] = cpu / e.took.Seconds()
	m[metricCPUMillion] = cpu / n * 1e6
	if b := m[metricBytes]; b > 0 {
		m[metricCPUGB] = cpu / b * 1e9
	}
	m[metricAllocClient] = float64(e.client[1].Mallocs-e.client[0].Mallocs) / n
	m[metricAllocServer] = float64(e.server[1].Mallocs-e.server[0].Mallocs) / n
}
