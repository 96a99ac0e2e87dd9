package simnet

import (
	"math"
	"net/netip"
	"testing"
	"time"
)

// A seed that failed once is written down and must replay after any change of
// this package: these numbers must not change.
func TestDrawsArePinned(t *testing.T) {
	dir := Direction{From: netip.MustParseAddr("10.0.0.1"), To: netip.MustParseAddr("fd00::1")}
	d := packetDraws(laneKey(1, dir), 1)
	for _, tc := range []struct {
		name      string
		got, want uint64
	}{
		{"lane key", laneKey(1, dir), 0xfd5728a3305c4eb4},
		{"loss", d.bits(drawLoss), 0x984bc78bf196612f},
		{"duplicate", d.bits(drawDuplicate), 0x75c76adc679fc328},
		{"jitter", d.bits(drawJitter), 0x14c4fb1a46648fb1},
		{"corrupt", d.bits(drawCorrupt), 0xc563d48881dacf4a},
		{"place", d.bits(drawPlace), 0x1ae0ba446371cacb},
		{"mask", d.bits(drawMask), 0x5a981a2d61748003},
		{"second copy", uint64(d.again()), 0x2ec5d4060e5677ae},
		{"burst", d.bits(drawBurst), 0xb0b4c7a2c7b1ca},
		{"end of a burst", d.bits(drawBurstEnd), 0x490186aae079a87f},
		{"loss in a burst", d.bits(drawBurstLoss), 0xbee222731eebe9df},
		{"reorder", d.bits(drawReorder), 0x1db9a6fd1333ae2b},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %#x, want %#x", tc.name, tc.got, tc.want)
		}
	}
}

func TestDirectionsHaveDifferentKeys(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	seen := map[uint64]string{}
	for seed := range uint64(100) {
		for name, dir := range map[string]Direction{
			"there": {a, b}, "back": {b, a}, "self": {a, a},
		} {
			key := laneKey(seed, dir)
			if other, ok := seen[key]; ok {
				t.Errorf("seed %d %s and %s share a key", seed, name, other)
			}
			seen[key] = name
		}
	}
}

func TestBelowCoversItsRange(t *testing.T) {
	var seen [10]int
	for i := range uint64(10000) {
		seen[packetDraws(1, i).below(drawPlace, 10)]++
	}
	for v, count := range seen {
		if count < 850 || count > 1150 {
			t.Errorf("%d was drawn %d times of 10000, want about 1000", v, count)
		}
	}
	if got := packetDraws(1, 1).below(drawPlace, 1); got != 0 {
		t.Errorf("below 1 there is %d", got)
	}
}

func TestTransmissionRoundsUpAndDoesNotOverflow(t *testing.T) {
	for _, tc := range []struct {
		size      int
		bandwidth int64
		want      time.Duration
	}{
		{0, 1, 0},
		{1, 1, time.Second},
		{1, 3, 333333334},
		{maxPayload, 1, maxPayload * time.Second},
		{maxPayload, math.MaxInt64, 1},
	} {
		if got := transmission(tc.size, tc.bandwidth); got != tc.want {
			t.Errorf("%d bytes at %d/s: %v, want %v", tc.size, tc.bandwidth, got, tc.want)
		}
	}
}
