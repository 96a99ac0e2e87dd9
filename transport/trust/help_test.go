package trust

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"ckt.local/transport/identity"
)

func testKey(t testing.TB, seed byte) *identity.Key {
	t.Helper()
	k, err := identity.NewKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testID(t testing.TB, seed byte) identity.NodeID { return testKey(t, seed).ID() }

// safePath returns the path of a file that is not there, in a directory that
// only we may use, whatever the umask.
func safePath(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ckt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "file")
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func needModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no file modes here")
	}
}
