package peer

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLogsAreLimitedByMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := limitLogs(slog.New(slog.NewTextHandler(&out, nil)))
		for i := range 1000 {
			log.With("attempt", i).Warn("often")
		}
		log.Warn("seldom")
		if n := strings.Count(out.String(), "msg=often"); n != logBurst {
			t.Errorf("%d records of 1000 were logged, want %d", n, logBurst)
		}
		if !strings.Contains(out.String(), "msg=seldom") {
			t.Error("one message has used up another one's records")
		}
		out.Reset()
		time.Sleep(3 * logEvery)
		for range 10 {
			log.Warn("often")
		}
		if n := strings.Count(out.String(), "msg=often"); n != 3 {
			t.Errorf("%d records were logged after three pauses, want 3", n)
		}
		if !strings.Contains(out.String(), "dropped=980") {
			t.Errorf("nothing says how many were dropped: %s", &out)
		}
	})
}
