//go:build race

package quic

// crowd is how many connections make a flood. The race detector makes each
// handshake ten times as long.
const crowd = 1000
