package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ckt.local/cmd/internal/node"
	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

// What --trust can be, after OpenSSH's StrictHostKeyChecking.
const (
	trustAsk   = "ask"
	trustNew   = "new"
	trustKnown = "known"
)

// trustFiles are the global flags about whom to trust; "" is a default.
type trustFiles struct {
	psk, revoked, known, rotation string
	mode                          string // one of the above
}

func (f *trustFiles) flags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&f.psk, "psk", "", "the `FILE` with the pre-shared key that both sides must have (default none)")
	flags.StringVar(&f.revoked, "revoked", "", "keys that are not believed any more: `FILE` (default "+shown("revoked_peers")+")")
	flags.StringVar(&f.known, "known", "", "which key was found at which address: `FILE` (default "+shown("known_peers")+")")
	flags.StringVar(&f.rotation, "rotation", "",
		"the `FILE` that says whose place this node's key takes (default "+shown("rotation")+", if it is there)")
	flags.StringVar(&f.mode, "trust", trustAsk,
		"what to do about a key at a new address: `ask|new|known`: ask, note it, or refuse it")
}

func (f *trustFiles) check() error {
	if !slices.Contains([]string{trustAsk, trustNew, trustKnown}, f.mode) {
		return usagef("--trust must be %s, %s or %s, not %q", trustAsk, trustNew, trustKnown, f.mode)
	}
	return nil
}

func orInConfig(path, name string) (string, error) {
	if path != "" {
		return path, nil
	}
	return inConfig(name)
}

func (a *app) revokedPath() (string, error)  { return orInConfig(a.trust.revoked, "revoked_peers") }
func (a *app) knownPath() (string, error)    { return orInConfig(a.trust.known, "known_peers") }
func (a *app) rotationPath() (string, error) { return orInConfig(a.trust.rotation, "rotation") }

// nodeConfig is what the nodes of all commands have in common.
func (a *app) nodeConfig(key *node.Key) (node.Config, error) {
	cfg := node.Config{Identity: key.Key, PSK: a.trust.psk, Linger: a.lingerOption()}
	var errs [4]error
	cfg.Authorized, errs[0] = a.authorizedPath()
	cfg.Revoked, errs[1] = a.revokedPath()
	cfg.KnownPeers, errs[2] = a.knownPath()
	cfg.Rotation, errs[3] = a.rotationOf(key.ID())
	return cfg, errors.Join(errs[:]...)
}

// rotationOf is the file to show to others when they meet this key; "": none.
// The default file waits there from the moment when it was made until the node
// is started with the new key; one that was named has to be for this key.
func (a *app) rotationOf(key identity.NodeID) (string, error) {
	path, err := a.rotationPath()
	if err != nil {
		return "", err
	}
	named := a.trust.rotation != ""
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !named {
		return "", nil
	}
	r, err := trust.ReadRotation(path)
	switch {
	case err != nil && named:
		return "", err
	case err != nil:
		return "", advise(err, "mend %s, or move it away: it is used because it is there", path)
	case r.New == key:
		return path, a.notRevoked(r, path)
	case named:
		return "", advise(fmt.Errorf("%s says that the key of %v takes another one's place, and the key in use is that of %v", path, r.New, key),
			"give the new key, too: --key FILE")
	}
	return "", nil
}

// notRevoked says what to do about a statement whose older key is revoked:
// with it the new key is refused by those that know that, and without it not.
func (a *app) notRevoked(r *trust.Rotation, path string) error {
	list, err := a.revokedPath()
	if err != nil {
		return err
	}
	f, err := trust.OpenRevoked(list, nil)
	if err != nil {
		return err
	}
	if err := f.Check(r.Old); err != nil {
		return advise(err, "%s shows that key to others: move it away", path)
	}
	return nil
}

// warnKnown says that a list cannot be used which this command can do without:
// who dials an address without a key is told by the error.
func (a *app) warnKnown(path string) {
	if !strings.HasPrefix(a.addr, "ckt://") {
		return
	}
	if _, err := trust.OpenKnown(path, nil); err != nil {
		a.say("warning: no address without a key can be dialled: %v", err)
	}
}

// A newKeyError says that nothing is known of the key at an address.
type newKeyError struct {
	addr  string // host:port, as it was dialled
	id    identity.NodeID
	asked bool // the user has said no
}

func (e *newKeyError) Error() string {
	if e.asked {
		return fmt.Sprintf("the node at %s is %v, which you do not trust", e.addr, e.id)
	}
	return fmt.Sprintf("the node at %s is %v, which is not known here, and there is no terminal to ask on", e.addr, e.id)
}

// newKeys is what decides about such a key while the node dials. It does not
// ask: the time for dialling runs, and a person takes theirs.
func (a *app) newKeys() func(context.Context, string, identity.NodeID) error {
	switch a.trust.mode {
	case trustAsk:
		return func(_ context.Context, addr string, id identity.NodeID) error {
			return &newKeyError{addr: addr, id: id}
		}
	case trustNew:
		return func(_ context.Context, addr string, id identity.NodeID) error {
			a.tellNew(addr, id)
			return nil
		}
	}
	return nil
}

// A newKeyEvent says that a key is noted that nobody has vouched for.
type newKeyEvent struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Addr    string `json:"addr"`
	Node    string `json:"node"`
}

func (a *app) tellNew(addr string, id identity.NodeID) {
	text := fmt.Sprintf("new here: the node at %s is %v, and no other from now on", addr, id)
	if a.asJSON {
		// Nobody is left to tell that stderr is closed.
		_ = json.NewEncoder(a.stderr).Encode(map[string]newKeyEvent{"event": {"new-key", text, addr, id.String()}})
	}
	a.say("%s", text)
}

// asking does what dials, and if that meets a new key and the user trusts it,
// once more.
func (a *app) asking(ctx context.Context, do func() error) error {
	err := do()
	e, ok := errors.AsType[*newKeyError](err)
	if !ok {
		return err
	}
	if err := a.confirm(ctx, e); err != nil {
		return err
	}
	path, err := a.knownPath()
	if err != nil {
		return err
	}
	known, err := trust.OpenKnown(path, nil)
	if err != nil {
		return err
	}
	if err := known.Add(e.addr, e.id); err != nil {
		return advise(err, "without noting it: give the node's URL, ckt://%v@%s", e.id, e.addr)
	}
	return do()
}
