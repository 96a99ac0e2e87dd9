//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package identity

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// inRootsDirectory names the directory to a child that is not root.
const inRootsDirectory = "CKT_TEST_ROOTS_DIRECTORY"

const nobody = 65534

// Who owns a file may add to it where he may make none, and nothing else.
func TestAppendInRootsDirectory(t *testing.T) {
	if dir := os.Getenv(inRootsDirectory); dir != "" {
		appendAsNobody(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make another user's file, and become that user")
	}
	// Not t.TempDir, whose parents are root's alone; so is where go test keeps
	// this program.
	dir, err := os.MkdirTemp("", "identity-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile(os.Args[0])
	program := filepath.Join(dir, "program")
	if err = errors.Join(err, os.WriteFile(program, self, 0o755), os.Chmod(program, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, owner := range map[string]int{"list": nobody, "held": nobody, "root-holds": nobody, "root-holds.lock": 0, "roots": 0} {
		path := filepath.Join(dir, name)
		write(t, path, "one\n")
		if err := os.Chown(path, owner, -1); err != nil {
			t.Fatal(err)
		}
	}
	// So that it is its owner that keeps others from it, and not its mode.
	if err := os.Chmod(filepath.Join(dir, "roots"), 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^TestAppendInRootsDirectory$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), inRootsDirectory+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestAppendInRootsDirectory") {
		t.Errorf("%v:\n%s", err, out)
	}
	if got := content(t, filepath.Join(dir, "list")); got != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
}

func appendAsNobody(t *testing.T, dir string) {
	file := func(name string) SafeFile { return SafeFile{Path: filepath.Join(dir, name), Max: 100} }
	if err := file("list").Append(adding("two")); err != nil {
		t.Error(err)
	}
	for why, err := range map[string]error{
		"a new list":    file("list").Rewrite(shout),
		"root's file":   file("roots").Append(adding("two")),
		"one to create": file("new").Append(adding("two")),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", why, err)
		}
	}
	holding(t, file("held").Path, os.O_RDONLY)
	for _, name := range []string{"held", "root-holds"} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			err := file(name).Append(adding("two"))
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) < lockWait || content(t, file(name).Path) != "one\n" {
				t.Errorf("%s: after %v: %v", name, time.Since(began), err)
			}
		})
	}
}

// Who adds to a file under a lock on itself learns that another process, with
// the lock beside it, has replaced it.
func TestAppendToWhatIsReplaced(t *testing.T) {
	path := filepath.Join(safeDir(t), "file")
	write(t, path, "one\n")
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	l := fileLock{target: path, own: file}
	if err := l.settled(path); err != nil {
		t.Error(err)
	}
	synctest.Test(t, func(t *testing.T) {
		write(t, path+lockSuffix, "")
		if err := l.settled(path); err == nil {
			t.Error("it is locked all the time")
		}
		go func() {
			time.Sleep(time.Second)
			os.Remove(path + lockSuffix)
		}()
		if err := l.settled(path); err != nil {
			t.Errorf("it was left as it is: %v", err)
		}
		write(t, path+".new", "ONE\n")
		os.Rename(path+".new", path)
		if err := l.settled(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("it is another one: %v", err)
		}
	})
}
