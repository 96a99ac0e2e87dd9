package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ckt.local/cmd/internal/node"
	"ckt.local/peer"
	"ckt.local/peer/echo"
	"ckt.local/peer/files"
	"ckt.local/transport/identity"
)

const demoHelp = `Show the main job on DIR (default: the current directory): two nodes in two
processes, the same services registered on both. The first starts a files peer
on the second, streams DIR to it over circuits, and compares the two trees file
by file. Then the second starts a peer on the first, over the connection that
the first has dialled, and calls it.

It needs nothing and leaves nothing: keys, ports and the copy are temporary.
The copy goes to $TMPDIR, which needs room for it.`

func demoCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "demo [DIR]",
		Short:   "Show the main job, with two nodes in two processes",
		Long:    demoHelp,
		Example: "  peerctl demo\n  peerctl demo \"$(go env GOROOT)/src\"",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return a.demo(cmd.Context(), dir)
		},
	}
}

// demo owns the temporary directory.
func (a *app) demo(ctx context.Context, dir string) (err error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usagef("%s is no directory", dir)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err // a push does not follow links
	}
	temp, err := os.MkdirTemp("", "peerctl-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if inside(temp, dir) {
		return usagef("the copy would go to %s, inside %s: set TMPDIR to somewhere else", temp, dir)
	}
	d := &demo{app: a, dir: dir, received: filepath.Join(temp, "b"), own: filepath.Join(temp, "a"), start: time.Now()}
	if err := errors.Join(os.Mkdir(d.received, 0o777), os.Mkdir(d.own, 0o777)); err != nil {
		return err
	}
	return d.run(ctx, filepath.Join(temp, "key-b"))
}

// inside tells whether path lies in dir. Both exist.
func inside(path, dir string) bool {
	path, errP := filepath.EvalSymlinks(path)
	dir, errD := filepath.EvalSymlinks(dir)
	if errP != nil || errD != nil {
		return false
	}
	path, errP = filepath.Abs(path)
	dir, errD = filepath.Abs(dir)
	rel, err := filepath.Rel(dir, path)
	return errors.Join(errP, errD, err) == nil && filepath.IsLocal(rel)
}

// A demo is one run of the command.
type demo struct {
	app      *app
	dir      string // what is streamed
	received string // where it goes to: what B's files service receives into
	own      string // what A's files service would receive into
	start    time.Time
	step     int

	a     *peer.Node // in this process
	me    *peer.LocalPeer
	other *demoChild // the second process, with node b
}

func (d *demo) tell(format string, args ...any) error {
	if d.app.asJSON {
		return nil
	}
	d.step++
	_, err := fmt.Fprintf(d.app.stdout, "%d. "+format+"\n", append([]any{d.step}, allPlain(args)...)...)
	return err
}

// run owns both nodes.
func (d *demo) run(ctx context.Context, keyFile string) (err error) {
	keyA, errA := identity.Generate()
	keyB, errB := identity.Generate()
	if err := errors.Join(errA, errB, identity.WriteKeyFile(keyFile, keyB, nil, "peerctl demo")); err != nil {
		return err
	}
	d.a, err = node.New(node.Config{
		Listen: "127.0.0.1:0", Identity: keyA, Allow: []identity.NodeID{keyB.ID()},
		Services: node.Names(), Dir: d.own,
	})
	if err != nil {
		return err
	}
	defer d.a.Close()
	if err := d.a.PeerAPI.RegisterPeerServiceFunc(clientService, turnAway); err != nil {
		return err
	}
	if d.me, err = d.a.PeerAPI.StartLocalPeer(ctx, clientService); err != nil {
		return err
	}
	d.other, err = startDemoChild(ctx, d.app, keyFile, keyA.ID(), d.received)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.other.close()) }()
	return d.show(ctx)
}

// show is the story itself.
func (d *demo) show(ctx context.Context) error {
	err := d.tell("Two nodes that trust one another's keys, with the services %s registered on both.\n"+
		"   A is this process, %d: %s\n   B is process %d: %s",
		strings.Join(node.Names(), " and "), os.Getpid(), d.a.URL(), d.other.pid(), d.other.url)
	if err != nil {
		return err
	}
	url, _, err := d.a.PeerAPI.StartRemotePeer(ctx, files.Name, d.other.url, d.app.timeout)
	if err != nil {
		return err
	}
	if err := d.tell("A has started a peer of %q on B: %s", files.Name, url); err != nil {
		return err
	}
	report, err := d.stream(ctx, url)
	if err != nil {
		return err
	}
	same, err := files.Compare(ctx, d.dir, d.received)
	if err != nil {
		return err
	}
	different := differences(report, same)
	if err := d.tell("Compared with the copy, file by file: %s, %s, %s.",
		number(same.Files, "file"), number(same.Dirs, "directory"), number(len(different), "difference")); err != nil {
		return err
	}
	back, err := d.other.callBack(d.a.ID())
	if err != nil {
		return err
	}
	if err := d.tell("The other way round: B has started a peer of %q on A, over the same connection,\n"+
		"   and got %s back from it in %.2f ms: %s", echo.Name, number(back.Bytes, "byte"), back.Millis, back.Peer); err != nil {
		return err
	}
	return d.finish(same, different, len(report.Skipped))
}

func (d *demo) stream(ctx context.Context, url string) (files.Report, error) {
	opts := files.PushOptions{OpenTimeout: d.app.timeout}
	m := d.app.newMeter(1) // the scan tells
	if m != nil {
		opts.Progress = func(p files.Progress) { m.update(p.Bytes, p.TotalBytes) }
	}
	report, err := files.Push(ctx, d.me, url, d.dir, opts)
	m.close()
	if err != nil {
		return report, err
	}
	d.app.warnSkipped(report.Skipped)
	rate := float64(report.Bytes) / max(report.Elapsed.Seconds(), 1e-9)
	return report, d.tell("A has streamed %s to it, a circuit for each file: %s, %s in %.2f s (%s/s).",
		d.dir, number(report.Files, "file"), size(report.Bytes), report.Elapsed.Seconds(), size(int64(rate)))
}

// differences lists each path once that is not there as it is here: what was
// not pushed is missing in the copy, too.
func differences(report files.Report, same files.Comparison) []string {
	lines := []string{}
	failed := make(map[string]bool, len(report.Failed))
	for _, f := range report.Failed {
		failed[f.Path] = true
		lines = append(lines, f.Path+": "+failure(f))
	}
	for _, d := range same.Different {
		if !failed[d.Path] {
			lines = append(lines, d.Path+": "+d.What)
		}
	}
	slices.Sort(lines)
	return lines
}

// finish says how it ended, and fails unless everything is the same.
func (d *demo) finish(same files.Comparison, different []string, skipped int) error {
	err := d.app.print(demoResult{
		Files: same.Files, Dirs: same.Dirs, Bytes: same.Bytes, Seconds: time.Since(d.start).Seconds(),
		Equal: len(different) == 0, Different: different, Skipped: skipped,
	})
	if err == nil && len(different) > 0 {
		err = errors.New(number(len(different), "difference"))
	}
	return err
}

type demoResult struct {
	Files     int      `json:"files"`
	Dirs      int      `json:"dirs"`
	Bytes     int64    `json:"bytes"`
	Seconds   float64  `json:"seconds"`
	Equal     bool     `json:"equal"`
	Different []string `json:"different"`
	Skipped   int      `json:"skipped"`
}

func (r demoResult) text(w io.Writer) error {
	how := "all equal"
	if !r.Equal {
		how = "NOT equal:"
		for _, line := range r.Different {
			how += "\n  " + plain(line)
		}
	}
	_, err := fmt.Fprintf(w, "%s, %s, %.2f s: %s\n", number(r.Files, "file"), number(r.Bytes, "byte"), r.Seconds, how)
	return err
}
