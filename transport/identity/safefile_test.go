package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func content(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func adding(line string) func([]byte) (string, error) {
	return func([]byte) (string, error) { return line, nil }
}

func TestSafeFile(t *testing.T) {
	dir := safeDir(t)
	f := SafeFile{Path: filepath.Join(dir, "sub", "file"), Max: 10}
	if _, err := f.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := f.Append(adding("")); err != nil {
		t.Error(err)
	}
	wantFiles(t, filepath.Dir(f.Path)) // nothing to write makes no file
	if err := f.Append(func([]byte) (string, error) { return "x", fs.ErrInvalid }); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("the caller's error: %v", err)
	}
	wantFiles(t, filepath.Dir(f.Path))
	if err := f.Append(adding("one")); err != nil {
		t.Fatal(err)
	}
	if err := f.Append(adding("two")); err != nil || content(t, f.Path) != "one\ntwo\n" {
		t.Errorf("%q, %v", content(t, f.Path), err)
	}
	if err := f.Append(adding("33")); err == nil || content(t, f.Path) != "one\ntwo\n" {
		t.Errorf("11 bytes of 10: %q, %v", content(t, f.Path), err)
	}
	wantModes(t, map[string]fs.FileMode{f.Path: 0o600, filepath.Dir(f.Path): 0o700})
	if err := f.Create([]byte("new")); !errors.Is(err, fs.ErrExist) || content(t, f.Path) != "one\ntwo\n" {
		t.Errorf("over a file: %v", err)
	}
	write(t, f.Path, strings.Repeat("x", 11))
	for name, err := range map[string]error{
		"read": func() error { _, err := f.Read(); return err }(), "append": f.Append(adding("x")), "rewrite": f.Rewrite(nil),
		"create": SafeFile{Path: filepath.Join(dir, "big"), Max: 2}.Create([]byte("big")),
	} {
		if err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s of too much: %v", name, err)
		}
	}
	wantFiles(t, filepath.Dir(f.Path), "file")
	wantFiles(t, dir, "sub")
}

func TestRewrite(t *testing.T) {
	dir := safeDir(t)
	f := SafeFile{Path: filepath.Join(dir, "link"), Max: 100}
	if err := f.Rewrite(nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	real := filepath.Join(dir, "real")
	write(t, real, "one\ntwo\n")
	if err := os.Symlink(real, f.Path); err != nil {
		f.Path = real
	}
	before, _ := os.Stat(real)
	for _, change := range []func([]byte) ([]byte, error){
		func(old []byte) ([]byte, error) { return old, nil },
		func([]byte) ([]byte, error) { return []byte("x"), fs.ErrInvalid },
	} {
		f.Rewrite(change)
		if after, _ := os.Stat(real); !os.SameFile(before, after) || content(t, real) != "one\ntwo\n" {
			t.Errorf("written though nothing was to change: %q", content(t, real))
		}
	}
	err := f.Rewrite(func(old []byte) ([]byte, error) { return []byte("zero\n" + string(old)), nil })
	if err != nil || content(t, f.Path) != "zero\none\ntwo\n" || content(t, real) != content(t, f.Path) {
		t.Errorf("%q, %v", content(t, real), err)
	}
	wantModes(t, map[string]fs.FileMode{real: 0o600})
	if files, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

func TestSafeFileRefusesWhatOthersMayWrite(t *testing.T) {
	needModes(t)
	dir := safeDir(t)
	f := SafeFile{Path: filepath.Join(dir, "file"), Max: 100}
	write(t, f.Path, "mine\n")
	try := func(why string) {
		t.Helper()
		_, err := f.Read()
		for what, err := range map[string]error{"read": err, "append": f.Append(adding("x")), "rewrite": f.Rewrite(nil)} {
			if !isType[*UnsafeFileError](err) {
				t.Errorf("%s %s: %v", what, why, err)
			}
		}
		if content(t, f.Path) != "mine\n" {
			t.Errorf("%s it was written", why)
		}
	}
	os.Chmod(f.Path, 0o622)
	try("a file that others may write to")
	os.Chmod(f.Path, 0o600)
	os.Chmod(dir, 0o777)
	try("in a directory where others may put another one")
	os.Chmod(dir, 0o700)
	secret := f
	secret.Holds = "private key"
	os.Chmod(f.Path, 0o640)
	if _, err := f.Read(); err != nil {
		t.Errorf("no secret: %v", err)
	}
	if _, err := secret.Read(); !isType[*UnsafeFileError](err) {
		t.Errorf("a secret that the group may read: %v", err)
	}
}

func TestSafeFileIsAFile(t *testing.T) {
	f := SafeFile{Path: safeDir(t), Max: 100}
	_, err := f.Read()
	for what, err := range map[string]error{"read": err, "append": f.Append(adding("x")), "rewrite": f.Rewrite(nil), "create": f.Create(nil)} {
		if err == nil || !strings.Contains(err.Error(), f.Path) {
			t.Errorf("%s a directory: %v", what, err)
		}
	}
}

func TestChangesByManyAtOnce(t *testing.T) {
	f := SafeFile{Path: filepath.Join(safeDir(t), "file"), Max: 1 << 10}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			name := string(rune('a' + i))
			if err := f.Append(adding("keep " + name)); err != nil {
				t.Error(err)
			}
			if err := f.Append(adding("drop " + name)); err != nil {
				t.Error(err)
			}
			err := f.Rewrite(func(old []byte) ([]byte, error) {
				return []byte(strings.ReplaceAll(string(old), "drop "+name+"\n", "")), nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := content(t, f.Path)
	if strings.Count(got, "keep") != 10 || strings.Contains(got, "drop") {
		t.Errorf("a change was lost:\n%s", got)
	}
}

func TestReportTellsEachReasonOnce(t *testing.T) {
	path := filepath.Join(safeDir(t), "file")
	var told []string
	parsed := 0
	f := &Followed[int]{
		SafeFile: SafeFile{Path: path, Max: 100},
		Parse: func(data []byte) (int, error) {
			parsed++
			if data[0] == '!' {
				return 0, errors.New(string(data))
			}
			return len(data), nil
		},
		Report: func(err error) { told = append(told, err.Error()) },
	}
	get := func(text string, want int, wantErr string) {
		t.Helper()
		if text != "" {
			replace(t, path, text)
		}
		for range 3 {
			got, err := f.Get()
			if got != want || (err == nil) != (wantErr == "") || err != nil && err.Error() != wantErr {
				t.Errorf("%q: %d, %v", text, got, err)
			}
		}
	}
	get("", 0, "")
	get("four", 4, "")
	get("!bad", 0, "!bad")
	get("!worse", 0, "!worse")
	get("five!", 5, "")
	get("!bad", 0, "!bad")
	if want := "!bad !worse !bad"; strings.Join(told, " ") != want || parsed != 5 {
		t.Errorf("told %q after %d parsings, want %q after 5", told, parsed, want)
	}
}
