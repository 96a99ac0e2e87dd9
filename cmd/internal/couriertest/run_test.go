package couriertest

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	ckt "ckt.local"
)

func TestParcelIsSealed(t *testing.T) {
	p := parcel{from: 3, to: 4, number: 5, sent: time.Unix(0, 6)}
	for _, size := range []int{0, 57, 1000} {
		b := p.pack(size)
		if got, err := unpack(b); err != nil || got.from != 3 || got.to != 4 || got.number != 5 || !got.sent.Equal(p.sent) {
			t.Errorf("got %+v, %v", got, err)
		}
		for i := range b {
			b[i]++
			if _, err := unpack(b); !errors.Is(err, errSeal) {
				t.Errorf("byte %d of %d changed: %v", i, len(b), err)
			}
			b[i]--
		}
		if _, err := unpack(b[:len(b)-1]); err == nil {
			t.Error("a byte too few passes")
		}
	}
}

// A courier that finds nothing wrong proves something only if it finds what is.
func TestCourierFindsWhatIsWrong(t *testing.T) {
	frag := func(op int, serial, part int64, p parcel) *ckt.Fragment {
		return &ckt.Fragment{FragOp: op, Serial: serial, FragPart: part, Payload: p.pack(100)}
	}
	hello := frag(opHello, 1, 0, parcel{from: 7, to: 9})
	first := frag(opData, 2, 1, parcel{from: 7, to: 9, number: 1})
	for name, frags := range map[string][]*ckt.Fragment{
		"a hello to another life":    {frag(opHello, 1, 0, parcel{from: 7, to: 8})},
		"no hello":                   {first},
		"two hellos":                 {hello, hello},
		"a duplicate":                {hello, first, first},
		"a loss":                     {hello, frag(opData, 3, 2, parcel{from: 7, to: 9, number: 2})},
		"a loss that serials hide":   {hello, frag(opData, 2, 2, parcel{from: 7, to: 9, number: 2})},
		"serials that do not fit":    {hello, frag(opData, 3, 1, parcel{from: 7, to: 9, number: 1})},
		"an old life's fragment":     {hello, frag(opData, 2, 1, parcel{from: 6, to: 9, number: 1})},
		"a fragment to another life": {hello, frag(opData, 2, 1, parcel{from: 7, to: 8, number: 1})},
		"a header that does not fit": {hello, frag(opData, 2, 3, parcel{from: 7, to: 9, number: 1})},
		"a payload cut short":        {hello, {FragOp: opData, Serial: 2, FragPart: 1, Payload: first.Payload[:90]}},
	} {
		var out bytes.Buffer
		r := newRun(&courier{life: 9, report: newReport(&out)}, nil)
		last := len(frags) - 1
		for i, f := range frags {
			if err := r.take(f); err == nil && i == last {
				t.Errorf("%s is not found", name)
			} else if err != nil && i < last {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestReportWritesLines(t *testing.T) {
	var out strings.Builder
	newReport(&out).event(Event{Kind: Gap, Peer: 3})
	var e Event
	if err := json.Unmarshal([]byte(out.String()), &e); err != nil || e.Kind != Gap || e.Peer != 3 || e.At.IsZero() {
		t.Errorf("%q is read as %+v, %v", out.String(), e, err)
	}
	if strings.Count(out.String(), "\n") != 1 || strings.Contains(out.String(), "Newest") {
		t.Errorf("%q", out.String())
	}
}
