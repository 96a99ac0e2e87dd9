package main

import (
	"errors"
	"sync/atomic"
	"time"
)

// mixedJob pings on one channel while another of the same client is filled.
type mixedJob struct {
	task     task
	channels channels
}

func newMixedJob(b *bench, t task) (job, error) {
	chs, err := openWarm(b.client, 2)
	j := &mixedJob{task: t, channels: chs}
	if err == nil {
		_, _, err = j.both(t.warmUp())
	}
	if err != nil {
		return nil, errors.Join(err, j.finish())
	}
	return j, nil
}

func (j *mixedJob) run() (metrics, error) {
	began := time.Now()
	samples, bulk, err := j.both(j.task.duration())
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	m := latencies(samples, took)
	m[metricMBps] = float64(bulk.bytes) / 1e6 / took.Seconds()
	m[metricBytes] = float64(bulk.bytes)
	return m, nil
}

// both stops the pings first, so that all of them had the bulk beside them.
func (j *mixedJob) both(d time.Duration) (samples []time.Duration, bulk tally, err error) {
	var over atomic.Bool
	err = each(2, func(i int) (err error) {
		if i == 0 {
			bulk, err = sendOne(j.channels[0], j.task.Size, func() bool { return !over.Load() })
			return err
		}
		defer over.Store(true)
		until := time.Now().Add(d)
		samples, err = pingOne(j.channels[1], func(now time.Time) bool { return now.Before(until) })
		return err
	})
	return samples, bulk, err
}

func (j *mixedJob) finish() error { return j.channels.close() }
