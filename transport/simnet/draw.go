package simnet

import (
	"hash/fnv"
	"math/bits"
)

// The draws of one packet. Each has a number of its own, so that a decision
// that is not asked for, or a new one, shifts no other. Numbers are appended,
// never reused: seeds of old failures must replay.
const (
	drawLoss = iota + 1
	drawDuplicate
	drawJitter
	drawCorrupt
	drawPlace // of the damaged byte
	drawMask  // of its flipped bits
	drawAgain // what the second copy's draws begin with
	drawBurst // whether one begins
	drawBurstEnd
	drawBurstLoss // whether it takes this packet
	drawReorder
)

// golden is 2⁶⁴ divided by the golden ratio: multiples of it lie far apart.
const golden = 0x9e3779b97f4a7c15

// draws yields the random numbers of one packet, or of its second copy.
type draws uint64

// laneKey is the part of the seed that a direction's packets draw from.
func laneKey(seed uint64, d Direction) uint64 {
	h := fnv.New64a()
	h.Write([]byte(d.From.String() + ">" + d.To.String())) // never fails
	return mix(mix(seed+golden) ^ h.Sum64())
}

// packetDraws returns the draws of the packet with an ordinal on a lane.
func packetDraws(laneKey, ordinal uint64) draws {
	return draws(mix(laneKey + ordinal*golden))
}

// again returns the draws of the packet's second copy.
func (d draws) again() draws { return draws(d.bits(drawAgain)) }

// bits returns 64 random bits.
func (d draws) bits(draw uint64) uint64 { return mix(uint64(d) + draw*golden) }

// chance is true with the probability p.
func (d draws) chance(draw uint64, p float64) bool {
	return float64(d.bits(draw)>>11)/(1<<53) < p
}

// below returns a number from 0 to n-1, each as likely as the next.
func (d draws) below(draw, n uint64) uint64 {
	hi, _ := bits.Mul64(d.bits(draw), n)
	return hi
}

// mix is the output function of SplitMix64 (Steele, Lea, Flood 2014): each bit
// of x changes about half of the bits of the result.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
