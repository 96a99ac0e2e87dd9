package main

import (
	"github.com/spf13/cobra"

	"ckt.local/transport/identity"
)

func idCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "id [FILE]",
		Short: "Print the node ID of a key",
		Long: `Print the node ID of the key in FILE, which may be a private key or a .pub file.
Without FILE it is this node's own; if there is none yet, it is made. An
encrypted key is not opened: its public half is in the clear.`,
		Example: "  peerctl id\n  peerctl id laptop.pub",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.idOf(args[0])
			}
			return a.ownID()
		},
	}
}

func (a *app) idOf(path string) error {
	id, err := identity.ReadPublic(path)
	if err != nil {
		return err
	}
	return a.print(keyResult{ID: id.String(), File: path})
}

func (a *app) ownID() error {
	path, err := a.keyPath()
	if err != nil {
		return err
	}
	if id, err := identity.ReadPublic(path); err == nil {
		return a.print(keyResult{ID: id.String(), File: path})
	}
	key, err := a.loadKey()
	if err != nil {
		return err
	}
	defer key.Close()
	return a.print(keyResult{ID: key.ID().String(), File: path})
}
