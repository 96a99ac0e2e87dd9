package trust

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"ckt.local/transport/identity"
)

func TestPSKFile(t *testing.T) {
	path := safePath(t)
	if _, err := ReadPSKs(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := NewPSK(path); err != nil {
		t.Fatal(err)
	}
	first, err := ReadPSKs(path)
	if err != nil || len(first) != 1 || len(first[0]) != pskLen {
		t.Fatalf("%x, %v", first, err)
	}
	if err := NewPSK(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	other := safePath(t)
	if err := NewPSK(other); err != nil {
		t.Fatal(err)
	}
	if second, err := ReadPSKs(other); err != nil || bytes.Equal(first[0], second[0]) {
		t.Errorf("the second one is %x, %v", second, err)
	}
	// During a change there are two, in their order.
	write(t, path, content(t, path)+"\n# the next one\r\n"+FormatPSK(bytes.Repeat([]byte{7}, maxPSK))+" \r\n")
	both, err := ReadPSKs(path)
	if err != nil || len(both) != 2 || !bytes.Equal(both[0], first[0]) || len(both[1]) != maxPSK {
		t.Errorf("%x, %v", both, err)
	}
	needModes(t)
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620} {
		os.Chmod(path, mode)
		_, err := ReadPSKs(path)
		if _, ok := errors.AsType[*identity.UnsafeFileError](err); !ok {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	os.Chmod(path, 0o400)
	if _, err := ReadPSKs(path); err != nil {
		t.Errorf("mode 0400: %v", err)
	}
}

func TestBrokenPSKFiles(t *testing.T) {
	path := safePath(t)
	good := FormatPSK(bytes.Repeat([]byte{1}, minPSK))
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, minPSK))
	for name, text := range map[string]string{
		"nothing":          "",
		"comments":         "# " + good + "\n",
		"the key alone":    secret,
		"another version":  strings.Replace(good, "v1", "v2", 1),
		"too short":        FormatPSK(make([]byte, minPSK-1)),
		"too long":         FormatPSK(make([]byte, maxPSK+1)),
		"no key":           pskWord,
		"not base64":       good + "!",
		"without padding":  strings.TrimRight(good, "="),
		"other base64":     pskWord + " " + base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, minPSK)),
		"a comment behind": good + " mine",
		"twice":            good + "\n" + good,
		"three": good + "\n" + FormatPSK(bytes.Repeat([]byte{2}, minPSK)) + "\n" +
			FormatPSK(bytes.Repeat([]byte{3}, minPSK)),
		"a control byte": good + "\n\x00",
		"a long file":    good + strings.Repeat("\n", maxPSKFile),
	} {
		write(t, path, text)
		keys, err := ReadPSKs(path)
		if err == nil || keys != nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %x, %v", name, keys, err)
		}
		if err != nil && strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
	}
}

func FuzzPSKs(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := parsePSKs([]byte(text))
		if err != nil {
			if keys != nil || len(err.Error()) > 200 {
				t.Fatalf("%x beside %v", keys, err)
			}
			return
		}
		if len(keys) < 1 || len(keys) > maxPSKs {
			t.Fatalf("%d keys", len(keys))
		}
		var lines []string
		for _, k := range keys {
			if len(k) < minPSK || len(k) > maxPSK || !strings.Contains(text, FormatPSK(k)[len(pskWord)+1:]) {
				t.Fatalf("a key of %d bytes from %q", len(k), text)
			}
			lines = append(lines, FormatPSK(k))
		}
		again, err := parsePSKs([]byte(strings.Join(lines, "\n")))
		if err != nil || !slices.EqualFunc(keys, again, bytes.Equal) {
			t.Fatalf("%x is written as %q and read as %x, %v", keys, lines, again, err)
		}
	})
}
