package files

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// standstill returns how long after its start a watch gives up.
func standstill(t *testing.T, limit time.Duration, do func(w *watch)) (took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(limit)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		go do(w)
		w.guard(ctx, cancel)
		took = time.Since(w.start)
		if !errors.Is(context.Cause(ctx), ErrStalled) {
			t.Error(context.Cause(ctx))
		}
	})
	return took
}

func TestStandstillIsCountedFromTheLastMove(t *testing.T) {
	const limit = 10 * time.Second
	for why, c := range map[string]struct {
		do   func(w *watch)
		want time.Duration
	}{
		"nothing ever moves": {func(*watch) {}, limit},
		"one move after 7 s": {func(w *watch) {
			time.Sleep(7 * time.Second)
			w.touch()
		}, 7*time.Second + limit},
		"an opening takes 25 s": {func(w *watch) {
			done := w.openingNow()
			time.Sleep(25 * time.Second)
			done()
		}, 25*time.Second + limit},
		"64 MiB go to the disk": {func(w *watch) { w.settling.Add(64 << 20) }, 4*time.Second + limit},
		"8 MiB are under way, and of one file": {func(w *watch) {
			for i := range int64(8) {
				w.sent(i<<20, 1<<20)
			}
		}, 32*time.Second + limit},
		"all of it was answered": {func(w *watch) {
			w.sent(0, 3<<20)
			w.answered(3 << 20)
		}, limit},
	} {
		if got := standstill(t, limit, c.do); got < c.want || got > c.want+limit {
			t.Errorf("%s: gave up after %v, want %v", why, got, c.want)
		}
	}
}
