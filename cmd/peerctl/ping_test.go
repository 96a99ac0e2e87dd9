package main

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/transport"
)

// A ping at a rate goes on until it has what it wants, does not wait for ever
// for what others use up, and ends with an interrupt.
func TestPingAtARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer quiet.Close()
		a := &app{stderr: quiet, timeout: 10 * time.Second}
		reached := &transport.LimitError{What: "requests per second" + ofOne, Limit: 8, Remote: true}
		atMost := func(each int) func(int, func(time.Duration)) error {
			return func(n int, tell func(time.Duration)) error {
				for range min(n, each) {
					tell(time.Millisecond)
				}
				if n > each {
					return reached
				}
				return nil
			}
		}
		for _, c := range []struct {
			each, done int
			took       time.Duration
			err        error
		}{
			{8, 20, 2 * time.Second, nil},
			{0, 0, 10 * time.Second, reached},
		} {
			begin, done := time.Now(), 0
			err := a.pingOn(t.Context(), 20, atMost(c.each), func(time.Duration) { done++ })
			if !errors.Is(err, c.err) || done != c.done || time.Since(begin) != c.took {
				t.Errorf("%d at once: %d after %v, %v", c.each, done, time.Since(begin), err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if err := a.pingOn(ctx, 20, atMost(1), func(time.Duration) {}); err == nil || time.Since(begin) > 2*time.Second {
			t.Errorf("interrupted: after %v, %v", time.Since(begin), err)
		}
	})
}
