package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"ckt.local/cmd/internal/node"
	"ckt.local/peer"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

// newKey: nobody has said yet that the key at an address is to be trusted.
func (a *app) newKey(e *newKeyError) verdict {
	return verdict{Code: "unknown-key", Exit: exitRefused, Message: e.Error(), Hint: a.trustBy(e.addr, e.id) + "; --trust new notes any key at a new address"}
}

// trustBy is how a key is trusted by hand.
func (a *app) trustBy(addr string, id identity.NodeID) string {
	known := ""
	if a.trust.known != "" {
		known = " --known " + a.trust.known
	}
	return fmt.Sprintf("if that is the node you mean, say so: ckt://%v@%s; or note its key: peerctl known add %s %v%s", id, addr, addr, id, known)
}

// dialledAt is the address as the user has given it, if it was one.
func (a *app) dialledAt(resolved string) string {
	if _, _, err := net.SplitHostPort(a.addr); err != nil || strings.Contains(a.addr, "/") {
		return resolved
	}
	return a.addr
}

// where is the host:port of the other node, as far as it was given.
func (a *app) where() string {
	if u, err := peer.ParseURL(a.addr); err == nil {
		return cmp.Or(a.host, u.Addr, a.addr)
	}
	return cmp.Or(a.host, a.addr)
}

// changedKey: another key answers than the one that is noted. That is what
// somebody in the middle looks like, and must not be overlooked.
func (a *app) changedKey(e *trust.ChangedKeyError) verdict {
	const loud = "@   WARNING: THE KEY OF THE OTHER NODE HAS CHANGED!   @"
	frame := strings.Repeat("@", len(loud))
	known := ""
	if a.trust.known != "" {
		known = " --known " + a.trust.known
	}
	return verdict{
		Code: "key-changed", Exit: exitRefused,
		Message: fmt.Sprintf("the key at %s has changed: it is that of %v, and %v is known (%s:%d); nothing was sent", e.Addr, e.Got, e.Known, e.Path, e.Line),
		Hint:    fmt.Sprintf("ask its owner what \"peerctl id\" prints there; if it is the new one: peerctl known forget %s%s, and try again", e.Addr, known),
		alarm: []string{
			frame,
			loud,
			frame,
			"Somebody may be answering in its place, or it was given a new key.",
		},
	}
}

// revokedKey: a key is in revoked_peers.
func (a *app) revokedKey(e *trust.RevokedError) verdict {
	v := verdict{Code: "revoked", Exit: exitRefused}
	switch {
	case e.Err != nil:
		v.Code, v.Exit = "failed", exitFailed
		v.Message = fmt.Sprintf("the list of revoked keys cannot be used, so no key is believed: %s", plain(e.Err.Error()))
		v.Hint = "mend " + e.Path
	case e.ID == a.self:
		v.Message = fmt.Sprintf("the key of this node, %v, is revoked (%s:%d)", e.ID, e.Path, e.Line)
		v.Hint = "give it another one: peerctl keygen --out FILE, then --key FILE"
	default:
		v.Message = fmt.Sprintf("the key of node %v is revoked here (%s:%d)", e.ID, e.Path, e.Line)
		v.Hint = "whoever answers with it is not to be believed: ask the owner of the node for its new key; if it was revoked by mistake, delete that line"
	}
	return v
}

// noPSK: one side has a pre-shared key that the other has not. Which one, the
// other side tells.
func (a *app) noPSK(e *transport.RemoteError) verdict {
	where := a.where()
	if a.trust.psk == "" {
		return verdict{
			Code: "psk", Exit: exitRefused,
			Message: fmt.Sprintf("the node at %s asks for a pre-shared key, and this one has none", where),
			Hint:    "get a copy of the file that it was started with, and give it: --psk FILE",
		}
	}
	return verdict{
		Code: "psk", Exit: exitRefused,
		Message: fmt.Sprintf("the node at %s does not have the pre-shared key in %s; it says: %s", where, a.trust.psk, plain(e.Reason)),
		Hint:    fmt.Sprintf("start that node with --psk and a copy of %s; or if it is to have none, leave --psk out here", a.trust.psk),
	}
}

// limited: a bound is reached, there or here.
func (a *app) limited(e *transport.LimitError) verdict {
	where := "this node"
	if e.Remote {
		where = "the node at " + a.where()
	}
	v := verdict{Code: "limit", Exit: exitFailed, Message: fmt.Sprintf("a limit of %s is reached: %d %s", where, e.Limit, e.What)}
	if e.Size != 0 {
		v.Message = fmt.Sprintf("%s of %d is over the limit of %s, which is %d", e.What, e.Size, where, e.Limit)
	}
	if !e.Remote {
		v.Hint = "give less at a time"
		return v
	}
	v.Exit = exitRefused
	v.Hint = a.atLimit(e)
	return v
}

// trustFile: a file about trust cannot be used.
func (a *app) trustFile(e *node.TrustFileError) verdict {
	v := verdict{Code: "failed", Exit: exitFailed, Message: e.Error()}
	switch {
	case errors.Is(e, fs.ErrNotExist) && e.Path == a.trust.psk:
		v.Code = "not-found"
		v.Hint = fmt.Sprintf("copy it from another machine, or make the first one: peerctl keygen --psk %s", e.Path)
	case errors.Is(e, fs.ErrNotExist):
		v.Code = "not-found"
	default:
		v.Hint = "nothing is done without what it says: mend it"
	}
	return v
}
