package main

import (
	"testing"
	"time"
)

// A day is one from now, however early the statement begins, and a statement
// is never longer than others take.
func TestDaysOfARotationCountFromNow(t *testing.T) {
	now := time.Now()
	for days, left := range map[int]time.Duration{1: day, 30: 30 * day, 89: 89 * day, mostDays: mostDays*day - early} {
		from, until := validity(now, days)
		if from != now.Add(-early) || until.Sub(now) != left || until.Sub(from) > mostDays*day {
			t.Errorf("%d days: from %v to %v", days, from.Sub(now), until.Sub(now))
		}
	}
}
