package files

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOldTemporaryFilesAreSweptAway(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	before := now.Add(-2 * staleAfter)
	put := func(when time.Time, elem ...string) string {
		path := filepath.Join(elem...)
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
		return path
	}
	live := put(before, "sub", tempName(before))
	stays := []string{
		live,
		put(before, "sub", tempName(now)),    // complete but for its name: it has the sender's time
		put(now, "sub", tempName(before)),    // still written to, by another process
		put(before, "sub", ".ckt-mine.part"), // a user's
		put(before, "sub", "file"),
		put(before, tempName(before)+"x", "file"),
	}
	goes := []string{put(before, tempName(before)), put(before, "sub", "deep", tempName(before))}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	known := &temps{live: map[string]struct{}{}}
	known.add(live)
	if n := known.sweep(t.Context(), root, now); n != len(goes) {
		t.Errorf("%d removed, want %d", n, len(goes))
	}
	for _, name := range stays {
		if _, err := root.Lstat(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range goes {
		if _, err := root.Lstat(name); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	// Once it is complete, or given up, nobody protects it.
	known.remove(live)
	if n := known.sweep(t.Context(), root, now); n != 1 {
		t.Errorf("%d removed, want the one that was live", n)
	}
}

func TestSweepingIsDueOnceADay(t *testing.T) {
	known := &temps{}
	start := time.Now()
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {time.Hour, false}, {staleAfter, true}, {staleAfter + time.Hour, false}} {
		if got := known.due(start.Add(step.after)); got != step.want {
			t.Errorf("after %v: %v", step.after, got)
		}
	}
}
