package peer

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"ckt.local/circuit"
	"ckt.local/transport/identity"
)

const (
	urlScheme  = "ckt://"
	maxURL     = 512
	maxHost    = 253
	maxURLPart = 3 // service, peer, circuit
)

// A URL names a node, a service on it, a peer that runs the service, or a
// circuit of that peer:
//
//	ckt://<node ID>@host:port
//	ckt://<node ID>@host:port/<service>
//	ckt://<node ID>@host:port/<service>/<peer ID>
//	ckt://<node ID>@host:port/<service>/<peer ID>/<circuit ID>
//
// Without "@host:port" it names a node that is connected already. Each part
// needs those before it.
type URL struct {
	Node      identity.NodeID // never zero
	Addr      string          // host:port, or "": not known
	Service   string          // "": the node itself
	PeerID    circuit.ID      // zero: any running instance, else a new one if that is allowed
	CircuitID circuit.ID      // zero: none
}

// ParseURL reads what [URL.String] writes. The error is a [URLError].
func ParseURL(s string) (URL, error) {
	var u URL
	if len(s) > maxURL {
		return URL{}, tooLong(s, maxURL)
	}
	rest, ok := strings.CutPrefix(s, urlScheme)
	if !ok {
		return URL{}, urlError(s, "does not begin with %s", urlScheme)
	}
	authority, path, hasPath := strings.Cut(rest, "/")
	node, addr, hasAddr := strings.Cut(authority, "@")
	id, err := identity.ParseNodeID(node)
	if err != nil {
		return URL{}, urlError(s, "node ID: %v", err)
	}
	u.Node = id
	if hasAddr {
		if u.Addr, err = parseAddr(addr); err != nil {
			return URL{}, urlError(s, "%v", err)
		}
	}
	if hasPath && path != "" {
		if err := u.parsePath(path); err != nil {
			return URL{}, urlError(s, "%v", err)
		}
	}
	return u, nil
}

func (u *URL) parsePath(path string) error {
	parts := strings.SplitN(path, "/", maxURLPart)
	if err := identity.ValidServiceName(parts[0]); err != nil {
		return err
	}
	u.Service = parts[0]
	for i, id := range []*circuit.ID{&u.PeerID, &u.CircuitID} {
		if len(parts) < i+2 {
			return nil
		}
		if err := identity.DecodeID(parts[i+1], id[:]); err != nil {
			return err
		}
		if id.IsZero() {
			return &identity.IDError{Text: parts[i+1], Reason: "all zero, which names nothing"}
		}
	}
	return nil
}

// String returns the URL as [ParseURL] reads it. Parts after one that is
// missing are left out.
func (u URL) String() string {
	var b strings.Builder
	b.WriteString(urlScheme)
	b.WriteString(u.Node.String())
	if u.Addr != "" {
		b.WriteString("@" + u.Addr)
	}
	for _, part := range []string{u.Service, u.PeerID.String(), u.CircuitID.String()} {
		if part == "" {
			break
		}
		b.WriteString("/" + part)
	}
	return b.String()
}

// parseAddr checks a host:port and returns it in its shortest form, so that
// equal addresses are equal texts. The host is a name or an IP address; names
// are not resolved.
func parseAddr(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", errors.New("no host:port")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", errors.New("the port is not a number from 1 to 65535")
	}
	if host == "" || len(host) > maxHost || strings.Trim(host, hostChars+":%") != "" {
		return "", errors.New("no host that could be one")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(ip.Unmap(), uint16(n)).String(), nil
	}
	if strings.Trim(host, hostChars) != "" {
		return "", errors.New("no host that could be one")
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.FormatUint(n, 10)), nil
}

const hostChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"

// A target is where a request is to go: a node by its ID, an address, or both.
type target struct {
	text string // as the caller wrote it
	node identity.NodeID
	addr string
	peer circuit.ID // zero: none in particular
}

// target is where the peer at u runs; text is u as the caller wrote it.
func (u URL) target(text string) target {
	return target{text: text, node: u.Node, addr: u.Addr, peer: u.PeerID}
}

// parseURL is ParseURL within this node's limit.
func (n *Node) parseURL(s string) (URL, error) {
	if most := n.ledger.Limits().Peer.URL; len(s) > most {
		return URL{}, tooLong(s, most)
	}
	return ParseURL(s)
}

// A parsedURL is a text and what it says.
type parsedURL struct {
	text string
	url  URL
}

// parseURL is [Node.parseURL], which costs as much as much else of an opening:
// most peers open many circuits to one other.
func (p *LocalPeer) parseURL(s string) (URL, error) {
	if last := p.lastURL.Load(); last != nil && last.text == s {
		return last.url, nil
	}
	u, err := p.node.parseURL(s)
	if err == nil {
		u.Service = strings.Clone(u.Service) // what is kept is no part of a text that may be large
		p.lastURL.Store(&parsedURL{strings.Clone(s), u})
	}
	return u, err
}

// parseTarget is the function of that name within this node's limit.
func (n *Node) parseTarget(s string) (target, error) {
	if most := n.ledger.Limits().Peer.URL; len(s) > most {
		return target{}, tooLong(s, most)
	}
	return parseTarget(s)
}

// parseTarget reads a remote address: host:port, a URL, or a node ID.
func parseTarget(s string) (target, error) {
	switch {
	case len(s) > maxURL:
		return target{}, tooLong(s, maxURL)
	case strings.HasPrefix(s, urlScheme):
		u, err := ParseURL(s)
		return target{text: s, node: u.Node, addr: u.Addr}, err
	case strings.Contains(s, ":"):
		addr, err := parseAddr(s)
		if err != nil {
			return target{}, urlError(s, "%v", err)
		}
		return target{text: s, addr: addr}, nil
	}
	id, err := identity.ParseNodeID(s)
	if err != nil {
		return target{}, urlError(s, "neither host:port nor a URL nor a node ID")
	}
	return target{text: s, node: id}, nil
}
