package node

import (
	"errors"
	"io"
	"io/fs"

	"ckt.local/transport/identity"
)

// KeySource says where a program's key comes from.
type KeySource struct {
	// Path is the key file. If it does not exist, a key is made there,
	// unless MustExist.
	Path      string
	MustExist bool

	// AgentSocket is where an ssh-agent listens; "": none. An encrypted key
	// that the agent holds is used from there.
	AgentSocket string

	// Passphrase is asked for an encrypted key that no agent holds.
	Passphrase func(path string) ([]byte, error)
}

// A Key is a program's node key, ready for use.
type Key struct {
	*identity.Key
	Created bool // just now, because there was none

	agent io.Closer // nil if the key is in this process
}

// Close lets go of the agent, if one holds the key.
func (k *Key) Close() error {
	if k.agent == nil {
		return nil
	}
	return k.agent.Close()
}

// LoadKey reads the key of src, or makes it. Errors are those of
// [identity.ReadKeyFile], [fs.ErrNotExist] among them only if src says so, and
// [identity.WriteKeyFile].
func LoadKey(src KeySource) (*Key, error) {
	k, err := readKey(src)
	if !errors.Is(err, fs.ErrNotExist) || src.MustExist {
		return k, err
	}
	fresh, err := identity.Generate()
	if err != nil {
		return nil, err
	}
	err = identity.WriteKeyFile(src.Path, fresh, nil, "")
	if errors.Is(err, fs.ErrExist) {
		return readKey(src) // another process was faster
	}
	if err != nil {
		return nil, err
	}
	return &Key{Key: fresh, Created: true}, nil
}

func readKey(src KeySource) (*Key, error) {
	// The agent is tried only when the file alone does not do: a key without
	// a passphrase needs nobody.
	var held *Key
	key, err := identity.ReadKeyFile(src.Path, func(path string) ([]byte, error) {
		if held = fromAgent(src); held != nil {
			return nil, identity.ErrNoPrivateKey // no longer wanted
		}
		if src.Passphrase == nil {
			return nil, errors.New("it is encrypted, and nobody can be asked for the passphrase")
		}
		return src.Passphrase(path)
	})
	if held != nil {
		return held, nil
	}
	if err != nil {
		return nil, err
	}
	return &Key{Key: key}, nil
}

// fromAgent returns the key from the agent, or nil if it has it not.
func fromAgent(src KeySource) *Key {
	if src.AgentSocket == "" {
		return nil
	}
	id, err := identity.ReadPublic(src.Path)
	if err != nil {
		return nil
	}
	k, closer, err := identity.DialAgent(src.AgentSocket, id)
	if err != nil {
		return nil
	}
	return &Key{Key: k, agent: closer}
}
