package main

import (
	"context"
	"errors"
	"slices"
	"time"
)

// openJob opens a channel with a message, waits for the answer and closes,
// again and again, in as many goroutines as the task has channels.
type openJob struct {
	bench *bench
	task  task
}

func (j *openJob) run() (metrics, error) {
	if _, err := j.spin(j.task.warmUp()); err != nil {
		return nil, err
	}
	began := time.Now()
	samples, err := j.spin(j.task.duration())
	if err != nil {
		return nil, err
	}
	return latencies(samples, time.Since(began)), nil
}

func (j *openJob) finish() error { return nil }

func (j *openJob) spin(d time.Duration) ([]time.Duration, error) {
	return repeat(j.task.Channels, d, func() error {
		ch, err := openAnswered(j.bench.client)
		if err != nil {
			return err
		}
		return ch.close()
	})
}

// repeat calls f again and again in n goroutines, and returns how long each
// call took.
func repeat(n int, d time.Duration, f func() error) ([]time.Duration, error) {
	until := time.Now().Add(d)
	parts := make([][]time.Duration, n)
	err := each(n, func(i int) error {
		for now := time.Now(); now.Before(until); {
			if err := f(); err != nil {
				return err
			}
			end := time.Now()
			parts[i] = append(parts[i], end.Sub(now))
			now = end
		}
		return nil
	})
	return slices.Concat(parts...), err
}

// connectJob makes a client, gets one answer and hangs up, again and again.
type connectJob struct {
	bench *bench
	task  task
}

func (j *connectJob) run() (metrics, error) {
	began := time.Now()
	samples, err := repeat(1, j.task.duration(), j.once)
	if err != nil {
		return nil, err
	}
	return latencies(samples, time.Since(began)), nil
}

func (j *connectJob) finish() error { return nil }

func (j *connectJob) once() error {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	c, err := j.bench.dial(ctx)
	if err != nil {
		return err
	}
	ch, err := openAnswered(c)
	if err != nil {
		return errors.Join(err, c.close())
	}
	return errors.Join(ch.close(), c.close())
}
