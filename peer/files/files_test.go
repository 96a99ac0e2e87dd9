//go:build unix

package files_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer/files"
)

func TestTreeArrivesAsItIs(t *testing.T) {
	src := t.TempDir()
	write(t, filepath.Join(src, "empty"), nil, 0o644)
	write(t, filepath.Join(src, "exactly one fragment"), bytes.Repeat([]byte("x"), 256<<10), 0o600)
	write(t, filepath.Join(src, "sub/deep/large"), bytes.Repeat([]byte("0123456789"), 300<<10), 0o755)
	write(t, filepath.Join(src, `sub/back\slash`), []byte("b"), 0o644)
	write(t, filepath.Join(src, "sub/read-only"), []byte("r"), 0o444)
	write(t, filepath.Join(src, "sub/setuid"), []byte("s"), 0o755|fs.ModeSetuid)
	for i := range 100 {
		write(t, filepath.Join(src, "many", fmt.Sprint("f", i)), fmt.Append(nil, i), 0o644)
	}
	when := time.Date(2001, 2, 3, 4, 5, 6, 7000, time.UTC)
	err := errors.Join(
		os.Mkdir(filepath.Join(src, "hollow"), 0o555),
		os.Chtimes(filepath.Join(src, "empty"), when, when),
		os.Symlink("empty", filepath.Join(src, "link")),
		syscall.Mkfifo(filepath.Join(src, "pipe"), 0o644),
	)
	if err != nil {
		t.Fatal(err)
	}

	b := newBench(t, files.Config{})
	var mu sync.Mutex
	var last files.Progress
	report := b.push(t, src, files.PushOptions{Parallel: 4, Progress: func(p files.Progress) {
		mu.Lock()
		defer mu.Unlock()
		last.Files, last.Bytes = max(last.Files, p.Files), max(last.Bytes, p.Bytes)
		last.TotalFiles, last.TotalBytes = p.TotalFiles, p.TotalBytes
	}})
	if report.Files != 106 || report.Dirs != 4 || len(report.Failed) > 0 {
		t.Errorf("report: %+v", report)
	}
	if got := strings.Join(report.Skipped, " "); got != "link pipe" {
		t.Errorf("skipped %q, want the link and the pipe", got)
	}
	if last.Files != 106 || last.TotalFiles != 106 || last.Bytes != report.Bytes || last.TotalBytes != report.Bytes {
		t.Errorf("the progress ended at %+v of %d bytes", last, report.Bytes)
	}
	same, err := files.Compare(t.Context(), src, b.dir)
	if err != nil || !same.Equal() || same.Files != 106 || same.Bytes != report.Bytes {
		t.Errorf("compared: %+v, %v", same, err)
	}
	if info, err := os.Stat(filepath.Join(b.dir, "empty")); err != nil || !info.ModTime().Equal(when) {
		t.Errorf("modification time: %v, %v, want %v", info, err, when)
	}
	if info, err := os.Stat(filepath.Join(b.dir, "sub/setuid")); err != nil || info.Mode() != 0o755 {
		t.Errorf("a setuid bit must not travel: %v, %v", info, err)
	}
	onlyWhole(t, b.dir)

	// The same again replaces every file, the read-only one included.
	if again := b.push(t, src, files.PushOptions{}); again.Files != 106 || len(again.Failed) > 0 {
		t.Errorf("pushed again: %+v", again)
	}
}

func TestOneFileGoesUnderItsOwnName(t *testing.T) {
	b := newBench(t, files.Config{})
	src := filepath.Join(t.TempDir(), "letter.txt")
	write(t, src, []byte("hello"), 0o644)
	if r := b.push(t, src, files.PushOptions{Into: "mail/in"}); r.Files != 1 || r.Bytes != 5 {
		t.Errorf("report: %+v", r)
	}
	if got, err := os.ReadFile(filepath.Join(b.dir, "mail/in/letter.txt")); string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestBadPathsAreRefusedOneByOne(t *testing.T) {
	b := newBench(t, files.Config{})
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(b.dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"../escape", "/etc/escape", "a/../../escape", "link/escape", "a\x00b", "", ".", ".ckt-A.part"} {
		f := b.raw(t, put(path, 2), data("hi"), end("hi"))
		if f.FragOp != 5 || f.Args["code"] != string(files.CodeBadPath) || f.Err == "" {
			t.Errorf("%q: answer %d %v %q, want a refusal", path, f.FragOp, f.Args, f.Err)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("%v came through the link", left)
	}
	if f := b.raw(t, put("good", 2), data("hi"), end("hi")); f.FragOp != 4 || f.Args["bytes"] != "2" {
		t.Errorf("a good file afterwards: %d %v %q", f.FragOp, f.Args, f.Err)
	}
	onlyWhole(t, b.dir)
}

func TestWhatIsNotWhatItShouldBeIsNotKept(t *testing.T) {
	b := newBench(t, files.Config{MaxFileSize: 100})
	mode := put("f", 2)
	mode.Args["mode"] = "4755"
	for why, c := range map[string]struct {
		sent []*circuit.Fragment
		code files.Code
	}{
		"the hash is another's":        {[]*circuit.Fragment{put("f", 2), data("hi"), end("ho")}, files.CodeHashMismatch},
		"less than was said":           {[]*circuit.Fragment{put("f", 3), data("hi"), end("hi")}, files.CodeHashMismatch},
		"more than was said":           {[]*circuit.Fragment{put("f", 1), data("hi"), end("hi")}, files.CodeTooLarge},
		"over the limit":               {[]*circuit.Fragment{put("f", 101)}, files.CodeTooLarge},
		"a negative size":              {[]*circuit.Fragment{put("f", -1)}, files.CodeBadRequest},
		"a setuid mode":                {[]*circuit.Fragment{mode}, files.CodeBadRequest},
		"data without a file":          {[]*circuit.Fragment{data("hi")}, files.CodeBadRequest},
		"an end without a file":        {[]*circuit.Fragment{end("hi")}, files.CodeBadRequest},
		"a second file on the circuit": {[]*circuit.Fragment{put("f", 2), put("g", 2)}, files.CodeBadRequest},
		"an unknown operation":         {[]*circuit.Fragment{put("f", 2), {FragOp: 77}}, files.CodeBadRequest},
		"an end without a hash":        {[]*circuit.Fragment{put("f", 2), data("hi"), {FragOp: 3}}, files.CodeBadRequest},
	} {
		if f := b.raw(t, c.sent...); f.FragOp != 5 || f.Args["code"] != string(c.code) {
			t.Errorf("%s: answer %d %v %q, want code %s", why, f.FragOp, f.Args, f.Err, c.code)
		}
	}
	if left, err := os.ReadDir(b.dir); len(left) > 0 || err != nil {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

func TestNothingIsLeftOfASenderThatGoes(t *testing.T) {
	b := newBench(t, files.Config{})
	for why, leave := range map[string]func(*circuit.Circuit){
		"it closes":    (*circuit.Circuit).Close,
		"it gives up":  func(c *circuit.Circuit) { c.CloseWith(errors.New("no more")) },
		"it sends Err": func(c *circuit.Circuit) { _ = c.SendOneWay(&circuit.Fragment{Err: "oh"}) },
	} {
		c, _, err := b.me.NewCircuitToPeerURL(b.url, put("half", 1000), patience)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SendOneWay(data("half of it")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a temporary file appears when "+why, func() bool { return count(b.dir) == 1 })
		leave(c)
		eventually(t, "it goes when "+why, func() bool { return count(b.dir) == 0 })
		c.Close()
	}
}

func TestTwoPushesOfOneFile(t *testing.T) {
	b := newBench(t, files.Config{})
	var want [2][]byte
	var all sync.WaitGroup
	for i := range want {
		want[i] = bytes.Repeat([]byte{byte('a' + i)}, 1<<20)
		src := filepath.Join(t.TempDir(), "same")
		write(t, src, want[i], 0o644)
		all.Go(func() {
			for range 5 {
				if r := b.push(t, src, files.PushOptions{}); r.Files != 1 {
					t.Errorf("report: %+v", r)
				}
			}
		})
	}
	all.Wait()
	got, err := os.ReadFile(filepath.Join(b.dir, "same"))
	if err != nil || !bytes.Equal(got, want[0]) && !bytes.Equal(got, want[1]) {
		t.Errorf("the file is neither the one nor the other: %d bytes, %v", len(got), err)
	}
	onlyWhole(t, b.dir)
}

func TestOneBadFileDoesNotStopTheOthers(t *testing.T) {
	b := newBench(t, files.Config{MaxFileSize: 1000})
	src := t.TempDir()
	write(t, filepath.Join(src, "a"), []byte("a"), 0o644)
	write(t, filepath.Join(src, "big"), make([]byte, 1001), 0o644)
	write(t, filepath.Join(src, "back\xff"), []byte("b"), 0o644)
	write(t, filepath.Join(src, "z"), []byte("z"), 0o644)
	if err := os.Mkdir(filepath.Join(b.dir, "z"), 0o755); err != nil {
		t.Fatal(err)
	}
	report := b.push(t, src, files.PushOptions{})
	if report.Files != 1 || len(report.Failed) != 3 {
		t.Fatalf("report: %+v", report)
	}
	if e, ok := errors.AsType[*files.PathError](report.Failed[0]); !ok || report.Failed[0].Path != "back\xff" {
		t.Errorf("the name that is no UTF-8: %v, %v", e, report.Failed[0])
	}
	for i, code := range map[int]files.Code{1: files.CodeTooLarge, 2: files.CodeBadPath} {
		if e, ok := errors.AsType[*files.RemoteError](report.Failed[i]); !ok || e.Code != code {
			t.Errorf("%v: want code %s", report.Failed[i], code)
		}
	}
}

func TestPushStopsWhenThePeerIsGone(t *testing.T) {
	b := newBench(t, files.Config{})
	src := t.TempDir()
	for i := range 50 {
		write(t, filepath.Join(src, fmt.Sprint(i)), []byte("x"), 0o644)
	}
	gone := b.url[:len(b.url)-26] + circuit.NewID().String()
	report, err := files.Push(t.Context(), b.me, gone, src, files.PushOptions{})
	if e, ok := errors.AsType[*circuit.RefusedError](err); !ok || e.Code != circuit.RefusedUnknownPeer {
		t.Errorf("error %v, report %+v", err, report)
	}
	if report.Files != 0 {
		t.Errorf("report: %+v", report)
	}
}

func TestPushObeysItsContext(t *testing.T) {
	b := newBench(t, files.Config{})
	src := t.TempDir()
	write(t, filepath.Join(src, "f"), make([]byte, 64<<20), 0o644)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	_, err := files.Push(ctx, b.me, b.url, src, files.PushOptions{Progress: func(p files.Progress) {
		if p.Bytes > 0 {
			cancel(why)
		}
	}})
	if !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
	eventually(t, "nothing is left", func() bool { return count(b.dir) == 0 })
}

func TestFileThatChangesWhileItIsSent(t *testing.T) {
	b := newBench(t, files.Config{})
	src := t.TempDir()
	path := filepath.Join(src, "log")
	write(t, path, make([]byte, 8<<20), 0o644)
	var once sync.Once
	report := b.push(t, src, files.PushOptions{Progress: func(p files.Progress) {
		if p.Bytes == 0 {
			return
		}
		once.Do(func() {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err == nil {
				_, err = f.WriteString("one more line\n")
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}})
	if len(report.Failed) != 1 || !errors.Is(report.Failed[0], files.ErrChanged) {
		t.Errorf("report: %+v", report)
	}
	eventually(t, "nothing is left", func() bool { return count(b.dir) == 0 })
}

func TestServiceNeedsADirectory(t *testing.T) {
	if _, err := files.Service(files.Config{}); !errors.Is(err, files.ErrNoDir) {
		t.Errorf("without a directory: %v", err)
	}
	file := filepath.Join(t.TempDir(), "f")
	write(t, file, nil, 0o644)
	for _, dir := range []string{file, file + "-missing"} {
		if _, err := files.Service(files.Config{Dir: dir}); err == nil {
			t.Errorf("%s was taken for a directory", dir)
		}
	}
}

func TestCompareSeesEveryDifference(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		write(t, filepath.Join(dir, "same"), []byte("same"), 0o644)
		write(t, filepath.Join(dir, "mode"), []byte("m"), 0o644)
	}
	write(t, filepath.Join(a, "content"), []byte("one"), 0o644)
	write(t, filepath.Join(b, "content"), []byte("two"), 0o644)
	write(t, filepath.Join(a, "size"), []byte("1"), 0o644)
	write(t, filepath.Join(b, "size"), []byte("22"), 0o644)
	write(t, filepath.Join(a, "kind"), []byte("1"), 0o644)
	write(t, filepath.Join(a, "only-a"), nil, 0o644)
	write(t, filepath.Join(b, "only-b"), nil, 0o644)
	if err := errors.Join(os.Chmod(filepath.Join(b, "mode"), 0o600), os.Mkdir(filepath.Join(b, "kind"), 0o755)); err != nil {
		t.Fatal(err)
	}
	got, err := files.Compare(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(got.Different))
	for _, d := range got.Different {
		names = append(names, d.Path)
	}
	if s := strings.Join(names, " "); s != "content kind mode only-a size only-b" {
		t.Errorf("different: %s\n%v", s, got.Different)
	}
}
