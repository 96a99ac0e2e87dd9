package main

import (
	"errors"
	"fmt"
	"time"
)

// oneWayJob sends for its time, and then asks for the count. The clock stops
// when that is back, so nothing counts that is still in a buffer.
type oneWayJob struct {
	task     task
	channels channels
}

func newOneWayJob(b *bench, t task) (job, error) {
	chs, err := openWarm(b.client, t.Channels)
	j := &oneWayJob{task: t, channels: chs}
	if err != nil {
		return nil, errors.Join(err, j.finish())
	}
	if _, err := sendAll(chs, t.Size, t.warmUp()); err != nil {
		return nil, errors.Join(err, j.finish())
	}
	return j, nil
}

func (j *oneWayJob) run() (metrics, error) {
	began := time.Now()
	sum, err := sendAll(j.channels, j.task.Size, j.task.duration())
	if err != nil {
		return nil, err
	}
	return throughput(sum, time.Since(began)), nil
}

func (j *oneWayJob) finish() error { return j.channels.close() }

func throughput(t tally, took time.Duration) metrics {
	return metrics{
		metricMessages: float64(t.messages),
		metricBytes:    float64(t.bytes),
		metricRate:     float64(t.messages) / took.Seconds(),
		metricMBps:     float64(t.bytes) / 1e6 / took.Seconds(),
	}
}

// sendAll sends on all channels at once for that time.
func sendAll(chs channels, size int, d time.Duration) (tally, error) {
	until := time.Now().Add(d)
	parts := make([]tally, len(chs))
	err := each(len(chs), func(i int) (err error) {
		parts[i], err = sendOne(chs[i], size, func() bool { return time.Now().Before(until) })
		return err
	})
	var sum tally
	for _, p := range parts {
		sum.messages += p.messages
		sum.bytes += p.bytes
	}
	return sum, err
}

// lookEvery is how many bytes are sent between two looks at the clock, which
// takes as long as a small message.
const lookEvery = 16 << 10

// sendOne sends while it is told to, and fails unless the server has counted
// what was sent.
func sendOne(ch channel, size int, more func() bool) (tally, error) {
	msg := message(kindSwallow, size)
	var sent tally
	for unseen := lookEvery; ; unseen += len(msg) {
		if unseen >= lookEvery {
			if !more() {
				break
			}
			unseen = 0
		}
		if err := ch.send(msg); err != nil {
			return sent, fmt.Errorf("sending message %d: %w", sent.messages+1, err)
		}
		sent.messages++
		sent.bytes += uint64(len(msg))
	}
	counted, err := askTally(ch)
	if err != nil {
		return sent, err
	}
	if counted != sent {
		return sent, fmt.Errorf("the server has counted %d messages of %d bytes together, and %d of %d were sent",
			counted.messages, counted.bytes, sent.messages, sent.bytes)
	}
	return sent, nil
}

func askTally(ch channel) (tally, error) {
	if err := post(ch, message(kindDone, 1)); err != nil {
		return tally{}, fmt.Errorf("asking for the count: %w", err)
	}
	var counted tally
	var failed error
	err := ch.receive(func(msg []byte) bool {
		counted, failed = decodeTally(msg)
		return false
	})
	return counted, errors.Join(err, failed)
}
