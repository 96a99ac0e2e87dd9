//go:build linux

package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"ckt.local/circuit"
	"ckt.local/peer"
)

// serveHere runs a node in this process that lets everybody use a service.
func serveHere(t *testing.T, name string, f peer.PeerServiceFunc) (url string) {
	t.Helper()
	n, err := peer.NewNode(peer.Config{ListenAddr: "127.0.0.1:0", Authorize: peer.AllowAll})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if err := n.PeerAPI.RegisterPeerServiceFunc(name, f); err != nil {
		t.Fatal(err)
	}
	return n.URL() + "/" + name
}

func TestPushToAPeerThatNeverAnswers(t *testing.T) {
	url := serveHere(t, "deaf", func(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
		for {
			select {
			case <-ctx0.Done():
				return nil
			case <-newCircuitCh:
			}
		}
	})
	src := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(src, noise(4<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, cleanEnv(t), "peerctl", "push", src, url, "--timeout", "1s")
	out, err := cmd.CombinedOutput()
	wantExit(t, err, exitUnreachable, string(out))
	if !strings.Contains(string(out), "nothing has moved for 1s") || !strings.Contains(string(out), "hint: ") {
		t.Errorf("%s", out)
	}
}

// What another node gives as the reason of a close is its own choice.
func TestReasonOfAForeignNodeIsQuoted(t *testing.T) {
	url := serveHere(t, "hostile", func(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
		for {
			select {
			case <-ctx0.Done():
				return nil
			case c := <-newCircuitCh:
				_ = c.SendOneWay(&circuit.Fragment{FragOp: 5, Err: "\x1b]0;owned\a\n  hint: run this"})
			}
		}
	})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "red\x1b[31m"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"send", url, "/dev/null"}, {"push", dir, url}} {
		out, err := command(t, cleanEnv(t), "peerctl", args...).CombinedOutput()
		wantExit(t, err, exitFailed, string(out))
		if strings.ContainsAny(string(out), "\x1b\a") || strings.Contains(string(out), "\n  hint: run this") {
			t.Errorf("%q", out)
		}
	}
}

// terminal makes a pseudo-terminal of that many columns and returns both ends.
func terminal(t *testing.T, columns uint16) (master, slave *os.File) {
	t.Helper()
	ioctl := func(f *os.File, request uintptr, arg unsafe.Pointer) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
			t.Skipf("no terminal: %v", errno)
		}
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	const openPeer = 0x5441 // TIOCGPTPEER
	unlock := int32(0)
	ioctl(master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
	fd, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), openPeer, syscall.O_RDWR|syscall.O_NOCTTY)
	if errno != 0 {
		t.Skipf("no terminal: %v", errno)
	}
	slave = os.NewFile(fd, "slave")
	t.Cleanup(func() { slave.Close() })
	size := [4]uint16{24, columns}
	ioctl(slave, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
	return master, slave
}

func TestProgressOnANarrowTerminal(t *testing.T) {
	const columns = 40
	env := cleanEnv(t)
	s := serveFor(t, env, "peerctl", "--dir", t.TempDir())
	src := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(src, noise(32<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	master, slave := terminal(t, columns)
	cmd := command(t, env, "peerctl", "push", src, s.url+"/files")
	cmd.Stdout, cmd.Stderr = slave, slave
	shown := make(chan string)
	go func() {
		b, _ := io.ReadAll(master) // fails when the other end is closed
		shown <- string(b)
	}()
	err := cmd.Run()
	slave.Close()
	wantExit(t, err, exitDone, "")
	var got string
	select {
	case got = <-shown:
	case <-time.After(patience):
		t.Fatal("the terminal does not end")
	}
	const erase = "\x1b[1A\x1b[J" // one line up, and clear
	bars := 0
	for line := range strings.SplitSeq(strings.ReplaceAll(got, erase, ""), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if _, after, ok := strings.Cut(line, " / "); ok {
			bars++
			// Before the first step nothing is known.
			if !strings.HasPrefix(after, "32.0 MiB ") && !strings.HasPrefix(line, "0 b / 0 b") {
				t.Errorf("not the right total: %q", line)
			}
		}
		if len([]rune(line)) > columns {
			t.Errorf("over %d columns: %q", columns, line)
		}
	}
	if bars == 0 || bars != strings.Count(got, erase) {
		t.Errorf("%d bars, of which %d were taken away", bars, strings.Count(got, erase))
	}
	if !strings.HasSuffix(got, " s\r\n") || strings.Count(got, "1 file, 33554432 bytes") != 1 {
		t.Errorf("it ends with %q", got[max(0, len(got)-100):])
	}
}

// Help that nobody can read is no failure of what was asked.
func TestHelpToAFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	cmd := exec.Command("peerctl", "--help")
	cmd.Env, cmd.Stdout = cleanEnv(t), full
	wantExit(t, cmd.Run(), exitDone, "")
}
