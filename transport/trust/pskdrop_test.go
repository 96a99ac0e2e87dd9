package trust

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// The older key goes, however often that is done and wherever comments stand;
// the last one stays.
func TestDropPSK(t *testing.T) {
	key := func(n byte) string { return FormatPSK(bytes.Repeat([]byte{n}, pskLen)) + "\n" }
	path := safePath(t)
	for _, c := range []struct{ old, want string }{
		{"# above\n" + key(1) + key(2), "# above\n" + key(2)},
		{key(1) + "# below, as files had it once\n" + key(2), "# below, as files had it once\n" + key(2)},
		{"\r\n# a\n" + key(1) + "\n# b\n" + strings.TrimSuffix(key(2), "\n"), "\r\n# a\n\n# b\n" + strings.TrimSuffix(key(2), "\n")},
	} {
		write(t, path, c.old)
		if err := DropPSK(path); err != nil || content(t, path) != c.want {
			t.Errorf("%q: %v, %q", c.old, err, content(t, path))
		}
		if err := DropPSK(path); err == nil || content(t, path) != c.want {
			t.Errorf("%q, and once more: %v, %q", c.old, err, content(t, path))
		}
	}
	needModes(t)
	write(t, path, key(1)+key(2))
	os.Chmod(path, 0o640)
	if err := DropPSK(path); err == nil || content(t, path) != key(1)+key(2) {
		t.Errorf("a file that others read: %v", err)
	}
}
