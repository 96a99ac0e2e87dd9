package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"ckt.local/transport/identity"
)

func keygenCmd(a *app) *cobra.Command {
	var out, comment string
	var encrypt, add, drop bool
	cmd := &cobra.Command{
		Use:   "keygen [--out FILE] | --psk FILE [--add|--drop]",
		Short: "Make a node key",
		Long: `Make a node key, write it to FILE (mode 0600) and its public line to FILE.pub,
and print the node ID. Files that exist are never overwritten. The format is
OpenSSH's: "ssh-keygen -t ed25519" makes keys that are as good.

With --psk it is a pre-shared key that goes to FILE: a second lock, which all
nodes that are to connect must have. To replace it without an interruption,
--add makes a second one in the same file: give that to all machines, restart
their nodes, then take the older one off everywhere with --drop, and restart
them again.`,
		Example: "  peerctl keygen\n  peerctl keygen --encrypt --out ~/keys/laptop\n  peerctl keygen --psk ~/.config/ckt/psk\n  peerctl keygen --psk ~/.config/ckt/psk --add\n  peerctl keygen --psk ~/.config/ckt/psk --drop",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			switch psk := a.trust.psk; {
			case psk == "" && (add || drop):
				return usagef("--add and --drop change the FILE of --psk, which is not given")
			case add && drop:
				return usagef("--add is the first step and --drop the last: give one of them")
			case psk != "" && (out != "" || encrypt || comment != ""):
				return usagef("--psk FILE makes a pre-shared key, which has no --out, --comment or --encrypt")
			case add:
				return a.addPSK(psk)
			case drop:
				return a.dropPSK(psk)
			case psk != "":
				return a.newPSK(psk)
			}
			path := out
			if path == "" {
				var err error
				if path, err = a.keyPath(); err != nil {
					return err
				}
			}
			var phrase []byte
			if encrypt {
				var err error
				if phrase, err = a.newPassphrase(); err != nil {
					return err
				}
			}
			return a.keygen(path, phrase, comment)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the key `FILE` to write (default that of --key)")
	cmd.Flags().StringVar(&comment, "comment", "", "a `TEXT` to know the key by")
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "protect the key with a passphrase: $CKT_PASSPHRASE, or asked for")
	cmd.Flags().StringVar(&a.trust.psk, "psk", "", "make a pre-shared key, and write it to `FILE`")
	cmd.Flags().BoolVar(&add, "add", false, "make a second one in the FILE of --psk, to replace the first in steps")
	cmd.Flags().BoolVar(&drop, "drop", false, "take the older of two off the FILE of --psk, the last of those steps")
	return cmd
}

func (a *app) keygen(path string, phrase []byte, comment string) error {
	if id, err := identity.ReadPublic(path); err == nil {
		return advise(fmt.Errorf("%w: %s, the key of node %v", fs.ErrExist, path, id),
			"no key is overwritten: give another place with --out FILE")
	}
	key, err := identity.Generate()
	if err != nil {
		return err
	}
	if err := identity.WriteKeyFile(path, key, phrase, comment); err != nil {
		return err
	}
	return a.print(keyResult{ID: key.ID().String(), File: path, Public: path + ".pub"})
}

// newPassphrase gets the passphrase of a key that is being made. An empty one
// would leave the key open against the user's wish.
func (a *app) newPassphrase() ([]byte, error) {
	if phrase, ok := os.LookupEnv("CKT_PASSPHRASE"); ok {
		if phrase == "" {
			return nil, errors.New("CKT_PASSPHRASE is empty")
		}
		return []byte(phrase), nil
	}
	first, err := a.ask("new passphrase")
	if err != nil {
		return nil, err
	}
	again, err := a.ask("once more")
	if err != nil {
		return nil, err
	}
	if len(first) == 0 || !bytes.Equal(first, again) {
		return nil, errors.New("the passphrase is empty, or not the same twice")
	}
	return first, nil
}

// keyResult tells which key there is.
type keyResult struct {
	ID     string `json:"id"`
	File   string `json:"file,omitempty"`
	Public string `json:"public,omitempty"`
}

func (r keyResult) text(w io.Writer) error {
	_, err := fmt.Fprintln(w, r.ID)
	return err
}
