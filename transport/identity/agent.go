package identity

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentTimeout bounds each request to an agent. It is as long as a TLS
// handshake may reasonably wait; an agent that asks its user first has that
// long.
const agentTimeout = 10 * time.Second

// DialAgent returns the key id that the ssh-agent at socket (usually
// $SSH_AUTH_SOCK) holds. The private key stays there. No agent, or an agent
// without the key ([ErrNotInAgent]), is an [AgentError].
//
// Each signature is one connection and takes at most 10 s, so the agent may
// restart; while it is away, signing fails with an [AgentError]. After Close
// of the returned closer, which ends what is under way, signing fails too.
func DialAgent(socket string, id NodeID) (*Key, io.Closer, error) {
	s := newAgentSigner(socket, id, agentTimeout)
	err := s.client.ask(func(a agent.ExtendedAgent) error {
		ids, err := listKeys(a)
		if err == nil && !slices.Contains(ids, id) {
			err = ErrNotInAgent
		}
		return err
	})
	if err != nil {
		s.client.cancel()
		return nil, nil, &AgentError{Socket: socket, ID: id, Err: err}
	}
	k, err := NewKey(s)
	if err != nil {
		s.client.cancel()
		return nil, nil, err
	}
	return k, s, nil
}

// AgentKeys returns the IDs of the keys at the ssh-agent that can be node
// keys. The error is an [AgentError].
func AgentKeys(socket string) ([]NodeID, error) {
	c := newAgentClient(socket, agentTimeout)
	defer c.cancel()
	var ids []NodeID
	err := c.ask(func(a agent.ExtendedAgent) (err error) {
		ids, err = listKeys(a)
		return err
	})
	if err != nil {
		return nil, &AgentError{Socket: socket, Err: err}
	}
	return ids, nil
}

func listKeys(a agent.ExtendedAgent) ([]NodeID, error) {
	keys, err := a.List()
	if err != nil {
		return nil, err
	}
	var ids []NodeID
	for _, k := range keys {
		if k.Type() != ssh.KeyAlgoED25519 {
			continue
		}
		if id, _, err := ParsePublicLine(k.String()); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// An agentSigner has an agent sign.
type agentSigner struct {
	client *agentClient
	id     NodeID
}

func newAgentSigner(socket string, id NodeID, timeout time.Duration) *agentSigner {
	return &agentSigner{client: newAgentClient(socket, timeout), id: id}
}

func (s *agentSigner) Public() crypto.PublicKey { return s.id.Key() }

func (s *agentSigner) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	key, err := ssh.NewPublicKey(s.id.Key())
	if err != nil {
		return nil, err
	}
	var sig *ssh.Signature
	err = s.client.ask(func(a agent.ExtendedAgent) (err error) {
		sig, err = a.Sign(key, message)
		return err
	})
	if err == nil && (sig.Format != ssh.KeyAlgoED25519 || !ed25519.Verify(s.id.Key(), message, sig.Blob)) {
		err = errors.New("the signature is not this key's")
	}
	if err != nil {
		return nil, &AgentError{Socket: s.client.socket, ID: s.id, Err: err}
	}
	return sig.Blob, nil
}

func (s *agentSigner) Close() error {
	s.client.cancel()
	return nil
}

// An agentClient makes one connection for each request: there is nothing to
// mend when the agent restarts, and no reply can be taken for another's.
type agentClient struct {
	socket  string
	timeout time.Duration
	ctx     context.Context // ends when the client is closed
	cancel  context.CancelFunc
}

func newAgentClient(socket string, timeout time.Duration) *agentClient {
	ctx, cancel := context.WithCancel(context.Background())
	return &agentClient{socket: socket, timeout: timeout, ctx: ctx, cancel: cancel}
}

func (c *agentClient) ask(request func(agent.ExtendedAgent) error) error {
	if c.socket == "" {
		return errors.New("no agent: its socket is not known (is SSH_AUTH_SOCK set?)")
	}
	if c.ctx.Err() != nil {
		return net.ErrClosed
	}
	dialer := net.Dialer{Timeout: c.timeout}
	conn, err := dialer.DialContext(c.ctx, "unix", c.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(c.ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	// Given something to close, the client would start a goroutine of its own
	// that nobody waits for.
	return request(agent.NewClient(struct {
		io.Reader
		io.Writer
	}{conn, conn}))
}
