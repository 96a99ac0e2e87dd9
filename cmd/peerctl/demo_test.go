package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// plainProgram builds peerctl without the race detector, for tests of what a
// user's program does at full size.
func plainProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "peerctl")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// The main job on real input: the source of Go itself.
func TestDemoOnGoSource(t *testing.T) {
	if testing.Short() {
		t.Skip("streams about 11,000 files")
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(plainProgram(t), "demo", "--json", filepath.Join(strings.TrimSpace(string(root)), "src"))
	cmd.Env = append(cleanEnv(t), "TMPDIR="+t.TempDir())
	var stderr syncBuffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	wantExit(t, err, exitDone, stderr.String())
	var got struct {
		Files, Bytes int64
		Equal        bool
		Different    []string
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !got.Equal || len(got.Different) > 0 || got.Files < 5000 || got.Bytes < 50<<20 {
		t.Errorf("demo says %s", out)
	}
}
