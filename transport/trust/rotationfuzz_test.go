package trust

import (
	"bytes"
	"testing"
)

// sound checks what holds for each statement that is taken.
func sound(t *testing.T, r *Rotation) {
	t.Helper()
	if err := r.Verify(); err != nil {
		t.Fatalf("%v is taken: %v", r, err)
	}
	if d := r.Until.Sub(r.From); d <= 0 || d > maxOverlap {
		t.Fatalf("%v lasts %v", r, d)
	}
	back, err := ParseRotation(r.String())
	if err != nil || *back != *r {
		t.Fatalf("%v is read as %v, %v", r, back, err)
	}
	back, err = parseExtension(r.Extension().Value)
	if err != nil || *back != *r {
		t.Fatalf("the extension of %v is read as %v, %v", r, back, err)
	}
}

func FuzzRotation(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRotation(text)
		if err != nil {
			if r != nil || len(err.Error()) > 1000 {
				t.Fatalf("%v beside %v", r, err)
			}
			return
		}
		sound(t, r)
	})
}

// FuzzRotationExtension takes a whole extension. Because no input can be
// signed by chance, the unsigned parts are also looked at with the signatures
// of a good one.
func FuzzRotationExtension(f *testing.F) {
	good := rotate(f, testKey(f, 1), testKey(f, 2))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := parseExtension(value)
		if err == nil {
			sound(t, r)
			if !bytes.Equal(r.Extension().Value, value) {
				t.Fatalf("%x is written as %x", value, r.Extension().Value)
			}
		} else if r != nil || len(err.Error()) > 300 {
			t.Fatalf("%v beside %v", r, err)
		}
		ext := good.Extension()
		changed := copy(ext.Value, value) > 0 && !bytes.Equal(ext.Value, good.Extension().Value)
		got, err := FromCertificate(certOf(t, testKey(t, 2), ext), someday)
		if changed == (err == nil) || changed == (got != nil) {
			t.Fatalf("changed: %v, and read as %v, %v", changed, got, err)
		}
	})
}
