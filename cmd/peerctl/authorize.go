package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ckt.local/peer"
	"ckt.local/transport/identity"
)

func authorizeCmd(a *app) *cobra.Command {
	var services []string
	cmd := &cobra.Command{
		Use:   "authorize NODE-OR-KEY [--services a,b]",
		Short: "Let another node in",
		Long: `Append a line to authorized_peers that lets a node use the named services here,
or all of them without --services. NODE-OR-KEY is a node ID, a node's URL, a
.pub file, or a line "ssh-ed25519 AAAA… comment", quoted or not. The file is
read again for each request: a running "peerctl serve" needs no restart.`,
		Example: "  peerctl authorize laptop.pub --services echo,files\n" +
			"  peerctl authorize ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB… me@laptop",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("services") && len(services) == 0 {
				return usagef("--services names none; without it, all are meant")
			}
			return a.authorize(strings.Join(args, " "), services)
		},
	}
	cmd.Flags().StringSliceVar(&services, "services", nil, "the `NAMES` of services, with commas between (default: all)")
	return cmd
}

func (a *app) authorize(who string, services []string) error {
	for _, s := range services {
		if err := identity.ValidServiceName(s); err != nil {
			return &usageError{err: err}
		}
	}
	entry := identity.Entry{Services: services}
	var err error
	if entry.ID, entry.Comment, err = identify(who); err != nil {
		return err
	}
	path, err := a.authorizedPath()
	if err != nil {
		return err
	}
	if err := identity.AppendAuthorized(path, entry); err != nil {
		return err
	}
	return a.print(authorizeResult{ID: entry.ID.String(), Services: services, File: path})
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
	File     string   `json:"file"`
}

func (r authorizeResult) text(w io.Writer) error {
	what := "every service"
	if r.Services != nil {
		what = strings.Join(r.Services, ", ")
	}
	_, err := fmt.Fprintf(w, "%s may use %s here (%s)\n", r.ID, what, plain(r.File))
	return err
}
