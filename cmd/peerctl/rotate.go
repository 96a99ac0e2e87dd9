package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
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

  1. peerctl keygen --out NEW     make the new key, with --encrypt if it is to
                                  have a passphrase
  2. peerctl rotate --to NEW      write the statement, and print what follows as
                                  commands with the names of files and nodes
  3. stop the node, move the new key to the place of the old one, so that no
     command needs a --key, and start it again: it prints its new URL. A node
     that runs with --key FILE is started with --key NEW instead
  4. within the days, on each other machine:
       peerctl authorize NEWNODE --like OLDNODE   if it lists the old key
       peerctl known forget HOST:PORT             if "peerctl known list" has the
       peerctl known add HOST:PORT NEWNODE        old key there
     and the new URL takes the place of the old one wherever that is noted
  5. afterwards, on each other machine that lists it: peerctl deauthorize OLDNODE
     and here: delete the statement and the old key

Both keys sign, and an encrypted one is opened for that: by an ssh-agent that
has it (ssh-add NEW), with $CKT_PASSPHRASE if it is the same for both, or with
what is typed. Whatever opens the old key for the node has to open the new one
from step 3 on; afterwards, ssh-add -d OLD.pub takes the old one off the agent.

Machines that have copies of the old key trust one another because it is their
own. Give the new one and the statement to all of them in step 3: one that has
the new key does not let in one that still has the old one.

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
	cmd.Flags().IntVar(&days, "days", 30, "for how long the new key is taken for the old one; at most 90, which ends an hour early")
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
	start, end := validity(time.Now(), days)
	r, err := trust.NewRotation(old.Key, key.Key, start, end)
	if err != nil {
		return err
	}
	if err := r.Write(path); err != nil {
		return err
	}
	err = a.print(rotateResult{Old: r.Old.String(), New: r.New.String(), From: r.From, Until: r.Until, File: path})
	if err == nil {
		a.sayNext(r, from, to, path)
	}
	return err
}

// validity is when a statement holds that is made now for so many days. They
// count from now; a statement may hold for 90 days in all.
func validity(now time.Time, days int) (from, until time.Time) {
	from = now.Add(-early)
	until = now.Add(time.Duration(days) * day)
	if most := from.Add(mostDays * day); until.After(most) {
		until = most
	}
	return from, until
}

// sayNext tells what is left to do once the statement is written, as commands
// to be copied. to has the new key, from the old one.
func (a *app) sayNext(r *trust.Rotation, from, to, statement string) {
	flags := ""
	if a.trust.rotation != "" {
		flags = " --rotation " + shellWord(statement)
	}
	if a.keyFile == "" {
		old := from + "." + r.Old.String()[:8]
		a.say("stop the node, give the new key the old one's place, and start it again; it prints its new URL:")
		a.say("  %s", moves(from, old, to))
		from = old
	} else {
		flags += " --key " + shellWord(to)
		a.say("restart the node with the new key; it prints its new URL:")
	}
	a.say("  peerctl%s serve …", flags)
	a.say("then, until that day, on each machine that lists the old key:")
	a.say("  peerctl authorize %v --like %v", r.New, r.Old)
	a.say("on each machine where \"peerctl known list\" has the old key at an address:")
	a.say("  peerctl known forget HOST:PORT && peerctl known add HOST:PORT %v", r.New)
	a.say("and give the new URL to whoever has the old one. Afterwards, on each machine that lists the old key:")
	a.say("  peerctl deauthorize %v", r.Old)
	a.say("and here:")
	a.say("  rm -f %s %s %s", shellWord(statement), shellWord(from), shellWord(from+".pub"))
}

// moves is the command that moves the key file at to old, and to to at, each with its public half if it has one.
func moves(at, old, to string) string {
	var steps []string
	for _, step := range [][2]string{{at, old}, {to, at}, {at + ".pub", old + ".pub"}, {to + ".pub", at + ".pub"}} {
		if _, err := os.Stat(step[0]); err == nil {
			steps = append(steps, "mv "+shellWord(step[0])+" "+shellWord(step[1]))
		}
	}
	return strings.Join(steps, " && ")
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
