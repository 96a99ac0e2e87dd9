//go:build !race

package peertest_test

import "time"

func raceFlag() string          { return "" }
func raceFactor() time.Duration { return 1 }
