package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ckt.local/peer"
	"ckt.local/transport/identity"
)

func authorizeCmd(a *app) *cobra.Command {
	var grant grant
	cmd := &cobra.Command{
		Use:   "authorize NODE-OR-KEY [--services a,b] [--start a] [--from ADDRS] [--expires WHEN] [--max-circuits N] [--rate N]",
		Short: "Let another node in",
		Long: `Append a line to authorized_peers that lets a node use the named services here,
or all of them without --services. NODE-OR-KEY is a node ID, a node's URL, a
.pub file, or a line "ssh-ed25519 AAAA… comment", quoted or not. The file is
read again for each request: a running "peerctl serve" needs no restart.

A node that may use a service may also start peers of it, unless --start says
which, or none of them (--start ''). --from takes IP addresses, CIDR blocks and
patterns with * and ?, "!" before one denies it. --expires takes YYYYMMDD,
YYYYMMDDHHMM or YYYYMMDDHHMMSS in local time, or in UTC with a Z behind.
--max-circuits is how many circuits the node may have open here, --rate how many
openings and starts it may ask for in a second.

A node that is listed several times may do what any of its lines allows.`,
		Example: "  peerctl authorize laptop.pub --services echo,files\n" +
			"  peerctl authorize laptop.pub --services files --start '' --from 192.0.2.0/24 --expires 20271231\n" +
			"  peerctl authorize ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB… me@laptop",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := grant.check(cmd.Flags()); err != nil {
				return err
			}
			return a.authorize(strings.Join(args, " "), grant)
		},
	}
	grant.flags(cmd.Flags())
	return cmd
}

func (a *app) authorize(who string, grant grant) error {
	id, comment, err := identify(who)
	if err != nil {
		return err
	}
	entry, err := grant.entry(id, comment)
	if err != nil {
		return err
	}
	path, err := a.authorizedPath()
	if err != nil {
		return err
	}
	if err := identity.AppendAuthorized(path, entry); err != nil {
		return err
	}
	return a.print(authorizeResult{
		ID: entry.ID.String(), Services: entry.Services, Start: entry.Start, From: entry.From, Expires: entry.Expires,
		MaxCircuits: entry.MaxCircuits, Rate: entry.Rate, File: path,
	})
}

// identify finds out whom the user means.
func identify(who string) (identity.NodeID, string, error) {
	if id, err := identity.ParseNodeID(who); err == nil {
		return id, "", nil
	}
	if strings.HasPrefix(who, "ckt://") {
		u, err := peer.ParseURL(who)
		return u.Node, "", err
	}
	if strings.HasPrefix(who, "ssh-") {
		id, comment, err := identity.ParsePublicLine(who)
		if err != nil {
			err = &usageError{err: err}
		}
		return id, comment, err
	}
	if _, err := os.Stat(who); err != nil {
		return identity.NodeID{}, "", usagef("%.80q is no node ID, no key line, and no file", who)
	}
	id, err := identity.ReadPublic(who)
	return id, "", err
}

type authorizeResult struct {
	ID       string   `json:"id"`
	Services []string `json:"services"` // null: all

	// These are there if they were given.
	Start       []string  `json:"start,omitzero"`
	From        []string  `json:"from,omitzero"`
	Expires     time.Time `json:"expires,omitzero"`
	MaxCircuits int       `json:"max_circuits,omitzero"`
	Rate        int       `json:"rate,omitzero"`

	File string `json:"file"`
}

func (r authorizeResult) text(w io.Writer) error {
	what := "every service"
	if r.Services != nil {
		what = strings.Join(r.Services, ", ")
	}
	if r.Start != nil {
		what += ", and start " + cmp.Or(strings.Join(r.Start, ", "), "none of them,")
	}
	what += " here"
	if r.From != nil {
		what += ", from " + strings.Join(r.From, ", ")
	}
	if !r.Expires.IsZero() {
		what += ", until " + r.Expires.Format(time.DateTime+" MST")
	}
	if r.MaxCircuits != 0 {
		what += ", " + number(r.MaxCircuits, "circuit") + " at most"
	}
	if r.Rate != 0 {
		what += ", " + number(r.Rate, "request") + " a second"
	}
	_, err := fmt.Fprintf(w, "%s may use %s (%s)\n", r.ID, what, plain(r.File))
	return err
}
