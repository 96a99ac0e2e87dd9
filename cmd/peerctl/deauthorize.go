package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ckt.local/transport/identity"
)

func deauthorizeCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "deauthorize NODE-OR-KEY",
		Short: "Let another node in no more",
		Long: `Take every line of a key off authorized_peers. What it asks for next is refused,
without a restart; connections and circuits that it has go on until they end.
"peerctl revoke" ends those, too, and is what to do about a stolen key.

NODE-OR-KEY is a node ID, a node's URL, a .pub file, or a line
"ssh-ed25519 AAAA…". A key that takes another one's place, see "peerctl rotate",
is let in by the lines of the other one as well. To have a node do less than it
does, and not nothing: peerctl authorize --replace.`,
		Example: "  peerctl deauthorize laptop.pub",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.deauthorize(strings.Join(args, " "))
		},
	}
}

func (a *app) deauthorize(who string) error {
	id, _, err := identify(who)
	if err != nil {
		return err
	}
	f, path, err := a.openAuthorized()
	if err != nil {
		return err
	}
	lines := 0
	err = f.Change(id, func(all []identity.Entry) ([]identity.Entry, error) {
		lines = len(linesOf(all, id))
		if lines == 0 {
			return nil, &notListedError{id: id, path: path}
		}
		return nil, nil
	})
	if err != nil {
		return err
	}
	revoked := a.revokedAt(id)
	if err := a.print(deauthorizeResult{ID: id.String(), Lines: lines, File: path, Revoked: revoked}); err != nil {
		return err
	}
	if revoked != "" {
		a.say("the key was refused before, and is, because of %s", revoked)
		return nil
	}
	if own, err := a.keyPath(); err == nil {
		if mine, err := identity.ReadPublic(own); err == nil && mine == id {
			a.say("that is the key of this node, which it trusts without a line")
			return nil
		}
	}
	a.say("connections and circuits that it has go on until they end; to end them, and never let it in again: peerctl revoke %v", id)
	return nil
}

type deauthorizeResult struct {
	ID    string `json:"id"`
	Lines int    `json:"lines"` // that it had
	File  string `json:"file"`

	Revoked string `json:"revoked,omitempty"` // the FILE:LINE by which it was refused before
}

func (r deauthorizeResult) text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s is not listed here any more: %s taken off (%s)\n", r.ID, number(r.Lines, "line"), plain(r.File))
	return err
}
