package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"ckt.local/circuit"
	"ckt.local/cmd/internal/node"
	"ckt.local/peer"
	"ckt.local/peer/echo"
	"ckt.local/peer/files"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// narrow is the service to let a node in for that only wants to connect. An
// entry needs one, and none shows or changes less.
const narrow = echo.Name

// nodeService is what an entry must name to allow listing.
const nodeService = "ckt.node"

// refused: the connection is there, and the request was answered with no.
func (a *app) refused(e *circuit.RefusedError) verdict {
	v := verdict{Code: "refused", Exit: exitRefused, Message: e.Error()}
	switch e.Code {
	case circuit.RefusedUnauthorized:
		v.Code = "unauthorized"
		v.Message = fmt.Sprintf("node %v does not allow node %v (this one) %s", e.Node, a.self, a.doing())
		v.Hint = a.letDoMore() + a.orStarted()
	case circuit.RefusedUnknownService:
		v.Hint = unknownServiceHint(a.wanted())
	case circuit.RefusedUnknownPeer:
		v.Hint = fmt.Sprintf("the peer has ended; start another: peerctl start-remote-peer %s %s", a.wanted(), a.addr)
	case circuit.RefusedLimit:
		v.Code = "limit"
		v.Hint = fmt.Sprintf("peerctl ls %s shows what runs there; peerctl stop-remote-peer PEERURL ends what is not needed", a.addr)
	case circuit.RefusedBusy, circuit.RefusedShutdown:
		v.Hint = "try again later"
	}
	return v
}

// restarted: the other process is gone, and with it what it knew of the circuit.
func restarted(a *app, err error) (verdict, bool) {
	if !errors.Is(err, circuit.ErrPeerRestarted) {
		return verdict{}, false
	}
	v := verdict{Code: "restarted", Exit: exitUnreachable, Message: fmt.Sprintf("the node at %s has restarted", plain(a.host))}
	if e, ok := errors.AsType[*circuit.LostError](err); ok {
		v.leaves(e.Unacked)
	}
	v.Hint = "run this again from the beginning"
	if a.named {
		v.Hint += fmt.Sprintf(", with a new peer: peerctl start-remote-peer %s %s", a.wanted(), a.addr)
	}
	return v, true
}

// lost: the connection did not come back in time, or the other node has closed
// it for good.
func (a *app) lost(e *circuit.LostError) verdict {
	why := strings.ReplaceAll(e.Cause.Error(), transport.ErrLost.Error()+": ", "")
	v := verdict{Code: "lost", Exit: exitUnreachable, Message: fmt.Sprintf("the connection to %s is lost (%s)", plain(a.host), plain(why))}
	v.leaves(e.Unacked)
	again := "run this again from the beginning"
	switch said, _ := errors.AsType[*transport.RemoteError](e); {
	case said == nil:
		v.Hint = fmt.Sprintf("is the node running, and can it be reached? peerctl ping %s tells. Then %s; a longer --linger at both ends waits longer", a.addr, again)
	case said.Code == transport.CodeClosed:
		v.Hint = "the other node was stopped: start it, and " + again
	case said.Code == transport.CodeRevoked:
		v.Code, v.Exit, v.Hint = "revoked", exitRefused, a.revokedThere()
	case said.Code == transport.CodeRefused:
		v.Hint = a.letDoMore() + "; then " + again
	default:
		v.Hint = again
	}
	return v
}

// revokedThere is what whoever has the key that was revoked can do.
func (a *app) revokedThere() string {
	return fmt.Sprintf("the key of this node, %v, is in revoked_peers on the other machine: make a new one (peerctl keygen --out FILE) and have that let in", a.self)
}

// turnedAway: the other node did not let us connect, or ended the connection.
func (a *app) turnedAway(e *transport.RemoteError) verdict {
	switch e.Code {
	case transport.CodeRefused:
		return verdict{
			Code: "unauthorized", Exit: exitRefused,
			Message: fmt.Sprintf("the node at %s does not allow node %v (this one) to connect", a.addr, a.self),
			Hint:    a.letIn(),
		}
	case transport.CodeRevoked:
		return verdict{Code: "revoked", Exit: exitRefused, Hint: a.revokedThere()}
	case transport.CodePSK:
		return a.noPSK(e)
	case transport.CodeLimit:
		return verdict{Code: "limit", Exit: exitRefused, Hint: "try again later, or have a limit of that node raised: peerctl serve --limits"}
	case transport.CodeDuplicate:
		return verdict{Code: "refused", Exit: exitRefused}
	case transport.CodeClosed, transport.CodeLost:
		return verdict{Code: "lost", Exit: exitUnreachable}
	}
	return verdict{Code: "failed", Exit: exitFailed}
}

// wrongKey: somebody else answers at the address.
func (a *app) wrongKey(e *transport.WrongKeyError) verdict {
	return verdict{
		Code: "wrong-key", Exit: exitRefused,
		Message: fmt.Sprintf("the node at %s is %v, not %v", e.Addr,
			identity.NodeIDOf(e.Got), identity.NodeIDOf(e.Want)),
		Hint: "if it was set up anew, ask its owner for its URL; else somebody answers in its place",
	}
}

// unauthorized: neither known_peers nor our own authorized_peers has the key of
// the node at an address that was given without one.
func (a *app) unauthorized(e *transport.UnauthorizedError) verdict {
	id := identity.NodeIDOf(e.Key)
	if a.trust.psk != "" && strings.HasPrefix(a.addr, "ckt://") {
		// The key is the one in the URL, so it is not what is wrong.
		return verdict{
			Code: "psk", Exit: exitRefused,
			Message: fmt.Sprintf("the node at %s has not proved to have the pre-shared key in %s (%s)", e.Addr, a.trust.psk, plain(e.Err.Error())),
			Hint:    "start that node with --psk and a copy of that file; if it was, somebody answers in its place",
		}
	}
	return verdict{
		Code: "unauthorized", Exit: exitRefused,
		Message: fmt.Sprintf("the node at %s is %v, which is not authorised here (%s)", e.Addr, id, plain(e.Err.Error())),
		Hint:    a.trustBy(a.dialledAt(e.Addr), id),
	}
}

// badURL: what was given as an address is none.
func (a *app) badURL(*peer.URLError) verdict {
	v := verdict{Code: "usage", Exit: exitUsage, Hint: a.urlHint}
	if v.Hint == "" {
		v.Hint = "ADDR is HOST:PORT, or ckt://NODE@HOST:PORT as \"peerctl serve\" prints it"
	}
	return v
}

// unknownServiceHint suggests only what works: serve knows its own services.
func unknownServiceHint(service string) string {
	switch service {
	case echo.Name:
		return "start that node with: peerctl serve --service echo"
	case files.Name:
		return "start that node with: peerctl serve --dir DIR"
	}
	return fmt.Sprintf("the services that peerctl serve has are %s; any other is registered by the program that runs the node",
		strings.Join(node.Names(), " and "))
}

func passphraseHint(err error) string {
	_, set := os.LookupEnv("CKT_PASSPHRASE")
	switch {
	case errors.Is(err, x509.IncorrectPasswordError) && set:
		return "CKT_PASSPHRASE is set, and is not the passphrase of this key"
	case errors.Is(err, x509.IncorrectPasswordError):
		return "that is not the passphrase of this key"
	}
	return "set CKT_PASSPHRASE, or load the key into an ssh-agent with ssh-add"
}

// letIn is the line that would let this node in at the other one, for what it
// wants and no more.
func (a *app) letIn() string {
	return fmt.Sprintf("on the other machine: peerctl authorize %v --services %s", a.self, a.wanted())
}

// letDoMore is the same for a node that could connect, so that it has a line
// already: besides that.
func (a *app) letDoMore() string { return a.letIn() + " --add" }

// orStarted is what to do besides where the refusal may be of a start, which a
// line like the one of letDoMore would allow, although another forbids it.
func (a *app) orStarted() string {
	if a.service == "" || a.deed != "" || a.named {
		return ""
	}
	return fmt.Sprintf(", which lets it start peers of that, too; if its line there says start, on purpose, have one started instead: peerctl start-remote-peer %s %s, there", a.service, a.addr)
}

// wanted is the service to name in a hint.
func (a *app) wanted() string {
	if a.service == "" {
		return narrow
	}
	return a.service
}

// doing is what the command wants to do, to follow "does not allow".
func (a *app) doing() string {
	switch {
	case a.deed != "":
		return a.deed
	case a.service == "":
		return "to connect"
	}
	return fmt.Sprintf("the service %q", a.service)
}
