package peertest_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"

	"ckt.local/circuit"
)

// mix is the output function of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// A flow is one direction of one circuit, as it really is: who sends what is
// its plan's, and life is the process that sends it. Its fragments follow from
// it and their serials alone, so both ends know them.
type flow struct {
	plan *circuitPlan
	side int // 0: from the opener
	life int // of the sender
	seed uint64
}

func (f flow) draw(serial int64) uint64 {
	key := f.seed<<32 ^ uint64(f.plan.id)<<16 ^ uint64(f.life)<<4 ^ uint64(f.side)
	return mix(mix(key) + uint64(serial)*0x9e3779b97f4a7c15)
}

// size is the length of the payload of a fragment.
func (f flow) size(serial int64) int {
	d := f.draw(serial)
	pick := func(low, high int) int { return low + int(d%uint64(high-low+1)) }
	switch f.plan.flows[f.side].size {
	case small:
		return pick(0, 1<<10)
	case medium:
		return pick(0, 32<<10)
	case large:
		if d>>60 == 0 {
			return 1 << 20 // the limit
		}
		return pick(64<<10, 256<<10)
	}
	return pick(0, 64)
}

// subject names the flow: a circuit, a direction, and a process.
func (f flow) subject() string { return fmt.Sprintf("%d %d %d", f.plan.id, f.side, f.life) }

// parseSubject reads the name of a flow.
func parseSubject(s string) (planID, side, life int, err error) {
	_, err = fmt.Sscanf(s, "%d %d %d", &planID, &side, &life)
	return planID, side, life, err
}

// fragment makes the fragment of a serial.
func (f flow) fragment(serial int64) *circuit.Fragment {
	d := f.draw(serial)
	fr := &circuit.Fragment{
		FragOp:      int(int16(d)),
		FragSubject: f.subject(),
		FragPart:    serial,
		Payload:     f.payload(serial, d),
	}
	if d>>56%16 == 0 {
		fr.Args = map[string]string{"a": fmt.Sprint(d), "b": ""}
	}
	if every := f.plan.flows[f.side].errEvery; every > 0 && serial%every == 0 && !(f.plan.first && serial == 1) {
		fr.Err = fmt.Sprintf("error %d", serial)
	}
	return fr
}

func (f flow) payload(serial int64, d uint64) []byte {
	p := make([]byte, 0, f.size(serial)+7)
	for x := d; len(p) < cap(p)-7; {
		x = mix(x + 0x9e3779b97f4a7c15)
		p = binary.LittleEndian.AppendUint64(p, x)
	}
	return p[:cap(p)-7]
}

// check compares what has come with what was sent.
func (f flow) check(got *circuit.Fragment) error {
	want := f.fragment(got.FragPart)
	switch {
	case got.FragSubject != want.FragSubject:
		return fmt.Errorf("it is of %q, want %q", got.FragSubject, want.FragSubject)
	case got.FragPart != got.Serial:
		return fmt.Errorf("it has serial %d, but was sent as %d", got.Serial, got.FragPart)
	case got.FragOp != want.FragOp || got.Err != want.Err || !maps.Equal(got.Args, want.Args):
		return fmt.Errorf("its texts are not those that were sent")
	case !bytes.Equal(got.Payload, want.Payload):
		return fmt.Errorf("its payload of %d bytes is not that of %d bytes that was sent", len(got.Payload), len(want.Payload))
	}
	return nil
}
