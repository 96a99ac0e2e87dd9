package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ckt.local/transport/identity"
)

const rootHelp = `peerctl runs nodes, starts peers on them, and streams data over circuits.

Nodes know one another by key. The first command that needs a key makes one, in
the user's configuration directory; a --key FILE must be there. A node trusts
its own key, so a copy of the key file makes all machines of one person trust
one another; other keys are listed in authorized_peers, see "peerctl authorize".
Which key was found at which address is noted, see "peerctl known".

An ADDR is HOST:PORT, or a node's URL as "peerctl serve" prints it: the URL
pins the node's key, so nobody else can answer in its place.

A key with a passphrase is used from a running ssh-agent that holds it, or
opened with $CKT_PASSPHRASE, or with what is typed on the terminal.

Exit codes:
  0  done
  1  failed, or interrupted
  2  wrong usage, a malformed URL included
  3  refused or not authorised, by the other node or by this one; also when
     another node than the one in the URL answers, or another key than before
     at an address; when a key is not known, or revoked; when one side lacks
     the pre-shared key; and at a limit of the other node
  4  unreachable, timed out, or lost on the way, also because the other node
     has restarted

With --json, results are JSON on stdout, and an error is one object on stderr:
{"error":{"code":…,"exit":…,"message":…,"hint":…}}
What happens before is an object each on stderr, too:
{"event":{"code":…,"message":…}}`

// app is one run of the program. The goroutine that runs the command owns it.
type app struct {
	ctx            context.Context // of the command; ends with an interrupt
	stdin          *os.File
	stdout, stderr *os.File
	args           []string // as they were given, for hints

	keyFile    string
	authorized string
	trust      trustFiles
	asJSON     bool
	timeout    time.Duration
	linger     time.Duration // of the commands that have the flag, and its default for the others

	running bool            // the arguments were understood: what fails now is no usage error
	self    identity.NodeID // who we are, once the key is loaded
	service string          // what the command wants of the other node, for hints; "": only to connect
	deed    string          // what it wants to do there, if not to use service; for messages
	addr    string          // where, for hints
	host    string          // the same in short, for messages
	named   bool            // it wants one peer, and not any of the service
	unacked int             // fragments that the other side had not acknowledged at an interrupt, if it was away
	urlHint string          // what to give instead of a malformed address; "": an ADDR
}

// run is the program. It returns the exit code.
func run(args []string) int {
	// A closed pipe behind stdout is an error of write, not the end.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := withSignals()
	defer stop()
	a := &app{ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, args: args}
	cmd := newRoot(a)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if slices.Contains(args, "--json") {
		a.asJSON = true // also if the arguments were not read that far
	}
	return a.exit(ctx, err)
}

// withSignals returns the context that every command obeys. The first
// interrupt ends it, and the command cleans up; the second ends the process.
func withSignals() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	keep := context.AfterFunc(ctx, func() {
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		<-again
		os.Exit(exitFailed)
	})
	return ctx, func() {
		keep()
		stop()
	}
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "peerctl",
		Short:         "Run nodes, start peers, stream data and files over circuits",
		Long:          rootHelp,
		Example:       "  peerctl demo\n  peerctl serve --dir /srv/inbox",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.running = true
			return a.checkFlags(cmd)
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return badFlag(err) })
	flags := root.PersistentFlags()
	flags.StringVar(&a.keyFile, "key", "", "the node's key `FILE` (default "+shown("id_ed25519")+")")
	flags.StringVar(&a.authorized, "authorized", "", "who may do what here: `FILE` (default "+shown("authorized_peers")+")")
	a.trust.flags(root)
	flags.BoolVar(&a.asJSON, "json", false, "print results and errors as JSON")
	flags.DurationVar(&a.timeout, "timeout", 10*time.Second, "how long to wait for another node's answer")
	root.AddCommand(
		keygenCmd(a), idCmd(a), authorizeCmd(a), deauthorizeCmd(a), knownCmd(a), revokeCmd(a), rotateCmd(a),
		serveCmd(a), startCmd(a), stopCmd(a), sendCmd(a), pushCmd(a),
		lsCmd(a), pingCmd(a), demoCmd(a), demoNodeCmd(a), versionCmd(a),
	)
	return root
}

// badFlag says of a value that a flag does not take what it does, and not why
// the reading of it has failed.
func badFlag(err error) error {
	e, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	wants := map[string]string{
		"bool":        "true or false",
		"duration":    "a time such as 10s or 2m",
		"int":         "a whole number",
		"stringSlice": "a list with commas between, without quotes and line ends",
	}[e.GetFlag().Value.Type()]
	if wants == "" {
		return err
	}
	return usagef("--%s takes %s, not %.80q", e.GetFlag().Name, wants, e.GetValue())
}

// checkFlags refuses what no command can mean. An empty file name is most
// often a variable that is not set.
func (a *app) checkFlags(cmd *cobra.Command) error {
	if a.timeout <= 0 {
		return usagef("--timeout must be more than 0, not %v", a.timeout)
	}
	if a.linger < 0 || a.linger > longestLinger {
		return usagef("--linger must be between 0 and %v, not %v", longestLinger, a.linger)
	}
	for _, name := range []string{"key", "authorized", "psk", "revoked", "known", "rotation", "audit", "limits"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed && f.Value.String() == "" {
			return usagef("--%s needs a FILE", name)
		}
	}
	return a.trust.check()
}

// lingerFlag gives cmd the flag --linger.
func (a *app) lingerFlag(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&a.linger, "linger", defaultLinger,
		"how long to wait for a lost connection; the shorter one of both sides holds; 0: not at all; at most 24h")
}

// shown is the default path of a file for the help.
func shown(name string) string {
	path, err := inConfig(name)
	if err != nil {
		return "ckt/" + name + " in the configuration directory"
	}
	return path
}

func inConfig(name string) (string, error) {
	dir, err := identity.DefaultDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}

// keyPath is the key file of this run.
func (a *app) keyPath() (string, error) {
	return orInConfig(a.keyFile, "id_ed25519")
}

// authorizedPath is the authorized_peers file of this run.
func (a *app) authorizedPath() (string, error) {
	return orInConfig(a.authorized, "authorized_peers")
}
