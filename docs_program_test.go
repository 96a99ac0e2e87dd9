package ckt_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDocsProgram runs the program of the README, which is that of the package
// overview.
func TestDocsProgram(t *testing.T) {
	readme, overview := between(t, "README.md", "```go\n", "```"), overviewProgram(t)
	if readme != overview {
		t.Errorf("the programs in README.md and cktdoc.go differ:\n%s\n---\n%s", readme, overview)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, []byte(readme), 0o600); err != nil {
		t.Fatal(err)
	}
	// Built and run apart, so that the time is the program's alone, and what is
	// killed when it is over is the program and not the go command.
	program := filepath.Join(dir, "program")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, file).CombinedOutput(); err != nil {
		t.Fatalf("the program in README.md does not build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program).CombinedOutput()
	if err != nil {
		t.Fatalf("the program in README.md: %v (%v)\n%s", err, ctx.Err(), out)
	}
	if got, want := string(out), "hello, world\n"; got != want {
		t.Errorf("the program in README.md prints %q, want %q", got, want)
	}
}

// TestDocsCommands holds the README to the two commands a newcomer needs.
func TestDocsCommands(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"go run ./cmd/peerctl demo", ".ci/test"} {
		if !strings.Contains(string(readme), "\n"+command) {
			t.Errorf("README.md does not give the command %q a line", command)
		}
	}
	for _, script := range []string{".ci/test", ".ci/run", ".ci/fuzz"} {
		info, err := os.Stat(script)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode()&0o111 == 0 {
			t.Errorf("%s is not executable", script)
		}
	}
}

// between returns what stands in a file between two marks, the first of each.
func between(t *testing.T, file, from, to string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), from)
	if !ok {
		t.Fatalf("%s has no %q", file, from)
	}
	body, _, ok := strings.Cut(rest, to)
	if !ok {
		t.Fatalf("%s has no %q after %q", file, to, from)
	}
	return body
}

// overviewProgram returns the program in the package comment.
func overviewProgram(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	comment := between(t, "cktdoc.go", "// # A complete program\n//\n", "\n// #")
	for line := range strings.Lines(comment) {
		line = strings.TrimRight(line, "\n")
		b.WriteString(strings.TrimPrefix(strings.TrimPrefix(line, "//"), "\t") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
