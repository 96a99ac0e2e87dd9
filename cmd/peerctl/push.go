package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ckt.local/peer/files"
	"ckt.local/transport"
)

const pushHelp = `Stream the file, or what is in the directory, at PATH to the files peer at
PEERURL, one circuit per file, several at once. Each file is verified end to
end with BLAKE3 and appears there only when it is whole. Files keep their
permission bits and modification times.

Symbolic links, devices, pipes and sockets below PATH are skipped, and said so;
PATH itself must be a file or a directory. A file that fails does not stop the
others: each is named, and the exit code is 1, or 3 if all of them met a limit of
the other node. Before that such a file is tried again as long as any file has
moved within 30 s. A receiver that takes nothing for --timeout ends the push.

When the connection is lost, the push waits for another one for --linger, and
what was under way is sent again. stderr says when that begins and when it is
over. A --timeout below 6s ends the push before the loss is noticed.`

func pushCmd(a *app) *cobra.Command {
	var opts files.PushOptions
	cmd := &cobra.Command{
		Use:     "push PATH PEERURL",
		Short:   "Stream a file or a directory tree to a files peer",
		Long:    pushHelp,
		Example: "  inbox=$(peerctl start-remote-peer files build7:4242)\n  peerctl push ./photos $inbox --into photos",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.Parallel < 1 {
				return usagef("--parallel must be at least 1")
			}
			return a.push(cmd.Context(), args[0], args[1], opts)
		},
	}
	cmd.Flags().IntVar(&opts.Parallel, "parallel", 8, "how many files are under way at once")
	a.lingerFlag(cmd)
	cmd.Flags().StringVar(&opts.Into, "into", "", "the `SUBDIR` of the receiver's directory to put everything in")
	return cmd
}

func (a *app) push(ctx context.Context, path, peerURL string, opts files.PushOptions) error {
	if err := a.aim(peerURL); err != nil {
		return err
	}
	s, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	opts.OpenTimeout, opts.StallTimeout, opts.Linger = a.timeout, a.timeout, a.lingerOption()
	m := a.newMeter(1) // the scan tells
	if m != nil {
		opts.Progress = func(p files.Progress) { m.update(p.Bytes, p.TotalBytes) }
	}
	out := a.watchOutages(ctx, m)
	opts.Opened, opts.Waiting = out.follow, out.waits
	report, err := files.Push(ctx, s.me, peerURL, path, opts)
	out.close()
	m.close()
	if e, ok := errors.AsType[*files.PathError](err); ok {
		return &usageError{err: e} // --into is no path
	}
	return a.reportPush(report, err)
}

// reportPush tells how a push went. A line on stdout means that all went well.
func (a *app) reportPush(report files.Report, err error) error {
	done, failed := report.Files+report.Dirs, len(report.Failed)
	if err == nil || done+failed > 0 {
		a.warnSkipped(report.Skipped)
	}
	for _, f := range report.Failed {
		a.say("peerctl: %s: %s", f.Path, failure(f))
	}
	if err == nil && failed == 0 || a.asJSON && done+failed > 0 {
		if e := a.print(newPushResult(report)); err == nil {
			err = e
		}
	}
	if err == nil && failed > 0 {
		err = a.notPushed(report.Failed, failed+done)
	}
	return err
}

// notPushed has the hint of the first limit of the other node that a file has
// met: what else went wrong, its own line tells.
func (a *app) notPushed(failed []*files.FileError, all int) error {
	err := fmt.Errorf("not pushed: %d of %d files and directories", len(failed), all)
	var first *transport.LimitError
	limited := 0
	for _, f := range failed {
		if e, ok := errors.AsType[*transport.LimitError](f.Err); ok && e.Remote {
			limited++
			first = cmp.Or(first, e)
		}
	}
	if first == nil {
		return err
	}
	if limited == len(failed) {
		err = &refusedPush{err}
	}
	return advise(err, "push fewer files at a time, with a smaller --parallel; %s", a.atLimit(first))
}

// A refusedPush is one in which nothing but limits of the other node was in
// the way.
type refusedPush struct{ error }

// failure is why a file was not pushed, with the receiver's words as such.
func failure(f *files.FileError) string {
	if e, ok := errors.AsType[*files.RemoteError](f.Err); ok {
		return receiverSays(e)
	}
	return f.Err.Error()
}

func receiverSays(e *files.RemoteError) string {
	return fmt.Sprintf("the receiver says %s: %s", plain(string(e.Code)), plain(e.Reason))
}

// warnSkipped names the first few of what was left out.
func (a *app) warnSkipped(paths []string) {
	const most = 10
	if len(paths) == 0 {
		return
	}
	var names []string
	for _, p := range paths[:min(len(paths), most)] {
		names = append(names, plain(p))
	}
	if len(paths) > most {
		names = append(names, "…")
	}
	a.say("skipped what is no regular file, %d in all: %s", len(paths), strings.Join(names, ", "))
}

type pushResult struct {
	Files   int        `json:"files"`
	Dirs    int        `json:"dirs"`
	Bytes   int64      `json:"bytes"`
	Seconds float64    `json:"seconds"`
	Skipped []string   `json:"skipped"`
	Failed  []pushFail `json:"failed"`
}

type pushFail struct {
	Path    string `json:"path"`
	Code    string `json:"code,omitempty"` // the receiver's; see files.Code
	Message string `json:"message"`
}

func newPushResult(r files.Report) pushResult {
	res := pushResult{
		Files: r.Files, Dirs: r.Dirs, Bytes: r.Bytes, Seconds: r.Elapsed.Seconds(),
		Skipped: r.Skipped, Failed: []pushFail{},
	}
	if res.Skipped == nil {
		res.Skipped = []string{}
	}
	for _, f := range r.Failed {
		fail := pushFail{Path: f.Path, Message: failure(f)}
		if e, ok := errors.AsType[*files.RemoteError](f.Err); ok {
			fail.Code = string(e.Code)
		}
		res.Failed = append(res.Failed, fail)
	}
	return res
}

func (r pushResult) text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s, %s, %.2f s\n", number(r.Files, "file"), number(r.Bytes, "byte"), r.Seconds)
	return err
}
