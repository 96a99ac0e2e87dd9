package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// pingSize is what goes there and back, in bytes.
const pingSize = 64

// pingJob sends a message on each of its channels and the next one when the
// answer has come.
type pingJob struct {
	task     task
	channels channels
}

func newPingJob(b *bench, t task) (job, error) {
	chs, err := openWarm(b.client, t.Channels)
	j := &pingJob{task: t, channels: chs}
	if err != nil {
		return nil, errors.Join(err, j.finish())
	}
	if _, err := pingAll(chs, t.warmUp()); err != nil {
		return nil, errors.Join(err, j.finish())
	}
	return j, nil
}

func (j *pingJob) run() (metrics, error) {
	began := time.Now()
	samples, err := pingAll(j.channels, j.task.duration())
	if err != nil {
		return nil, err
	}
	return latencies(samples, time.Since(began)), nil
}

func (j *pingJob) finish() error { return j.channels.close() }

// pingAll pings on all channels at once, and returns how long each took.
func pingAll(chs channels, d time.Duration) ([]time.Duration, error) {
	until := time.Now().Add(d)
	parts := make([][]time.Duration, len(chs))
	err := each(len(chs), func(i int) (err error) {
		parts[i], err = pingOne(chs[i], func(now time.Time) bool { return now.Before(until) })
		return err
	})
	return slices.Concat(parts...), err
}

// pingOne goes on while it is told to.
func pingOne(ch channel, more func(now time.Time) bool) ([]time.Duration, error) {
	msg := message(kindEcho, pingSize)
	samples := make([]time.Duration, 0, 1<<14)
	sent := time.Now()
	if err := post(ch, msg); err != nil {
		return nil, err
	}
	var failed error
	err := ch.receive(func(back []byte) bool {
		now := time.Now()
		samples = append(samples, now.Sub(sent))
		if len(back) != len(msg) {
			failed = fmt.Errorf("an answer of %d bytes to a ping of %d", len(back), len(msg))
			return false
		}
		if !more(now) {
			return false
		}
		sent = now
		failed = post(ch, msg)
		return failed == nil
	})
	return samples, errors.Join(err, failed)
}

// latencies are the metrics of what was done that often in that time.
func latencies(samples []time.Duration, took time.Duration) metrics {
	slices.Sort(samples)
	return metrics{
		metricMessages: float64(len(samples)),
		metricRate:     float64(len(samples)) / took.Seconds(),
		metricP50:      micros(percentile(samples, 50)),
		metricP99:      micros(percentile(samples, 99)),
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
