package main

import (
	"context"
	"fmt"
	"time"
)

// A task is what the client's process is told to do.
type task struct {
	Kind     string
	Channels int
	Size     int
	Seconds  float64
}

// The kinds of tasks.
const (
	taskPing    = "ping"
	taskOneWay  = "oneway"
	taskOpen    = "open"
	taskIdle    = "idle"
	taskClients = "clients" // idle, and each channel has a client of its own
	taskMixed   = "mixed"
	taskFan     = "fan"
	taskConnect = "connect"
)

func (t task) duration() time.Duration { return time.Duration(t.Seconds * float64(time.Second)) }

// forMemory tells whether it is memory that the task is about.
func (t task) forMemory() bool { return t.Kind == taskIdle || t.Kind == taskClients }

// warmUp is how long a task runs before it is measured.
func (t task) warmUp() time.Duration { return min(t.duration()/5, 200*time.Millisecond) }

// metrics are the results of a task, by name.
type metrics map[string]float64

// The metrics that the tasks and the orchestrator give.
const (
	metricMessages = "messages" // what the usage is divided by
	metricBytes    = "bytes"
	metricRate     = "per_s"
	metricP50      = "p50_us"
	metricP99      = "p99_us"
	metricMBps     = "MB_per_s"

	metricOthers      = "others" // share of the machine that other processes had meanwhile
	metricCPU         = "cpu"    // of both sides, of one core
	metricCPUMillion  = "cpu_s_per_million"
	metricCPUGB       = "cpu_s_per_GB"
	metricAllocClient = "allocs_client"
	metricAllocServer = "allocs_server"
	metricHeapClient  = "heap_client_B"
	metricHeapServer  = "heap_server_B"
	metricRSSClient   = "rss_client_B"
	metricRSSServer   = "rss_server_B"
)

// A job is a task that is ready to run: its channels are open and warm.
type job interface {
	run() (metrics, error)
	finish() error
}

// A bench is what jobs are made with: one client, and the means to dial more.
type bench struct {
	client client
	dial   func(ctx context.Context) (client, error)
}

// prepare opens what the task needs.
func (b *bench) prepare(t task) (job, error) {
	switch t.Kind {
	case taskPing:
		return newPingJob(b, t)
	case taskOneWay:
		return newOneWayJob(b, t)
	case taskOpen:
		return &openJob{bench: b, task: t}, nil
	case taskIdle, taskClients:
		return newIdleJob(b, t)
	case taskMixed:
		return newMixedJob(b, t)
	case taskFan:
		return newFanJob(b, t)
	case taskConnect:
		return &connectJob{bench: b, task: t}, nil
	}
	return nil, fmt.Errorf("no task is called %q", t.Kind)
}

// openWarm opens n channels, one after the other, that have answered once.
func openWarm(c client, n int) (channels, error) {
	var all channels
	for range n {
		ch, err := openAnswered(c)
		if err != nil {
			return all, err
		}
		all = append(all, ch)
	}
	return all, nil
}

// openAnswered opens a channel with a message, and waits for the answer.
func openAnswered(c client) (channel, error) {
	msg := message(kindEcho, pingSize)
	ch, err := c.open(msg)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	if err := receiveEcho(ch, pingSize); err != nil {
		return ch, fmt.Errorf("first answer: %w", err)
	}
	return ch, nil
}

// receiveEcho waits for one answer of that size.
func receiveEcho(ch channel, size int) error {
	got := -1
	if err := ch.receive(func(msg []byte) bool { got = len(msg); return false }); err != nil {
		return err
	}
	if got != size {
		return fmt.Errorf("an answer of %d bytes to a message of %d", got, size)
	}
	return nil
}

type channels []channel

func (cs channels) close() error {
	var first error
	for _, c := range cs {
		if err := c.close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
