package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ckt.local/peer"
	"ckt.local/transport/identity"
)

func authorizeCmd(a *app) *cobra.Command {
	var grant grant
	var how authorizing
	cmd := &cobra.Command{
		Use:   "authorize NODE-OR-KEY [--services a,b] [--start a] [--from ADDRS] [--expires WHEN] [--max-circuits N] [--rate N] [--replace|--add] [--like NODE-OR-KEY]",
		Short: "Let another node in",
		Long: `Write a line to authorized_peers that lets a node use the named services here,
or all of them without --services. NODE-OR-KEY is a node ID, a node's URL, a
.pub file, or a line "ssh-ed25519 AAAA… comment", quoted or not. The file is
read again for each request: a running "peerctl serve" needs no restart.

A node that may use a service may also start peers of it, unless --start says
which, or none of them (--start ''). --from takes IP addresses, CIDR blocks and
patterns with * and ?, "!" before one denies it. --expires takes YYYYMMDD,
YYYYMMDDHHMM or YYYYMMDDHHMMSS in local time, or in UTC with a Z behind.
--max-circuits is how many circuits the node may have open here, --rate how many
openings and starts it may ask for in a second.

A node that is listed several times may do what any of its lines allows. So one
that is listed already is refused here, with its lines, until it is said what is
meant: --replace puts the new line in the place of all that it has, --add writes
one more. If it has that line already, nothing is written.

--like copies the options of each line of another key, or of the same one, but
for those that are given here as well.

To take a node off: peerctl deauthorize.`,
		Example: "  peerctl authorize laptop.pub --services echo,files\n" +
			"  peerctl authorize laptop.pub --services files --start '' --from 192.0.2.0/24 --expires 20271231 --replace\n" +
			"  peerctl authorize laptop.pub --like laptop.pub --max-circuits 100 --replace\n" +
			"  peerctl authorize ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB… me@laptop",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := grant.check(cmd.Flags()); err != nil {
				return err
			}
			switch {
			case how.replace && how.add:
				return usagef("--replace and --add are two things: is it to have the new line instead of those it has, or as well?")
			case how.like == "" && cmd.Flags().Changed("like"):
				return usagef("--like names nobody")
			}
			return a.authorize(strings.Join(args, " "), grant, how)
		},
	}
	grant.flags(cmd.Flags())
	cmd.Flags().BoolVar(&how.replace, "replace", false, "in the place of every line that the key has")
	cmd.Flags().BoolVar(&how.add, "add", false, "besides the lines that the key has")
	cmd.Flags().StringVar(&how.like, "like", "", "copy the options of this `NODE-OR-KEY`'s lines, but for those given here")
	return cmd
}

func (a *app) authorize(who string, grant grant, how authorizing) error {
	id, comment, err := identify(who)
	if err != nil {
		return err
	}
	entry, err := grant.entry(identity.Entry{ID: id, Comment: comment})
	if err != nil {
		return err
	}
	var like identity.NodeID
	if how.like != "" {
		if like, _, err = identify(how.like); err != nil {
			return err
		}
	}
	f, path, err := a.openAuthorized()
	if err != nil {
		return err
	}
	var wanted, has []identity.Entry
	err = f.Change(id, func(all []identity.Entry) (_ []identity.Entry, err error) {
		wanted = []identity.Entry{entry}
		if how.like != "" {
			if wanted, err = grant.like(all, like, entry, path); err != nil {
				return nil, err
			}
		}
		mine := linesOf(all, id)
		if has, err = how.merge(mine, wanted); err != nil {
			err = &listedError{id: id, path: path, lines: mine, again: a.again}
		}
		return has, err
	})
	if err != nil {
		return err
	}
	revoked := a.revokedAt(id)
	a.warnRevoked(revoked)
	r := authorizeResult{ID: id.String(), rights: rightsOf(wanted[0]), File: path, Revoked: revoked}
	for _, e := range has {
		if !sameRights(e, wanted[0]) {
			r.Also = append(r.Also, rightsOf(e))
		}
	}
	return a.print(r)
}

// openAuthorized opens the authorized_peers file of this run, which need not
// be there.
func (a *app) openAuthorized() (*identity.AuthorizedFile, string, error) {
	path, err := a.authorizedPath()
	if err != nil {
		return nil, "", err
	}
	f, err := identity.OpenAuthorizedFile(path, nil)
	return f, path, err
}

// linesOf are the lines of one key.
func linesOf(all []identity.Entry, id identity.NodeID) []identity.Entry {
	return slices.DeleteFunc(slices.Clone(all), func(e identity.Entry) bool { return e.ID != id })
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
	ID string `json:"id"`
	rights
	File string   `json:"file"`
	Also []rights `json:"also,omitempty"` // what its other lines allow

	Revoked string `json:"revoked,omitempty"` // the FILE:LINE by which it is refused all the same
}

func (r authorizeResult) text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s may use %s (%s)\n", r.ID, r.rights, plain(r.File))
	for _, also := range r.Also {
		if err == nil {
			_, err = fmt.Fprintf(w, "and, by another line, %s\n", also)
		}
	}
	return err
}
