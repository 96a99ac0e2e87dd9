package identity

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// DefaultDir returns where keys and authorized_peers lie unless told
// otherwise: ckt in the user's configuration directory.
func DefaultDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("identity: %w", err)
	}
	return filepath.Join(dir, "ckt"), nil
}

// ReadKeyFile reads a private key in OpenSSH's format, as ssh-keygen -t
// ed25519 writes it; other types of keys are a [KeyTypeError]. A file that
// group or others may use is an [UnsafeFileError], as it is with ssh.
//
// passphrase is asked once, if the file is encrypted. If it is nil, or does
// not know, or is wrong, the error is a [PassphraseError].
func ReadKeyFile(path string, passphrase func(path string) ([]byte, error)) (*Key, error) {
	data, _, err := readBounded(path, maxKeyFile, checkPrivate("private key"))
	if err != nil {
		return nil, err
	}
	defer clear(data)
	id, err := clearHalf(path, data)
	if err != nil {
		return nil, err
	}
	raw, err := ssh.ParseRawPrivateKey(data)
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		raw, err = decrypt(path, data, passphrase)
	}
	if err != nil {
		if _, ok := errors.AsType[*PassphraseError](err); ok {
			return nil, err
		}
		return nil, fmt.Errorf("identity: %s: %w", path, err)
	}
	signer, ok := raw.(crypto.Signer)
	if !ok {
		return nil, &KeyTypeError{Path: path, Type: fmt.Sprintf("%T", raw)}
	}
	k, err := NewKey(signer)
	if err != nil {
		return nil, atPath(path, err)
	}
	if k.ID() != id {
		return nil, fmt.Errorf("identity: %s: the public half is another key's", path)
	}
	return k, nil
}

func decrypt(path string, data []byte, passphrase func(string) ([]byte, error)) (any, error) {
	if passphrase == nil {
		return nil, &PassphraseError{Path: path}
	}
	phrase, err := passphrase(path)
	if err != nil {
		return nil, &PassphraseError{Path: path, Err: err}
	}
	raw, err := ssh.ParseRawPrivateKeyWithPassphrase(data, phrase)
	if err != nil {
		return nil, &PassphraseError{Path: path, Err: err}
	}
	return raw, nil
}

// WriteKeyFile writes k to path in OpenSSH's format with mode 0600, encrypted
// if passphrase is not empty, and its public line to path+".pub" with mode
// 0644. Missing directories are made with mode 0700.
//
// It never overwrites: if either file is there, the error is [fs.ErrExist].
// After any error neither file is left behind. A key that an agent holds is
// [ErrNoPrivateKey].
func WriteKeyFile(path string, k *Key, passphrase []byte, comment string) error {
	priv, ok := k.holder().(ed25519.PrivateKey)
	if !ok {
		return ErrNoPrivateKey
	}
	block, err := marshalKey(priv, passphrase, cleanComment(comment))
	if err != nil {
		return fmt.Errorf("identity: %s: %w", path, err)
	}
	data := pem.EncodeToMemory(block)
	defer clear(data)
	defer clear(block.Bytes)

	pub := path + ".pub"
	if _, err := os.Lstat(pub); err == nil {
		return fmt.Errorf("identity: %w", &fs.PathError{Op: "create", Path: pub, Err: fs.ErrExist})
	}
	if err := (SafeFile{Path: path, Max: maxKeyFile}).Create(data); err != nil {
		return err
	}
	if err := publish(pub, []byte(k.id.PublicLine(comment)+"\n"), 0o644); err != nil {
		return notWritten(pub, errors.Join(err, os.Remove(path)))
	}
	return nil
}

func marshalKey(priv ed25519.PrivateKey, passphrase []byte, comment string) (*pem.Block, error) {
	if len(passphrase) == 0 {
		return ssh.MarshalPrivateKey(priv, comment)
	}
	return ssh.MarshalPrivateKeyWithPassphrase(priv, comment, passphrase)
}

// publish makes a new file appear under path with all of data in it, or not
// at all, also when the machine stops half-way.
func publish(path string, data []byte, mode fs.FileMode) error {
	temp := path + "." + rand.Text() + ".tmp"
	if err := create(temp, data, mode); err != nil {
		return err
	}
	defer os.Remove(temp)
	err := os.Link(temp, path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without hard links: then a crash may leave a half
		// file, but an error still does not.
		err = create(path, data, mode)
	}
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// create writes a file that must not exist yet, and removes it if it cannot
// be written whole.
func create(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// errChanged: somebody wrote to the file while it was read, so that what was
// read may never have stood in it.
var errChanged = errors.New("identity: file changed while it was read")

// readBounded reads a regular file of at most limit bytes that passes check,
// as it was at one moment, and says what file that was.
func readBounded(path string, limit int64, check func(string, fs.FileInfo) error) ([]byte, fs.FileInfo, error) {
	// Opening a named pipe would wait for a writer for ever.
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("identity: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("identity: %s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("identity: %w", err)
	}
	defer f.Close()
	// Asked again of the open file: the path may be another one's by now.
	if info, err = f.Stat(); err != nil {
		return nil, nil, fmt.Errorf("identity: %w", err)
	}
	if check != nil {
		if err := check(path, info); err != nil {
			return nil, nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, fmt.Errorf("identity: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, nil, fmt.Errorf("identity: %s: more than %d bytes", path, limit)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("identity: %w", err)
	}
	if int64(len(data)) != info.Size() || !sameContent(info, after) {
		return nil, nil, errChanged
	}
	return data, info, nil
}

// sameContent tells whether one file has, as far as can be seen, not been
// written to in between.
func sameContent(a, b fs.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
