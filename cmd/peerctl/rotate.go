package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ckt.local/cmd/internal/node"
	"ckt.local/transport/trust"
)

const (
	mostDays = 90
	day      = 24 * time.Hour

	// early is how far the other nodes' clocks may be behind for the statement
	// to hold at once.
	early = time.Hour
)

const rotateHelp = `Write a statement, signed by both, that the key in NEWKEYFILE takes the place of
this node's key (that of --key) for so many days. Until then other nodes let the
new key in where they list the old one, and take it where a URL or known_peers
has the old one. The statement goes to the FILE of --rotation, and is used as
soon as the node runs with the new key. It is never overwritten.

  1. peerctl keygen --out NEW                  make the new key
  2. peerctl rotate --to NEW                   write the statement
  3. peerctl --key NEW serve …                 restart the node with the new key
  4. within the days: on the other machines    peerctl authorize NEWNODE
     with the options of the old line, and give the new URL to whoever has the old
  5. after that: delete the old key and the statement, and on the other machines
     the old key's lines

A key that was stolen is not to be rotated but revoked: whoever has it could
make such a statement, too.`

func rotateCmd(a *app) *cobra.Command {
	var to string
	var days int
	cmd := &cobra.Command{
		Use:     "rotate --to NEWKEYFILE [--days 30]",
		Short:   "Have a new key take this node's place",
		Long:    rotateHelp,
		Example: "  peerctl keygen --out ~/keys/new\n  peerctl rotate --to ~/keys/new --days 14",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case to == "":
				return usagef("--to NEWKEYFILE is needed: whose place is the new one to take?")
			case days < 1 || days > mostDays:
				return usagef("--days must be from 1 to %d, not %d", mostDays, days)
			}
			return a.rotate(to, days)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the new key's `NEWKEYFILE`, which peerctl keygen --out has made")
	cmd.Flags().IntVar(&days, "days", 30, "for how long the new key is taken for the old one; at most 90")
	return cmd
}

// existingKey reads a key that is not to be made.
func (a *app) existingKey(path string) (*node.Key, error) {
	key, err := node.LoadKey(node.KeySource{
		Path: path, MustExist: true, AgentSocket: os.Getenv("SSH_AUTH_SOCK"), Passphrase: a.passphrase,
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = advise(err, "make it: peerctl keygen --out %s", path)
	}
	return key, err
}

func (a *app) rotate(to string, days int) error {
	path, err := a.rotationPath()
	if err != nil {
		return err
	}
	if err := vacant(path); err != nil {
		return err
	}
	from, err := a.keyPath()
	if err != nil {
		return err
	}
	old, err := a.existingKey(from)
	if err != nil {
		return err
	}
	defer old.Close()
	key, err := a.existingKey(to)
	if err != nil {
		return err
	}
	defer key.Close()
	if key.ID() == old.ID() {
		return usagef("%s has the key that this node has already", to)
	}
	start := time.Now().Add(-early)
	r, err := trust.NewRotation(old.Key, key.Key, start, start.Add(time.Duration(days)*day))
	if err != nil {
		return err
	}
	if err := r.Write(path); err != nil {
		return err
	}
	err = a.print(rotateResult{Old: r.Old.String(), New: r.New.String(), From: r.From, Until: r.Until, File: path})
	if err == nil {
		a.say("now restart the node with the new key: peerctl --key %s serve …\n"+
			"then, until that day, on each machine that lists the old one: peerctl authorize %v\n"+
			"and give the node's new URL to whoever has the old one", plain(to), r.New)
	}
	return err
}

// vacant says what lies where the statement is to go.
func vacant(path string) error {
	if _, err := os.Lstat(path); err != nil {
		return nil // what else may be wrong, writing tells
	}
	is := "what is there is no statement about a key"
	if r, err := trust.ReadRotation(path); err == nil {
		is = fmt.Sprintf("it has %v take the place of %v until %s", r.New, r.Old, r.Until.Format(time.DateTime+" MST"))
	}
	return advise(fmt.Errorf("%w: %s: %s", fs.ErrExist, path, is),
		"nothing is overwritten: move it away when it is no longer needed, or name another place with --rotation FILE")
}

type rotateResult struct {
	Old   string    `json:"old"`
	New   string    `json:"new"`
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	File  string    `json:"file"`
}

func (r rotateResult) text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s takes the place of %s until %s (%s)\n", r.New, r.Old, r.Until.Format(time.DateTime+" MST"), plain(r.File))
	return err
}
