//go:build linux

package files_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ckt.local/peer/files"
)

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("no small file system can be mounted here (it needs root): %v", err)
	}
	// After the cluster, which holds the directory, is closed: cleanups run
	// last in, first out.
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	b := newBench(t, files.Config{Dir: dir})
	src := t.TempDir()
	write(t, filepath.Join(src, "a-small"), []byte("fits"), 0o644)
	write(t, filepath.Join(src, "big"), make([]byte, 4<<20), 0o644)
	write(t, filepath.Join(src, "c-small"), []byte("fits, too"), 0o644)
	report := b.push(t, src, files.PushOptions{Parallel: 1})
	if report.Files != 2 || len(report.Failed) != 1 {
		t.Fatalf("report: %+v", report)
	}
	if e, ok := errors.AsType[*files.RemoteError](report.Failed[0]); !ok || e.Code != files.CodeNoSpace {
		t.Errorf("the big file: %v, want code %s", report.Failed[0], files.CodeNoSpace)
	}
	onlyWhole(t, dir)
	// The room that the half file took is free again.
	if err := os.WriteFile(filepath.Join(dir, "after"), make([]byte, 900<<10), 0o644); err != nil {
		t.Error(err)
	}
}
