//go:build !race

package attacktest

const raceDetector = false
