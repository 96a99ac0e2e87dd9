// Package node is the one place where programs make their nodes: here a key,
// a policy and services become a [peer.Node]. Services meet nowhere else.
package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/echo"
	"ckt.local/peer/files"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// Config says what a program's node is made of.
type Config struct {
	Listen     string            // host:port; "": any free port on all addresses
	Identity   *identity.Key     // required
	Authorized string            // the authorized_peers file; "": none
	Allow      []identity.NodeID // besides those in the file
	Services   []string          // names of built-in services to register
	Dir        string            // what the files service receives into
	Linger     time.Duration     // how long circuits outlive their connection; 0: 2 min, negative: not at all
	Logger     *slog.Logger      // nil: discarded

	Limits limit.Limits // what others may make the node spend
	Audit  *slog.Logger // gets what was decided about others; nil: none

	// Files about trust. "" is none; those of revoked and known keys need not
	// be there.
	PSK        string // one or two pre-shared keys, see [trust.ReadPSKs]
	Rotation   string // the statement that Identity takes an older key's place
	Revoked    string // keys that are not believed any more
	KnownPeers string // which key was found at which address

	// TrustNew is asked about a key that neither Authorized nor KnownPeers has,
	// at an address that is dialled. Default: it is not trusted.
	TrustNew func(ctx context.Context, addr string, id identity.NodeID) error
}

// A ServiceError says that there is no built-in service of a name.
type ServiceError struct {
	Name  string
	Known []string
}

// Error lists the services there are.
func (e *ServiceError) Error() string {
	return fmt.Sprintf("no built-in service %q: there are %s", e.Name, strings.Join(e.Known, " and "))
}

// New makes a node that listens and serves, with the services of cfg
// registered and none of them started. A service that is not built in is a
// [ServiceError]; files without a directory is [files.ErrNoDir]; a file about
// trust that cannot be used is a [TrustFileError], but for the known peers:
// without them nobody is dialled by a bare address.
func New(cfg Config) (*peer.Node, error) {
	services := make(map[string]peer.PeerServiceFunc, len(cfg.Services))
	for _, name := range cfg.Services {
		f, err := service(name, cfg)
		if err != nil {
			return nil, err
		}
		services[name] = f
	}
	pc := peer.Config{
		ListenAddr: cfg.Listen,
		Identity:   cfg.Identity,
		Authorize:  policy(cfg),
		Limits:     cfg.Limits,
		Audit:      cfg.Audit,
		Circuit:    circuit.Config{Linger: max(cfg.Linger, 0), NoResume: cfg.Linger < 0},
		Logger:     cfg.Logger,
	}
	if err := cfg.readTrust(&pc); err != nil {
		return nil, err
	}
	n, err := peer.NewNode(pc)
	if err != nil {
		return nil, err
	}
	for name, f := range services {
		if err := n.PeerAPI.RegisterPeerServiceFunc(name, f); err != nil {
			_ = n.Close() // the reason is what the caller wants to know
			return nil, err
		}
	}
	return n, nil
}

// Names returns the names of the built-in services, sorted.
func Names() []string { return []string{echo.Name, files.Name} }

func service(name string, cfg Config) (peer.PeerServiceFunc, error) {
	switch name {
	case echo.Name:
		return echo.Serve, nil
	case files.Name:
		return files.Service(files.Config{Dir: cfg.Dir, Logger: cfg.Logger})
	}
	return nil, &ServiceError{Name: name, Known: Names()}
}

// policy allows what the file allows, and what cfg lists by hand.
func policy(cfg Config) peer.Policy {
	var policies []peer.Policy
	if len(cfg.Allow) > 0 {
		policies = append(policies, peer.AllowNodes(cfg.Allow...))
	}
	if cfg.Authorized != "" {
		policies = append(policies, peer.AllowFile(cfg.Authorized))
	}
	if len(policies) == 0 {
		return nil
	}
	return peer.AllowAny(policies...)
}
