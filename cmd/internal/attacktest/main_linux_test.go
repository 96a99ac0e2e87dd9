package attacktest

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
)

// The flags of this package.
var (
	full    = flag.Bool("attack.full", false, "attack with full volumes")
	seed    = flag.Uint64("attack.seed", 1, "what the generated tries are drawn from")
	outFile = flag.String("attack.out", "", "write the table to this `file`, as markdown")
)

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(roleVar); ok {
		if err := runChild(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// A real attacker has processors of its own; this one leaves one alone.
	runtime.GOMAXPROCS(1)
	m.Run()
}

// volume is how much of something a case does.
func volume(quick, all int) int {
	if *full {
		return all
	}
	return quick
}
