package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

func revokeCmd(a *app) *cobra.Command {
	var comment string
	cmd := &cobra.Command{
		Use:   "revoke NODE-OR-KEY",
		Short: "Never believe a key again",
		Long: `Append a key to revoked_peers. This machine's nodes do not let it in any more,
and do not dial it, whatever authorized_peers, a URL, known_peers or a statement
about a new key say. A running "peerctl serve" closes the connections that it
has within some 5 s, and needs no restart. NODE-OR-KEY is a node ID, a node's
URL, a .pub file, or a line "ssh-ed25519 AAAA…".

It holds where the file is: copy the line to other machines, or run this there.
To take it back, delete the line.`,
		Example: "  peerctl revoke laptop.pub --comment 'stolen in May'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.revoke(strings.Join(args, " "), comment)
		},
	}
	cmd.Flags().StringVar(&comment, "comment", "", "a `TEXT` that says why")
	return cmd
}

func (a *app) revoke(who, comment string) error {
	id, known, err := identify(who)
	if err != nil {
		return err
	}
	if comment == "" {
		comment = known
	}
	path, err := a.revokedPath()
	if err != nil {
		return err
	}
	f, err := trust.OpenRevoked(path, nil)
	if err != nil {
		return err
	}
	if err := f.Add(id, comment); err != nil {
		return err
	}
	if own, err := a.keyPath(); err == nil {
		if mine, err := identity.ReadPublic(own); err == nil && mine == id {
			a.say("that is the key of this node, which does not start with it any more: give it another one, peerctl keygen --out FILE")
		}
	}
	return a.print(revokeResult{ID: id.String(), File: path})
}

// revokedAt is the FILE:LINE that revokes a key, or the FILE that cannot be
// used, so that all keys count as revoked; "": the key is not revoked.
func (a *app) revokedAt(id identity.NodeID) string {
	path, err := a.revokedPath()
	if err != nil {
		return "" // without a directory for it there is no list
	}
	f, err := trust.OpenRevoked(path, nil)
	if err != nil {
		return path
	}
	switch e, ok := errors.AsType[*trust.RevokedError](f.Check(id)); {
	case !ok:
		return ""
	case e.Line == 0:
		return e.Path
	default:
		return fmt.Sprintf("%s:%d", e.Path, e.Line)
	}
}

// warnRevoked says that a key is refused whatever was written of it just now.
func (a *app) warnRevoked(where string) {
	if where != "" {
		a.say("warning: the key is refused all the same, because of %s: mend that if it is a mistake", where)
	}
}

type revokeResult struct {
	ID   string `json:"id"`
	File string `json:"file"`
}

func (r revokeResult) text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s is not believed here any more (%s)\n", r.ID, plain(r.File))
	return err
}
