package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"ckt.local/circuit"
	"ckt.local/cmd/internal/node"
	"ckt.local/peer"
)

// loadKey gets the key of this run, and makes it if there is none.
func (a *app) loadKey() (*node.Key, error) {
	path, err := a.keyPath()
	if err != nil {
		return nil, err
	}
	key, err := node.LoadKey(node.KeySource{
		Path:        path,
		MustExist:   a.keyFile != "",
		AgentSocket: os.Getenv("SSH_AUTH_SOCK"),
		Passphrase:  a.passphrase,
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, advise(err, "make it: peerctl keygen --out %s", path)
	}
	if err != nil {
		return nil, err
	}
	if key.Created {
		a.say("made a key: %s\nthis node is %v", path, key.ID())
	}
	a.self = key.ID()
	return key, nil
}

// passphrase gets the passphrase of an encrypted key.
func (a *app) passphrase(path string) ([]byte, error) {
	if phrase, ok := os.LookupEnv("CKT_PASSPHRASE"); ok {
		return []byte(phrase), nil
	}
	return a.ask("passphrase of " + path)
}

// ask reads a secret from the terminal. stdin may be the data to send, so it
// is not what decides: the terminal is asked itself.
func (a *app) ask(what string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("there is no terminal to ask for the passphrase")
	}
	defer tty.Close()
	was, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(tty, "%s: ", what)
	defer fmt.Fprintln(tty)
	type answer struct {
		secret []byte
		err    error
	}
	answers := make(chan answer, 1)
	// Nothing can interrupt a read of a terminal: after an interrupt the
	// goroutine ends with the process.
	go func() {
		secret, err := term.ReadPassword(int(tty.Fd()))
		answers <- answer{secret, err}
	}()
	select {
	case got := <-answers:
		return got.secret, got.err
	case <-a.ctx.Done():
		// The reader has turned the echo off, and will not turn it on again.
		return nil, errors.Join(context.Cause(a.ctx), term.Restore(int(tty.Fd()), was))
	}
}

// A session is a node that exists for one command, with a peer to open
// circuits from.
type session struct {
	ctx  context.Context // of the command
	node *peer.Node
	key  *node.Key
	me   *peer.LocalPeer
}

// clientService is the service that a command's own peer runs.
const clientService = "peerctl"

// dial makes a session. It ends with close; the peer ends with ctx, too.
func (a *app) dial(ctx context.Context) (*session, error) {
	key, err := a.loadKey()
	if err != nil {
		return nil, err
	}
	s := &session{ctx: ctx, key: key}
	cfg, err := a.nodeConfig(key)
	if err == nil {
		cfg.TrustNew = a.newKeys()
		a.warnKnown(cfg.KnownPeers)
		s.node, err = node.New(cfg)
	}
	if err == nil {
		err = s.node.PeerAPI.RegisterPeerServiceFunc(clientService, turnAway)
	}
	if err == nil {
		s.me, err = s.node.PeerAPI.StartLocalPeer(ctx, clientService)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// close delivers what is queued and ends the node. After an interrupt it does
// not wait for a connection to deliver it over.
func (s *session) close() error {
	var err error
	switch {
	case s.node == nil:
	case s.ctx.Err() != nil && !s.connected():
		err = s.node.Shutdown(s.ctx)
	default:
		err = s.node.Close()
	}
	return errors.Join(err, s.key.Close())
}

func (s *session) connected() bool {
	return slices.ContainsFunc(s.node.Listing().Links, func(l peer.LinkInfo) bool { return l.Attached })
}

// turnAway is the service of a peer that only opens circuits itself.
func turnAway(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
	for {
		select {
		case <-ctx0.Done():
			return nil
		case c := <-newCircuitCh:
			c.CloseWith(errors.New("this peer takes no circuits"))
		}
	}
}

const peerURLHint = "PEERURL is ckt://NODE@HOST:PORT/SERVICE/PEER, as \"peerctl start-remote-peer SERVICE ADDR\" prints it"

// aim notes what the command wants of whom, for hints, and refuses what is no
// URL of a service.
func (a *app) aim(peerURL string) error {
	a.urlHint = peerURLHint
	u, err := peer.ParseURL(peerURL)
	if err != nil {
		if _, _, e := net.SplitHostPort(peerURL); e == nil && !strings.Contains(peerURL, "/") {
			return advise(usagef("%q is a node's address, and a peer's URL is needed", peerURL),
				"start a peer there, which prints its URL: peerctl start-remote-peer SERVICE %s", peerURL)
		}
		return err
	}
	a.addr = peer.URL{Node: u.Node, Addr: u.Addr}.String()
	a.host = cmp.Or(u.Addr, u.Node.String())
	a.named = !u.PeerID.IsZero()
	if u.Service == "" {
		return advise(usagef("%q names a node and no service", peerURL),
			"start a peer there, which prints its URL: peerctl start-remote-peer SERVICE %s", a.addr)
	}
	a.service = u.Service
	return nil
}
