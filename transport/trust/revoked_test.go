package trust

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"

	"ckt.local/transport/identity"
)

func openRevoked(t testing.TB, path string) *RevokedFile {
	t.Helper()
	f, err := OpenRevoked(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantRevoked(t *testing.T, f *RevokedFile, why string, id identity.NodeID, line int) {
	t.Helper()
	err := f.Check(id)
	if line == 0 {
		if err != nil {
			t.Errorf("%s: %v", why, err)
		}
		return
	}
	e, ok := errors.AsType[*RevokedError](err)
	if !ok || *e != (RevokedError{ID: id, Path: f.file.Path, Line: line}) || !strings.Contains(err.Error(), id.String()) {
		t.Errorf("%s: %v, want line %d", why, err, line)
	}
}

func TestRevoked(t *testing.T) {
	a, b, c, d := testID(t, 1), testID(t, 2), testID(t, 3), testID(t, 4)
	path := safePath(t)
	f := openRevoked(t, path)
	wantRevoked(t, f, "no file", a, 0)
	write(t, path, "# lost\n"+a.String()+"\n\n  "+b.String()+"\tstolen  laptop \r\n"+c.PublicLine("me@home")+"\n"+a.PublicLine("again"))
	wantRevoked(t, f, "a node ID", a, 2)
	wantRevoked(t, f, "with a comment", b, 4)
	wantRevoked(t, f, "an ssh line", c, 5)
	wantRevoked(t, f, "not listed", d, 0)
	list, err := f.List()
	if err != nil || len(list) != 4 || !reflect.DeepEqual(list[1], RevokedKey{ID: b, Comment: "stolen  laptop", Line: 4}) {
		t.Errorf("List = %+v, %v", list, err)
	}
	write(t, path, b.String()+"\n")
	wantRevoked(t, f, "taken out", a, 0)
	os.Remove(path)
	wantRevoked(t, f, "the file is gone", b, 0)
}

func TestRevokedFileFailsClosed(t *testing.T) {
	a := testID(t, 1)
	path := safePath(t)
	var log bytes.Buffer
	f, err := OpenRevoked(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	unusable := func(why string) {
		t.Helper()
		for range 2 {
			err := f.Check(a)
			if e, ok := errors.AsType[*RevokedError](err); !ok || e.ID != a || e.Err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", why, err)
			}
		}
		if _, err := f.List(); err == nil {
			t.Errorf("%s: listed", why)
		}
		if err := f.Add(a, ""); err == nil {
			t.Errorf("%s: added to", why)
		}
		if _, err := OpenRevoked(path, nil); err == nil {
			t.Errorf("%s: opened", why)
		}
		if strings.Count(log.String(), "all keys count as revoked") != 1 {
			t.Errorf("%s: in the log:\n%s", why, log.String())
		}
		log.Reset()
	}
	good := testID(t, 2).String() + "\n"
	for name, text := range map[string]string{
		"text":         "somebody\n",
		"cut ID":       a.String()[:51] + "\n",
		"capitals":     strings.ToUpper(a.String()) + "\n",
		"cut key":      a.PublicLine("")[:60] + "\n",
		"another type": "ssh-rsa AAAAB3NzaC1yc2E\n",
		"control":      a.String() + " \x07\n",
		"zero key":     strings.Repeat("y", 52) + "\n",
		"many keys":    strings.Repeat(good, maxEntries),
		"long line":    a.String() + strings.Repeat(" ", maxLine) + "\n",
		"long":         strings.Repeat("#", maxFile),
	} {
		write(t, path, good+text)
		unusable(name)
	}
	os.Remove(path)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	unusable("a directory")
	os.Remove(path)
	write(t, path, good)
	wantRevoked(t, f, "mended", a, 0)
	needModes(t)
	os.Chmod(path, 0o602)
	unusable("others may write to it")
}

func TestAddRevoked(t *testing.T) {
	a, b := testID(t, 1), testID(t, 2)
	path := safePath(t)
	f := openRevoked(t, path)
	if err := f.Add(a, "stolen\n# "+b.String()); err != nil {
		t.Fatal(err)
	}
	wantRevoked(t, f, "what was added", a, 1)
	wantRevoked(t, f, "what stands in its comment", b, 0)
	for range 2 {
		if err := f.Add(b, ""); err != nil {
			t.Fatal(err)
		}
	}
	if want := a.String() + " stolen # " + b.String() + "\n" + b.String() + "\n"; content(t, path) != want {
		t.Errorf("the file is\n%swant\n%s", content(t, path), want)
	}
	if err := f.Add(testID(t, 3), strings.Repeat("c", maxLine)); err == nil {
		t.Error("a line was added that would revoke everybody")
	}
	if err := f.Add(identity.NodeID{}, ""); err == nil {
		t.Error("nobody was revoked")
	}
	wantRevoked(t, f, "after all that", b, 2)
}

func FuzzRevoked(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRevocations([]byte(text))
		if err != nil {
			if len(r.list) != 0 || len(err.Error()) > 1000 {
				t.Fatalf("%d keys beside %v", len(r.list), err)
			}
			return
		}
		if len(r.list) > strings.Count(text, "\n")+1 || len(r.of) > len(r.list) {
			t.Fatalf("%d keys from %q", len(r.list), text)
		}
		for _, k := range r.list {
			if k.ID.IsZero() || r.of[k.ID] == 0 || r.of[k.ID] > k.Line {
				t.Fatalf("line %d revokes %v, which is found in line %d", k.Line, k.ID, r.of[k.ID])
			}
			line := k.String()
			k.Line = 1
			again, err := ParseRevoked([]byte(line + "\n"))
			if err != nil || len(again) != 1 || again[0] != k {
				t.Fatalf("%+v is written as %q and read as %+v, %v", k, line, again, err)
			}
		}
	})
}
