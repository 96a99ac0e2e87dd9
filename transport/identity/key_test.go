package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestKeyNeverPrintsSecrets(t *testing.T) {
	k, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	seed := k.holder().(ed25519.PrivateKey).Seed()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("started", "key", k)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("started", "key", k, "wrapped", struct{ K *Key }{k})
	var out strings.Builder
	out.WriteString(log.String())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", k, *k, struct{ k *Key }{k})
	}
	decimal := strings.Trim(fmt.Sprint(seed[:6]), "[]")
	for _, secret := range []string{hex.EncodeToString(seed[:6]), decimal, strings.ReplaceAll(decimal, " ", ", ")} {
		if strings.Contains(strings.ToLower(out.String()), secret) {
			t.Fatalf("the private key shows:\n%s", out.String())
		}
	}
	if !strings.Contains(log.String(), "key="+k.ID().String()) {
		t.Errorf("the log does not name the node: %s", log.String())
	}
}

func TestNewKey(t *testing.T) {
	_, priv, _ := ed25519.GenerateKey(nil)
	k, err := NewKey(&priv)
	if err != nil || k.ID() != NodeIDOf(priv.Public().(ed25519.PublicKey)) {
		t.Fatalf("NewKey = %v, %v", k, err)
	}
	// The caller may wipe its copy.
	before, _ := k.Sign(nil, []byte("m"), crypto.Hash(0))
	clear(priv)
	after, _ := k.Sign(nil, []byte("m"), nil)
	if !bytes.Equal(before, after) || !ed25519.Verify(k.ID().Key(), []byte("m"), after) {
		t.Error("the Key shares memory with its caller")
	}
	if same, err := NewKey(k); same != k || err != nil {
		t.Errorf("a Key is not a Key: %v, %v", same, err)
	}
}

func TestNewKeyRefuses(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for _, s := range []crypto.Signer{nil, ec} {
		if _, err := NewKey(s); !isType[*KeyTypeError](err) {
			t.Errorf("%T: %v", s, err)
		}
	}
	_, a, _ := ed25519.GenerateKey(nil)
	_, b, _ := ed25519.GenerateKey(nil)
	mixed := slices.Concat(a[:32], b[32:])
	for _, s := range []crypto.Signer{ed25519.PrivateKey(nil), a[:40], mixed} {
		if _, err := NewKey(s); err == nil {
			t.Errorf("a private key of %d bytes that is broken was taken", len(s.(ed25519.PrivateKey)))
		}
	}
	if _, err := NewKey(fakeSigner{pub: ed25519.PublicKey("short")}); err == nil {
		t.Error("a signer with a broken public key was taken")
	}
}

func TestSignRefusesOtherVariants(t *testing.T) {
	k := testKey(t, 1)
	for name, opts := range map[string]crypto.SignerOpts{
		"hash":      crypto.SHA256,
		"ed25519ph": &ed25519.Options{Hash: crypto.SHA512},
		"context":   &ed25519.Options{Context: "c"},
	} {
		if _, err := k.Sign(nil, make([]byte, 64), opts); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestDerive(t *testing.T) {
	k := testKey(t, 1)
	a, err := k.Derive("stateless reset")
	if err != nil {
		t.Fatal(err)
	}
	// Written down: other bytes after an update would break what nodes that
	// run the old version still hold.
	const want = "de7a5d88731a58a6df8af6ef299dc0abd4a146c306403f076fc9d7bc024a564d"
	if got := hex.EncodeToString(a[:]); got != want {
		t.Errorf("Derive = %s, want %s", got, want)
	}
	again, _ := testKey(t, 1).Derive("stateless reset")
	other, _ := k.Derive("another label")
	foreign, _ := testKey(t, 2).Derive("stateless reset")
	if again != a || other == a || foreign == a {
		t.Error("Derive does not depend on key and label alone")
	}
}

func TestDeriveRefusesRandomSignatures(t *testing.T) {
	n := byte(0)
	k, err := NewKey(fakeSigner{pub: testKey(t, 1).ID().Key(), sign: func() ([]byte, error) {
		n++
		return bytes.Repeat([]byte{n}, 64), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Derive("x"); err == nil {
		t.Error("a secret that will be another one next time was given out")
	}
	gone := errors.New("unplugged")
	k, _ = NewKey(fakeSigner{pub: testKey(t, 1).ID().Key(), sign: func() ([]byte, error) { return nil, gone }})
	if b, err := k.Derive("x"); !errors.Is(err, gone) || b != [32]byte{} {
		t.Errorf("Derive = %x, %v", b, err)
	}
}

type fakeSigner struct {
	pub  crypto.PublicKey
	sign func() ([]byte, error)
}

func (s fakeSigner) Public() crypto.PublicKey { return s.pub }

func (s fakeSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return s.sign() }

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
