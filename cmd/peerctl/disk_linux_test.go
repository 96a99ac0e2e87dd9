package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"log/slog"
)

// smallDisk mounts a file system of 64 KiB for the time of a test.
func smallDisk(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skipf("no small file system can be mounted here (it needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves no room on the file system of dir.
func fill(t *testing.T, dir string) (filler string) {
	t.Helper()
	filler = filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return filler
}

// contents are all files below dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Whatever peerctl writes: where it cannot, it says so and what to do, and
// leaves everything as it was.
func TestCommandsThatCannotWrite(t *testing.T) {
	for _, c := range []struct {
		why  string
		code string
		say  string
		make func(t *testing.T, dir string)
		also []string // to be done in the directory, too
	}{
		{"a full disk", "disk-full", "make room there and try again", func(t *testing.T, dir string) { fill(t, dir) }, nil},
		{"a read-only file system", "read-only", "make it writable or name another place", func(t *testing.T, dir string) {
			if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
				t.Skip(err)
			}
		}, []string{"keygen", "--add", "--psk", "lock"}}, // on a full disk the block of the first key takes the second, too
	} {
		t.Run(c.why, func(t *testing.T) {
			dir := smallDisk(t)
			env := append(cleanEnv(t), "XDG_CONFIG_HOME="+dir)
			in := func(name string) string { return filepath.Join(dir, "ckt", name) }
			node := ownKey(t, env).String()
			for _, args := range [][]string{
				{"keygen", "--out", in("new")},
				{"keygen", "--psk", in("lock")},
				{"keygen", "--psk", in("two")},
				{"keygen", "--psk", in("two"), "--add"},
				{"--known", in("some"), "known", "add", "example.org:1", node},
				{"--known", in("some"), "known", "add", "example.org:2", node},
			} {
				if out, err := command(t, env, "peerctl", args...).CombinedOutput(); err != nil {
					t.Fatalf("%q: %v: %s", args, err, out)
				}
			}
			c.make(t, dir)
			before := contents(t, dir)
			cases := [][]string{
				{"keygen", "--out", in("third")},
				{"--key", in("missing"), "keygen"},
				{"keygen", "--psk", in("second")},
				{"keygen", "--psk", in("two"), "--drop"},
				{"authorize", node, "--services", "echo"},
				{"known", "add", "example.org:1", node},
				{"--known", in("some"), "known", "forget", "example.org:2"},
				{"revoke", "yryyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"},
				{"rotate", "--to", in("new")},
			}
			if c.also != nil {
				cases = append(cases, c.also)
			}
			for _, args := range cases {
				cmd := command(t, env, "peerctl", append(args, "--json")...)
				cmd.Dir = filepath.Join(dir, "ckt")
				out, err := cmd.CombinedOutput()
				wantExit(t, err, exitFailed, fmt.Sprintf("%q: %s", args, out))
				if !strings.Contains(string(out), `"code":"`+c.code+`"`) || !strings.Contains(string(out), c.say) {
					t.Errorf("%q: %s", args, out)
				}
			}
			for path, text := range contents(t, dir) {
				if before[path] != text {
					t.Errorf("%s is not as it was:\n%q", path, text)
				}
				delete(before, path)
			}
			for path := range before {
				t.Errorf("%s is gone", path)
			}
		})
	}
}

// A key that cannot be made ends a command; an address that cannot be noted
// ends those that trust it by that note only.
func TestNodesThatCannotWrite(t *testing.T) {
	dir := smallDisk(t)
	server, guest := cleanEnv(t), append(cleanEnv(t), "XDG_CONFIG_HOME="+dir)
	s := serveFor(t, server, "peerctl")
	fill(t, dir)
	for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"ping", s.url}, {"id"}} {
		out, err := command(t, guest, "peerctl", args...).CombinedOutput()
		wantExit(t, err, exitFailed, string(out))
		if !strings.Contains(string(out), "id_ed25519 was not written; make room there and try again") {
			t.Errorf("%q: %s", args, out)
		}
	}
	if left := contents(t, dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}

	_, addr, _ := strings.Cut(s.url, "@")
	known := filepath.Join(dir, "known")
	out, err := command(t, server, "peerctl", "--known", known, "ping", addr, "-n", "1").CombinedOutput()
	wantExit(t, err, exitDone, string(out)) // its own key needs no note

	other := cleanEnv(t)
	out, err = command(t, other, "peerctl", "--known", known, "--trust", "new", "ping", addr, "-n", "1").CombinedOutput()
	wantExit(t, err, exitFailed, string(out))
	if !strings.Contains(string(out), "known was not written; make room there and try again") {
		t.Errorf("%s", out)
	}
	if left := contents(t, dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// When there is room again the audit log goes on, with whole lines only.
func TestAuditWhenThereIsRoomAgain(t *testing.T) {
	dir := smallDisk(t)
	a, printed := onPaper(t)
	path := filepath.Join(dir, "audit")
	audit, w, err := a.openAudit(path, slog.New(slog.NewTextHandler(a.stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	record := func() { audit.Info("audit", "action", "connect", "node", strings.Repeat("y", 52)) }
	record()
	filler := fill(t, dir)
	for range 100 { // the rest of a block, then half a line, then none
		record()
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kept := len(auditRecords(t, string(text)))
	if kept < 2 || kept > 100 {
		t.Errorf("%d records are kept", kept)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	record()
	if text, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if n := len(auditRecords(t, string(text))); n != kept+1 {
		t.Errorf("%d records, want %d", n, kept+1)
	}
	// A tmpfs counts its pages for each processor, and may find one more in
	// between. So it may be said several times; but each record is in the file,
	// or counted once.
	log, lost := printed(), 0
	again := regexp.MustCompile(`written again" file=\S+ lost=(\d+)`).FindAllStringSubmatch(log, -1)
	for _, m := range again {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		lost += n
	}
	if n := strings.Count(log, "are being lost"); n == 0 || n != len(again) || lost != 101-kept {
		t.Errorf("%d of 102 records are kept; it says:\n%s", kept+1, log)
	}
}
