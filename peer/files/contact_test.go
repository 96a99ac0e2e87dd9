//go:build unix

package files_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/files"
	"ckt.local/peer/peertest"
)

// other starts a peer of a service that is not files, and one to push from.
func other(t *testing.T, service peer.PeerServiceFunc) (me *peer.LocalPeer, url string) {
	t.Helper()
	cluster := peertest.NewCluster(t, 2)
	cluster.Register("other", service)
	cluster.Register("pusher", deaf)
	return cluster.Start(0, "pusher"), cluster.Start(1, "other").URL()
}

// deaf takes circuits and never looks at them.
func deaf(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	for {
		select {
		case <-ctx0.Done():
			return nil
		case <-newCircuitCh:
		}
	}
}

// mirror sends back what it gets, as echo does.
func mirror(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	for {
		select {
		case <-ctx0.Done():
			return nil
		case c := <-newCircuitCh:
			for f := range c.Fragments(ctx0) {
				if f == nil || c.Send(ctx0, f) != nil {
					break
				}
			}
			c.Close()
		}
	}
}

func pushTo(t *testing.T, me *peer.LocalPeer, url, path string, opts files.PushOptions) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := files.Push(ctx, me, url, path, opts)
	return err
}

func TestPushToAnotherServiceEndsAtOnce(t *testing.T) {
	me, url := other(t, mirror)
	src := filepath.Join(t.TempDir(), "f")
	write(t, src, make([]byte, 1<<20), 0o644)
	for _, path := range []string{src, filepath.Dir(src), t.TempDir()} {
		if err := pushTo(t, me, url, path, files.PushOptions{}); !errors.Is(err, files.ErrNotFiles) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestPushToAPeerThatNeverAnswersEnds(t *testing.T) {
	me, url := other(t, deaf)
	src := filepath.Join(t.TempDir(), "f")
	write(t, src, make([]byte, 8<<20), 0o644)
	err := pushTo(t, me, url, src, files.PushOptions{StallTimeout: 200 * time.Millisecond})
	if !errors.Is(err, files.ErrStalled) {
		t.Error(err)
	}
}

// It says yes to the first circuit, and to no other.
func TestPushToAPeerThatFallsSilentEnds(t *testing.T) {
	me, url := other(t, func(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
		for first := true; ; first = false {
			select {
			case <-ctx0.Done():
				return nil
			case c := <-newCircuitCh:
				if first {
					_ = c.SendOneWay(&circuit.Fragment{FragOp: 4})
				}
			}
		}
	})
	src := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		write(t, filepath.Join(src, name), []byte(name), 0o644)
	}
	err := pushTo(t, me, url, src, files.PushOptions{StallTimeout: 200 * time.Millisecond})
	if !errors.Is(err, files.ErrStalled) {
		t.Error(err)
	}
}

func TestNothingToPushSpeaksToThePeerAllTheSame(t *testing.T) {
	b := newBench(t, files.Config{})
	empty, odd := t.TempDir(), t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(odd, "link")); err != nil {
		t.Fatal(err)
	}
	gone := b.url[:len(b.url)-26] + circuit.NewID().String()
	for why, src := range map[string]string{"empty": empty, "all is skipped": odd} {
		if r := b.push(t, src, files.PushOptions{}); r.Files+r.Dirs+len(r.Failed) != 0 {
			t.Errorf("%s: %+v", why, r)
		}
		if _, ok := errors.AsType[*circuit.RefusedError](pushTo(t, b.me, gone, src, files.PushOptions{})); !ok {
			t.Errorf("%s: a peer that is not there was not missed", why)
		}
		r := b.push(t, src, files.PushOptions{Into: "into/" + why})
		info, err := os.Stat(filepath.Join(b.dir, "into", why))
		if err != nil || !info.IsDir() || r.Dirs != 0 {
			t.Errorf("%s: the directory to put everything in: %v, %v, %+v", why, info, err, r)
		}
	}
}

func TestIntoKeepsTheModeOfADirectory(t *testing.T) {
	b := newBench(t, files.Config{})
	if err := os.Mkdir(filepath.Join(b.dir, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.push(t, t.TempDir(), files.PushOptions{Into: "private"})
	if info, err := os.Stat(filepath.Join(b.dir, "private")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestWhatIsNamedMustBeAFileOrADirectory(t *testing.T) {
	b := newBench(t, files.Config{})
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("file"), []byte("f"), 0o644)
	write(t, at(".ckt-x.part"), []byte("f"), 0o644)
	err := errors.Join(
		os.Symlink("file", at("link")),
		os.Symlink(".", at("link-to-dir")),
		syscall.Mkfifo(at("pipe"), 0o644),
	)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at("socket"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, kind := range map[string]string{
		at("link"): "symbolic link", at("link-to-dir"): "symbolic link", at("pipe"): "pipe", at("socket"): "socket",
		os.DevNull: "device", at(".ckt-x.part"): "not received whole",
	} {
		err := pushTo(t, b.me, b.url, path, files.PushOptions{})
		e, ok := errors.AsType[*files.SourceError](err)
		if !ok || e.Path != path || !strings.Contains(err.Error(), kind) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := pushTo(t, b.me, b.url, at("missing"), files.PushOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// A terminal must not obey what a name or the other side says.
func TestErrorsQuoteForeignText(t *testing.T) {
	const foreign = "a\x1b[2Jb\nc"
	for _, err := range []error{
		&files.RemoteError{Code: foreign, Reason: foreign},
		&files.FileError{Path: foreign, Err: files.ErrChanged},
		&files.PathError{Path: foreign},
		&files.SourceError{Path: foreign},
	} {
		if strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%T: %q", err, err)
		}
	}
}

func TestServiceSweepsWhenItStarts(t *testing.T) {
	dir := t.TempDir()
	const name = ".ckt-t0-AAAAAAAAAAAAAAAAAAAAAAAAAA.part" // of January 1970
	write(t, filepath.Join(dir, name), []byte("half"), 0o600)
	if err := os.Chtimes(filepath.Join(dir, name), time.Unix(0, 0), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	newBench(t, files.Config{Dir: dir})
	eventually(t, "the old file is gone", func() bool { return count(dir) == 0 })
}
