package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// fanEvery is how often each channel of a fan has a message.
const fanEvery = 100 * time.Millisecond

// fanPatience is how long the last answers may take.
const fanPatience = 10 * time.Second

// fanJob sends a message on each of many channels every [fanEvery], spread
// evenly, and times the answers from when each message was due: a sender that
// is held up shows.
type fanJob struct {
	task     task
	channels channels
}

func newFanJob(b *bench, t task) (job, error) {
	chs, err := openWarm(b.client, t.Channels)
	if err != nil {
		return nil, errors.Join(err, chs.close())
	}
	return &fanJob{task: t, channels: chs}, nil
}

func (j *fanJob) finish() error { return j.channels.close() }

// run has a receiver for each channel and one goroutine that sends: the
// messages are far apart.
func (j *fanJob) run() (metrics, error) {
	rounds := max(1, int(j.task.duration()/fanEvery))
	began := time.Now()
	samples := make([][]time.Duration, len(j.channels))
	received := make(chan error, 1)
	var arrived atomic.Int64
	go func() {
		received <- each(len(j.channels), func(i int) (err error) {
			samples[i], err = fanReceive(j.channels[i], began, rounds, &arrived)
			return err
		})
	}()
	sendErr := j.send(began, rounds)
	sentIn := time.Since(began)
	select {
	case err := <-received:
		if err = errors.Join(sendErr, err); err != nil {
			return nil, err
		}
	case <-time.After(fanPatience):
		return nil, errors.Join(sendErr, fmt.Errorf("%d of %d answers have come", arrived.Load(), rounds*len(j.channels)))
	}
	var all []time.Duration
	for _, s := range samples {
		all = append(all, s...)
	}
	return latencies(all, max(sentIn, time.Duration(rounds)*fanEvery)), nil
}

// send sends each message when it is due, or as soon as it can.
func (j *fanJob) send(began time.Time, rounds int) error {
	msg := message(kindEcho, pingSize)
	gap := fanEvery / time.Duration(len(j.channels))
	for n := range rounds * len(j.channels) {
		due := time.Duration(n) * gap
		if wait := due - time.Since(began); wait > 0 {
			time.Sleep(wait)
		}
		binary.BigEndian.PutUint64(msg[1:], uint64(due))
		if err := post(j.channels[n%len(j.channels)], msg); err != nil {
			return err
		}
	}
	return nil
}

func fanReceive(ch channel, began time.Time, rounds int, arrived *atomic.Int64) ([]time.Duration, error) {
	samples := make([]time.Duration, 0, rounds)
	err := ch.receive(func(msg []byte) bool {
		due := time.Duration(binary.BigEndian.Uint64(msg[1:]))
		samples = append(samples, time.Since(began)-due)
		arrived.Add(1)
		return len(samples) < rounds
	})
	return samples, err
}
