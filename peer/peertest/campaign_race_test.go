//go:build race

package peertest_test

import "time"

func raceFlag() string          { return " -race" }
func raceFactor() time.Duration { return 5 }
