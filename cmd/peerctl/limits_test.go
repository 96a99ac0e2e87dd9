package main

import (
	"math"
	"strings"
	"testing"

	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

func TestLimitsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		set  func(*limit.Limits)
		want string // "": it can be
	}{
		{func(*limit.Limits) {}, ""},
		{func(l *limit.Limits) { *l = l.WithDefaults() }, ""},
		{func(l *limit.Limits) { l.Peer.Started, l.Circuit.Inbox, l.Transport.RetryAbove = -1, -1, -1 }, ""},
		{func(l *limit.Limits) { l.Circuit.MaxWindow = 1 }, ""}, // it does not grow
		{func(l *limit.Limits) { l.Circuit.MaxWindow = 2 << 30 }, "circuit.max_window is 2147483648, and can be at most 1073741824"},
		{func(l *limit.Limits) { l.Circuit.Text = 4097 }, "circuit.text is 4097, and can be at most 4096"},
		{func(l *limit.Limits) { l.Peer.URL = 513 }, "peer.url is 513, and can be at most 512"},
		{func(l *limit.Limits) { l.Transport.Streams = 1 << 21 }, "transport.streams is 2097152, and can be at most 1048576"},
		{func(l *limit.Limits) { l.Circuit.Window = 5 }, "circuit.window is 5, and can be no less than 1024"},
	} {
		var l limit.Limits
		c.set(&l)
		got := ""
		if err := possible(l); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestLimitsAsText(t *testing.T) {
	var rows []limitRow
	for _, u := range []limit.Use{
		{What: "connections", Used: 3, Limit: 4096, Top: identity.NodeID{1}, TopUsed: 2, PerNode: 64, Refused: 5},
		{What: "inbox bytes", Used: 5 << 20, Limit: math.MaxInt64, Top: identity.NodeID{1}, TopUsed: 3 << 20, PerNode: 512 << 20},
		{What: "openings per second", PerNode: 16384},
		{What: "links that wait", PerNode: 64},
		{What: "running peers", Used: 7},
	} {
		rows = append(rows, newLimitRow(u))
	}
	const want = `WHAT                 USED     BOUND  BUSIEST NODE  ITS USE  ITS BOUND  REFUSED
connections          3        4096   yryyyyyy      2        64         5
inbox bytes          5.0 MiB  -      yryyyyyy      3.0 MiB  512.0 MiB  0
openings per second  -        -      -             -        16384      0
links that wait      0        -      -             -        64         0
running peers        7        -      -             -        -          0
`
	var b strings.Builder
	if err := (limitsResult{Limits: rows}).text(&b); err != nil {
		t.Fatal(err)
	}
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
