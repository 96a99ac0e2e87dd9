package peertest_test

import "testing"

// The examples, as tests: a page shows a whole file as an example only if it
// has no test in it.
func TestExamples(t *testing.T) {
	t.Run("NewCluster", testShout)
	t.Run("NewSim", testRepeatInAnOutage)
}
