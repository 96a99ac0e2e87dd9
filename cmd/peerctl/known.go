package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ckt.local/peer"
	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

const knownHelp = `A node at a bare HOST:PORT is whoever answers there. Which key that was is noted
in known_peers, after the manner of OpenSSH's known_hosts, and another key there
later is refused. What happens when nothing is noted yet, --trust says:

  ask    ask on the terminal (the default); where there is none, refuse
  new    note it, and go on
  known  refuse it

A key that is this node's own, or is in authorized_peers, is noted without
asking. A URL has the key in it, and needs none of this.`

func knownCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "known",
		Short:   "See and change which key is known at which address",
		Long:    knownHelp,
		Example: "  peerctl known list\n  peerctl known add build7:4242 NODE\n  peerctl known forget build7:4242",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return usagef("what is to be done: list, add, or forget?") },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:     "list",
			Short:   "List the keys that are known",
			Long:    "List the keys that are known, and the addresses where they were found.",
			Example: "  peerctl known list --json",
			Args:    cobra.NoArgs,
			RunE:    func(*cobra.Command, []string) error { return a.knownList() },
		},
		&cobra.Command{
			Use:   "add ADDR NODE-OR-KEY",
			Short: "Trust a key at an address",
			Long: `Note that the node at ADDR, a HOST:PORT, has a certain key: a node ID, a node's
URL, a .pub file or a line "ssh-ed25519 AAAA…". Where another key is noted, that
has to be forgotten first.`,
			Example: "  peerctl known add build7:4242 build7.pub",
			Args:    cobra.MinimumNArgs(2),
			RunE:    func(_ *cobra.Command, args []string) error { return a.knownAdd(args[0], strings.Join(args[1:], " ")) },
		},
		&cobra.Command{
			Use:     "forget ADDR",
			Short:   "Forget which key is known at an address",
			Long:    "Forget which key is known at ADDR. Lines with @revoked stay.",
			Example: "  peerctl known forget build7:4242",
			Args:    cobra.ExactArgs(1),
			RunE:    func(_ *cobra.Command, args []string) error { return a.knownForget(args[0]) },
		},
	)
	return cmd
}

func (a *app) openKnown() (*trust.KnownFile, string, error) {
	path, err := a.knownPath()
	if err != nil {
		return nil, "", err
	}
	f, err := trust.OpenKnown(path, nil)
	return f, path, err
}

// dialled is the host:port of an argument, in the form in which it is noted.
func dialled(addr string) (string, error) {
	text := addr
	if !strings.HasPrefix(addr, "ckt://") {
		text = fmt.Sprintf("ckt://%v@%s", identity.NodeID{1}, addr) // any node: the address is what is wanted
	}
	u, err := peer.ParseURL(text)
	if err != nil || u.Addr == "" || text != addr && strings.ContainsAny(addr, "/@") {
		return "", usagef("%.80q is no HOST:PORT", addr)
	}
	return u.Addr, nil
}

func (a *app) knownList() error {
	f, path, err := a.openKnown()
	if err != nil {
		return err
	}
	lines, err := f.List()
	if err != nil {
		return err
	}
	r := knownResult{File: path, Known: []knownLine{}}
	for _, l := range lines {
		r.Known = append(r.Known, knownLine{ID: l.ID.String(), Addrs: l.Addrs, Comment: l.Comment, Revoked: l.Revoked, Line: l.Line})
	}
	return a.print(r)
}

type knownResult struct {
	File  string      `json:"file"`
	Known []knownLine `json:"known"`
}

type knownLine struct {
	ID      string   `json:"id"`
	Addrs   []string `json:"addrs"`
	Revoked bool     `json:"revoked"`
	Comment string   `json:"comment,omitempty"`
	Line    int      `json:"line"`
}

func (r knownResult) text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, l := range r.Known {
		if i == 0 {
			fmt.Fprintln(t, "NODE\tADDRESSES\tCOMMENT")
		}
		comment := l.Comment
		if l.Revoked {
			comment = strings.TrimSpace("(revoked) " + comment)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", l.ID, plain(strings.Join(l.Addrs, ",")), plain(comment))
	}
	return t.Flush()
}

func (a *app) knownAdd(addr, who string) error {
	addr, err := dialled(addr)
	if err != nil {
		return err
	}
	id, _, err := identify(who)
	if err != nil {
		return err
	}
	f, path, err := a.openKnown()
	if err != nil {
		return err
	}
	err = f.Add(addr, id)
	if e, ok := errors.AsType[*trust.ChangedKeyError](err); ok {
		return advise(kindf(fs.ErrExist, "there is an entry for %s already: the key of %v is known there (%s:%d)", addr, e.Known, e.Path, e.Line),
			"if the node has a new one: peerctl known forget %s", addr)
	}
	if err != nil {
		return err
	}
	revoked := a.revokedAt(id)
	a.warnRevoked(revoked)
	return a.print(knownChange{Addr: addr, ID: id.String(), File: path, Revoked: revoked})
}

func (a *app) knownForget(addr string) error {
	addr, err := dialled(addr)
	if err != nil {
		return err
	}
	f, path, err := a.openKnown()
	if err != nil {
		return err
	}
	n, err := f.Remove(addr)
	if err != nil {
		return err
	}
	if n == 0 {
		return advise(kindf(fs.ErrNotExist, "there is no entry to forget: no key is known at %s (%s)", addr, path), "peerctl known list shows what is known")
	}
	return a.print(knownChange{Addr: addr, File: path})
}

// A knownChange is an address that is known or, without an ID, not any more.
type knownChange struct {
	Addr string `json:"addr"`
	ID   string `json:"id,omitempty"`
	File string `json:"file"`

	Revoked string `json:"revoked,omitempty"` // the FILE:LINE by which the key is refused all the same
}

func (r knownChange) text(w io.Writer) (err error) {
	if r.ID == "" {
		_, err = fmt.Fprintf(w, "no key is known at %s any more (%s)\n", plain(r.Addr), plain(r.File))
	} else {
		_, err = fmt.Fprintf(w, "the node at %s is %s (%s)\n", plain(r.Addr), r.ID, plain(r.File))
	}
	return err
}
