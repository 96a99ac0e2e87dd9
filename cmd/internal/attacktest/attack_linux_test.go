package attacktest

import (
	"fmt"
	"testing"
)

func TestAttacks(t *testing.T) {
	a := newArena(t)
	newTrickle(t, a)
	var rows []row
	for _, at := range attacks() {
		t.Run(at.name, func(t *testing.T) {
			r := &row{name: at.name}
			defer func() { rows = append(rows, *r) }()
			a.run(t, at, r)
		})
	}
	table(t, rows, fmt.Sprintf("Budget %s, at the start %s.", mib(budget(a.limits)), mib(a.base)))
}

func attacks() []attack {
	all := []attack{
		truncated(), lengths(), largestClaims(), nested(), oddLengths(), misplaced(), badNames(),
		beforeHello(), helloTwice(), replayedHello(),
	}
	all = append(all, floods()...)
	all = append(all, certificates(), expired(), early())
	all = append(all, spoofs()...)
	all = append(all, serials(), credits(), endlessResumed(), foreign())
	all = append(all, circuitsInMasses()...)
	all = append(all, unreadSource(), unreadSink(), ahead(), slow())
	all = append(all, resets(), storm(), pings(), panics(), starts())
	return all
}
