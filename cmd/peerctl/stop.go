package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ckt.local/circuit"
	"ckt.local/peer"
)

func stopCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "stop-remote-peer PEERURL",
		Short: "Stop a peer on another node",
		Long: `Stop the peer at PEERURL, which "peerctl start-remote-peer" has printed, and
print the URL. Its circuits are closed. Only the node that has started a peer
may stop it, and any with the same key as the node that it runs on; "peerctl ls"
tells who has started what.`,
		Example: "  echo=$(peerctl start-remote-peer echo build7:4242)\n  peerctl stop-remote-peer $echo",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.stopRemote(cmd.Context(), args[0])
		},
	}
}

func (a *app) stopRemote(ctx context.Context, peerURL string) error {
	if err := a.aim(peerURL); err != nil {
		return err
	}
	u, err := peer.ParseURL(peerURL)
	if err != nil {
		return err
	}
	if u.PeerID.IsZero() {
		return advise(usagef("%q names a service and no peer", peerURL), "peerctl ls %s lists the peers that run there", a.addr)
	}
	a.deed = "to stop that peer"
	s, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if err := s.node.PeerAPI.StopRemotePeer(ctx, peerURL); err != nil {
		return a.notStopped(err)
	}
	return a.print(stopResult{URL: peerURL, PeerID: u.PeerID.String(), Service: u.Service})
}

// notStopped gives a refusal the hint that is right for stopping.
func (a *app) notStopped(err error) error {
	e, ok := errors.AsType[*circuit.RefusedError](err)
	switch {
	case ok && e.Code == circuit.RefusedUnauthorized:
		return advise(err, "the node that has started a peer may stop it: peerctl ls %s tells which", a.addr)
	case ok && e.Code == circuit.RefusedUnknownPeer:
		return advise(err, "it has ended already: peerctl ls %s lists what runs there", a.addr)
	}
	return err
}

type stopResult struct {
	URL     string `json:"url"`
	PeerID  string `json:"peer"`
	Service string `json:"service"`
}

func (r stopResult) text(w io.Writer) error {
	_, err := fmt.Fprintln(w, "stopped", r.URL)
	return err
}
