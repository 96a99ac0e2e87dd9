//go:build race

package attacktest

// raceDetector says that the processes are slower, and have their memory
// several times: the shadow of each word is four.
const raceDetector = true
