package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"ckt.local/transport/identity"
)

func openKnown(t testing.TB, path string) *KnownFile {
	t.Helper()
	f, err := OpenKnown(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// wantKnown checks what the file makes of a key at an address: "known", "new",
// "changed", "revoked" or "error".
func wantKnown(t *testing.T, f *KnownFile, why, addr string, id identity.NodeID, want string) {
	t.Helper()
	known, err := f.Check(addr, id)
	got := "new"
	_, changed := errors.AsType[*ChangedKeyError](err)
	_, revoked := errors.AsType[*RevokedError](err)
	switch {
	case changed:
		got = "changed"
	case revoked:
		got = "revoked"
	case err != nil:
		got = "error"
	case known:
		got = "known"
	}
	if got != want || known && err != nil {
		t.Errorf("%s: %s, %v; want %s", why, got, err, want)
	}
}

func TestKnownPeers(t *testing.T) {
	a, b, c := testID(t, 1), testID(t, 2), testID(t, 3)
	path := safePath(t)
	write(t, path, "# mine\n\n"+
		"Host.example:4000,10.0.0.1:4000 "+a.PublicLine("a comment")+"\n"+
		"[2001:DB8:0::1]:4000\t"+b.PublicLine("")+"\r\n"+
		"two:1 "+a.PublicLine("")+"\ntwo:1 "+b.PublicLine("")+"\n"+
		"@revoked two:1,only:1 "+c.PublicLine("")+"\n"+
		"back:1 "+a.PublicLine("")+"\n@revoked back:1 "+a.PublicLine("")+"\n"+
		"zone:1,[fe80::1%eth0]:1 "+c.PublicLine("")+"\n")
	f := openKnown(t, path)
	for _, q := range []struct {
		why, addr string
		id        identity.NodeID
		want      string
		lookup    identity.NodeID
	}{
		{"the key of its line", "host.example:4000", a, "known", a},
		{"capitals do not matter", "HOST.EXAMPLE:4000", a, "known", a},
		{"the other address of the line", "10.0.0.1:4000", a, "known", a},
		{"in IPv6 clothes", "[::ffff:10.0.0.1]:4000", a, "known", a},
		{"another key", "host.example:4000", b, "changed", a},
		{"another port", "host.example:4001", b, "new", identity.NodeID{}},
		{"another host", "example:4000", b, "new", identity.NodeID{}},
		{"IPv6 in another spelling", "[2001:db8::1]:4000", b, "known", b},
		{"the first of two keys", "two:1", a, "known", a},
		{"the second of two keys", "two:1", b, "known", a},
		{"a key that is not to be taken", "two:1", c, "revoked", a},
		{"where no other key is known", "only:1", c, "revoked", identity.NodeID{}},
		{"a new one there", "only:1", a, "new", identity.NodeID{}},
		{"what is revoked elsewhere", "zone:1", c, "known", c},
		{"revoked after it was known", "back:1", a, "revoked", identity.NodeID{}},
		{"and so another key is new", "back:1", b, "new", identity.NodeID{}},
		{"with a zone", "[FE80::1%eth0]:1", c, "known", c},
		{"with another zone", "[fe80::1%eth1]:1", c, "new", identity.NodeID{}},
	} {
		wantKnown(t, f, q.why, q.addr, q.id, q.want)
		if id, err := f.Lookup(q.addr); err != nil || id != q.lookup {
			t.Errorf("%s: Lookup = %v, %v", q.why, id, err)
		}
	}
	list, err := f.List()
	want := Known{Addrs: []string{"host.example:4000", "10.0.0.1:4000"}, ID: a, Comment: "a comment", Line: 3}
	if err != nil || len(list) != 8 || !reflect.DeepEqual(list[0], want) || !list[4].Revoked {
		t.Errorf("List = %+v, %v", list, err)
	}
	list[0].Addrs[0] = "mine" // is the caller's own
	wantKnown(t, f, "after the list was changed", "host.example:4000", a, "known")
}

func TestAddressesThatCannotBeKnown(t *testing.T) {
	f := openKnown(t, safePath(t))
	id := testID(t, 1)
	for _, addr := range []string{
		"", "host", "host:", ":4000", "host:0", "host:65536", "host:http", "host:04", "host:+4", "host:-1", "a b:1", "a,b:1", "@a:1", "#a:1",
		"ho\nst:1", "ho\x1bst:1", "h\u00f6st:1", "::1:4000", "[::1]", "[host]x:1", "a/b:1", "*:1", "a:b:1", "a%b:1", strings.Repeat("a", 254) + ":1",
	} {
		_, err := f.Lookup(addr)
		_, err2 := f.Check(addr, id)
		_, err3 := f.Remove(addr)
		for _, err := range []error{err, err2, err3, f.Add(addr, id)} {
			if err == nil || len(err.Error()) > 500 {
				t.Errorf("%q: %v", addr, err)
			}
		}
	}
	if err := f.Add("host:1", identity.NodeID{}); err == nil {
		t.Error("the zero key is known")
	}
	if _, err := os.Stat(f.file.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}

func TestAddKnown(t *testing.T) {
	a, b := testID(t, 1), testID(t, 2)
	path := filepath.Join(filepath.Dir(safePath(t)), "made", "known_peers")
	f := openKnown(t, path)
	for range 2 { // the second time changes nothing
		if err := f.Add("Host:4000", a); err != nil {
			t.Fatal(err)
		}
		if err := f.Add("[0::1]:4000", b); err != nil {
			t.Fatal(err)
		}
	}
	want := "host:4000 " + a.PublicLine("") + "\n[::1]:4000 " + b.PublicLine("") + "\n"
	if got := content(t, path); got != want {
		t.Errorf("the file is\n%swant\n%s", got, want)
	}
	if info, _ := os.Stat(path); info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode %v", info.Mode())
	}
	err := f.Add("HOST:4000", b)
	e, ok := errors.AsType[*ChangedKeyError](err)
	if !ok || *e != (ChangedKeyError{Addr: "host:4000", Known: a, Got: b, Path: path, Line: 1}) {
		t.Fatalf("another key: %v", err)
	}
	for _, part := range []string{"HAS CHANGED ITS KEY", "host:4000", a.String(), b.String(), path + ":1", "delete the address from line 1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the message does not say %q:\n%v", part, err)
		}
	}
	write(t, path, content(t, path)+"@revoked new:1 "+b.PublicLine(""))
	if err := f.Add("new:1", b); err == nil {
		t.Error("a revoked key was made known")
	}
	if err := f.Add("new:1", a); err != nil || strings.Count(content(t, path), "\n") != 4 {
		t.Errorf("behind a line without its end: %v\n%s", err, content(t, path))
	}
	wantKnown(t, f, "what was added", "new:1", a, "known")
}

func TestRemoveKnown(t *testing.T) {
	a, b := testID(t, 1), testID(t, 2)
	path := safePath(t)
	f := openKnown(t, path)
	if n, err := f.Remove("host:1"); n != 0 || err != nil {
		t.Errorf("from no file: %d, %v", n, err)
	}
	rest := "# stays, with  its blanks \r\nother:1   " + b.PublicLine("c") + "\n@revoked host:1 " + b.PublicLine("") + "\n"
	write(t, path, rest+"host:1 "+a.PublicLine("")+"\nx:1,HOST:1,y:2 "+a.PublicLine("mine")+"\nHost:1,host:1 "+b.PublicLine(""))
	if n, err := f.Remove("none:1"); n != 0 || err != nil {
		t.Errorf("what is not there: %d, %v", n, err)
	}
	n, err := f.Remove("hosT:1")
	if want := rest + "x:1,y:2 " + a.PublicLine("mine") + "\n"; n != 3 || err != nil || content(t, path) != want {
		t.Errorf("%d, %v, the file is\n%swant\n%s", n, err, content(t, path), want)
	}
	wantKnown(t, f, "what was removed", "host:1", a, "new")
	wantKnown(t, f, "the warning stays", "host:1", b, "revoked")
	wantKnown(t, f, "its neighbour", "y:2", a, "known")
	if err := f.Add("host:1", a); err != nil {
		t.Errorf("the new key: %v", err)
	}
}

func TestKnownFileIsFollowed(t *testing.T) {
	a, b := testID(t, 1), testID(t, 2)
	path := safePath(t)
	f := openKnown(t, path)
	wantKnown(t, f, "no file", "host:1", a, "new")
	write(t, path, "host:1 "+a.PublicLine("")+"\n")
	wantKnown(t, f, "it has appeared", "host:1", b, "changed")
	write(t, path, "host:1 "+b.PublicLine("")+"\n")
	wantKnown(t, f, "another line", "host:1", b, "known")
	os.Remove(path)
	wantKnown(t, f, "it is gone", "host:1", a, "new")
}

func TestKnownFileFailsClosed(t *testing.T) {
	a, b := testID(t, 1), testID(t, 2)
	path := safePath(t)
	var log bytes.Buffer
	f, err := OpenKnown(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	good := "host:1 " + a.PublicLine("") + "\n"
	for name, text := range map[string]string{
		"no key":         "host:1\n",
		"no address":     a.PublicLine("") + "\n",
		"cut":            "host:1 " + a.PublicLine("")[:50] + "\n",
		"another type":   "host:1 ssh-rsa AAAAB3NzaC1yc2E\n",
		"no port":        "host " + a.PublicLine("") + "\n",
		"pattern":        "*:1 " + a.PublicLine("") + "\n",
		"empty address":  "host:1,,x:1 " + a.PublicLine("") + "\n",
		"unknown marker": "@cert-authority host:1 " + a.PublicLine("") + "\n",
		"marker twice":   "@revoked @revoked host:1 " + a.PublicLine("") + "\n",
		"control":        "host:1 " + a.PublicLine("") + " \x1b[2J\n",
		"long line":      "host:1 " + a.PublicLine("") + strings.Repeat(" ", maxLine) + "\n",
		"many lines":     strings.Repeat("x:1 "+a.PublicLine("")+"\n", maxEntries),
		"long":           strings.Repeat("#", maxFile),
	} {
		log.Reset()
		write(t, path, good+text)
		for range 2 {
			wantKnown(t, f, name, "host:1", a, "error")
		}
		_, err := f.Lookup("new:1")
		_, err2 := f.Remove("host:1")
		for _, err := range []error{err, err2, f.Add("new:1", b)} {
			if err == nil || !strings.Contains(err.Error(), path) || len(err.Error()) > 600 {
				t.Errorf("%s: %v", name, err)
			}
		}
		if content(t, path) != good+text {
			t.Errorf("%s: the file was changed", name)
		}
		if strings.Count(log.String(), "nobody is known") != 1 {
			t.Errorf("%s: in the log:\n%s", name, log.String())
		}
		if _, err := OpenKnown(path, nil); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	write(t, path, good)
	wantKnown(t, f, "mended", "host:1", a, "known")
	needModes(t)
	os.Chmod(path, 0o622)
	_, err = f.Check("host:1", a)
	if _, ok := errors.AsType[*identity.UnsafeFileError](err); !ok {
		t.Errorf("a file that others may write to: %v", err)
	}
	if _, ok := errors.AsType[*identity.UnsafeFileError](f.Add("new:1", b)); !ok {
		t.Error("it was added to")
	}
}

func TestManyAddAndRemoveAtOnce(t *testing.T) {
	path := safePath(t)
	id := testID(t, 1)
	var wg sync.WaitGroup
	for i := range 6 {
		f := openKnown(t, path) // each as another process would
		wg.Go(func() {
			for _, addr := range []string{fmt.Sprintf("keep%d:1", i), fmt.Sprintf("drop%d:1", i)} {
				if err := f.Add(addr, id); err != nil {
					t.Error(err)
				}
			}
			if n, err := f.Remove(fmt.Sprintf("drop%d:1", i)); n != 1 || err != nil {
				t.Errorf("removed %d, %v", n, err)
			}
		})
	}
	wg.Wait()
	list, err := openKnown(t, path).List()
	if err != nil || len(list) != 6 {
		t.Errorf("%d lines, %v:\n%s", len(list), err, content(t, path))
	}
}

func FuzzKnownPeers(f *testing.F) {
	f.Fuzz(func(t *testing.T, text, addr string) {
		k, err := parseKnown([]byte(text))
		if err != nil {
			if len(k.list) != 0 || len(err.Error()) > 1000 {
				t.Fatalf("%d lines beside %v", len(k.list), err)
			}
			return
		}
		if len(k.list) > strings.Count(text, "\n")+1 {
			t.Fatalf("%d lines from %q", len(k.list), text)
		}
		for _, l := range k.list {
			// A line may become longer by the other spelling of an address.
			if line := l.String(); len(line) < maxLine {
				l.Line = 1
				again, err := ParseKnown([]byte(line + "\n"))
				if err != nil || len(again) != 1 || !reflect.DeepEqual(again[0], l) {
					t.Fatalf("%+v is written as %q and read as %+v, %v", l, line, again, err)
				}
			}
		}
		canonical, err := canonicalAddr(addr)
		if err != nil {
			return
		}
		if again, err := canonicalAddr(canonical); err != nil || again != canonical {
			t.Fatalf("%q is %q once and %q twice, %v", addr, canonical, again, err)
		}
		removing(t, text, canonical, k)
	})
}

// removing checks that without an address a file says nothing about it, and
// the same as before about all others.
func removing(t *testing.T, text, addr string, before known) {
	t.Helper()
	data, _, err := without([]byte(text), addr)
	if err != nil {
		t.Fatal(err)
	}
	after, err := parseKnown(data)
	if err != nil {
		if len(data) > len(text) { // a line may have become too long
			return
		}
		t.Fatalf("%q without %s is %q: %v", text, addr, data, err)
	}
	if trusted, _ := after.lines(addr); len(trusted) != 0 {
		t.Fatalf("%q without %s is %q", text, addr, data)
	}
	for other := range before.at {
		was, wasNot := before.lines(other)
		is, isNot := after.lines(other)
		if len(wasNot) != len(isNot) || other != addr && len(was) != len(is) {
			t.Fatalf("%q without %s is %q, which says something else about %s", text, addr, data, other)
		}
		for i := range is {
			if is[i].ID != was[i].ID {
				t.Fatalf("%q without %s is %q", text, addr, data)
			}
		}
	}
}
