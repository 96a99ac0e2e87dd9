//go:build !race

package quic

// crowd is how many connections make a flood.
const crowd = 10_000
