package main

import (
	"context"
	"sync"
	"sync/atomic"
)

// openers is how many channels are being opened at a time.
const openers = 32

// idleJob opens channels, or clients with a channel each, that have answered
// once and are silent then; a goroutine waits for each. They stay when the next
// task is prepared. The orchestrator looks at the memory before and after.
type idleJob struct {
	bench *bench
	task  task

	mu       sync.Mutex // guards what follows
	channels channels
	clients  []client
	readers  sync.WaitGroup
}

func newIdleJob(b *bench, t task) (job, error) {
	// What the first channel of a process costs is not what a channel costs.
	ch, err := openAnswered(b.client)
	if err != nil {
		return nil, err
	}
	return &idleJob{bench: b, task: t, channels: channels{ch}}, nil
}

func (j *idleJob) run() (metrics, error) {
	n := j.task.Channels
	add := func() error { return j.open(j.bench.client) }
	if j.task.Kind == taskClients {
		add = j.dial
	}
	var left atomic.Int64
	left.Store(int64(n))
	err := each(min(openers, n), func(int) error {
		for left.Add(-1) >= 0 {
			if err := add(); err != nil {
				return err
			}
		}
		return nil
	})
	return metrics{metricMessages: float64(n)}, err
}

func (j *idleJob) open(c client) error {
	ch, err := openAnswered(c)
	if err != nil {
		return err
	}
	j.mu.Lock()
	j.channels = append(j.channels, ch)
	j.mu.Unlock()
	j.readers.Go(func() { ch.receive(func([]byte) bool { return true }) })
	return nil
}

func (j *idleJob) dial() error {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	c, err := j.bench.dial(ctx)
	if err != nil {
		return err
	}
	j.mu.Lock()
	j.clients = append(j.clients, c)
	j.mu.Unlock()
	return j.open(c)
}

func (j *idleJob) finish() error {
	err := j.channels.close()
	each(len(j.clients), func(i int) error { return j.clients[i].close() })
	j.readers.Wait()
	return err
}

// each calls f for 0 to n-1 at once and returns the first error.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
