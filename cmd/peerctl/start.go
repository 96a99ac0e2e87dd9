package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ckt.local/transport/identity"
)

func startCmd(a *app) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "start-remote-peer SERVICE ADDR [--wait 5s]",
		Short: "Start a peer on another node",
		Long: `Start a new peer of SERVICE on the node at ADDR and print its URL. A node that
does not answer yet is tried again until --wait is over. The peer belongs to
the node that it runs on, and goes on when this command has ended, until
"peerctl stop-remote-peer" ends it.

A peer need not be started for each use: a URL without a peer ID, such as
ckt://NODE@HOST:PORT/echo, reaches an instance that runs, or starts one.`,
		Example: "  echo=$(peerctl start-remote-peer echo build7:4242)\n  peerctl send $echo <file",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait <= 0 {
				return usagef("--wait must be more than 0, not %v", wait)
			}
			return a.startRemote(cmd.Context(), args[0], args[1], wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 5*time.Second, "how long to try a node that does not answer")
	return cmd
}

func (a *app) startRemote(ctx context.Context, service, addr string, wait time.Duration) error {
	if err := identity.ValidServiceName(service); err != nil {
		return &usageError{err: err}
	}
	a.service, a.addr = service, addr
	s, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	var url, id string
	err = a.asking(ctx, func() (err error) {
		url, id, err = s.node.PeerAPI.StartRemotePeer(ctx, service, addr, wait)
		return err
	})
	if err != nil {
		return err
	}
	return a.print(peerResult{URL: url, PeerID: id, Service: service})
}

type peerResult struct {
	URL     string `json:"url"`
	PeerID  string `json:"peer"`
	Service string `json:"service"`
}

func (r peerResult) text(w io.Writer) error {
	_, err := fmt.Fprintln(w, r.URL)
	return err
}
