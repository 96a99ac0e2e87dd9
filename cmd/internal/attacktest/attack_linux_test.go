package attacktest

import (
	"fmt"
	"testing"
)

// TestAttacks runs the cases, one after the other, against one node and beside
// one honest pair.
func TestAttacks(t *testing.T) {
	a := newArena(t)
	newTrickle(t, a)
	base := a.base
	var rows []row
	for _, at := range attacks() {
		passed := t.Run(at.name, func(t *testing.T) {
			r := &row{name: at.name}
			defer func() { rows = append(rows, *r) }()
			a.run(t, at, r)
		})
		if !passed { // the next one starts with a node that is well
			a.close(t)
			heard := a.heard
			a = newArena(t)
			a.heard = heard
			newTrickle(t, a)
		}
	}
	if len(rows) == len(attacks()) && !t.Failed() { // and not only those that -run has picked
		a.checkHeard(t)
	}
	table(t, rows, fmt.Sprintf("Budget %s, at the start %s.", mib(budget(a.limits)), mib(base)))
}

func attacks() []attack {
	all := []attack{
		truncated(), lengths(), largestClaims(), nested(), oddLengths(), misplaced(), oddOpens(), badNames(),
		beforeHello(), helloTwice(), replayedHello(),
	}
	all = append(all, floods()...)
	all = append(all, certificates(), expired(), rotations(), early())
	all = append(all, spoofs()...)
	all = append(all, serials(), credits(), endlessResumed(), foreign())
	all = append(all, circuitsInMasses()...)
	all = append(all, unreadSource(), unreadSink(), ahead(), slow())
	all = append(all, unserved(), begun(), questions(), heirs())
	all = append(all, resets(), storm(), pings(), panics(), starts(), leftBehind())
	return all
}
