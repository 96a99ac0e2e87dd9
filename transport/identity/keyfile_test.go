package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// safeDir returns a directory that only we may use, whatever the umask.
func safeDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ckt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func needModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no file modes here")
	}
}

func phrase(s string) func(string) ([]byte, error) {
	return func(string) ([]byte, error) { return []byte(s), nil }
}

func TestKeyFileRoundTrip(t *testing.T) {
	for name, pass := range map[string]string{"plain": "", "encrypted": "correct horse"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(safeDir(t), "made", "on", "the", "way", "id")
			k := testKey(t, 5)
			if err := WriteKeyFile(path, k, []byte(pass), "me@here"); err != nil {
				t.Fatal(err)
			}
			back, err := ReadKeyFile(path, phrase(pass))
			if err != nil || back.ID() != k.ID() {
				t.Fatalf("ReadKeyFile = %v, %v", back, err)
			}
			for _, p := range []string{path, path + ".pub"} {
				if id, err := ReadPublic(p); err != nil || id != k.ID() {
					t.Errorf("ReadPublic(%s) = %v, %v", p, id, err)
				}
			}
			wantModes(t, map[string]fs.FileMode{path: 0o600, path + ".pub": 0o644, filepath.Dir(path): 0o700})
			wantFiles(t, filepath.Dir(path), "id", "id.pub")
		})
	}
}

func wantModes(t *testing.T, modes map[string]fs.FileMode) {
	t.Helper()
	if runtime.GOOS == "windows" {
		return
	}
	for p, want := range modes {
		info, err := os.Stat(p)
		// A umask may take more away.
		if err != nil || info.Mode().Perm()&^want != 0 {
			t.Errorf("%s: mode %v, %v; want %v", p, info.Mode(), err, want)
		}
	}
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

func TestWriteKeyFileNeverOverwrites(t *testing.T) {
	for _, name := range []string{"id", "id.pub"} {
		dir := safeDir(t)
		write(t, filepath.Join(dir, name), "precious")
		err := WriteKeyFile(filepath.Join(dir, "id"), testKey(t, 1), nil, "")
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s was there: %v", name, err)
		}
		if b, _ := os.ReadFile(filepath.Join(dir, name)); string(b) != "precious" {
			t.Errorf("%s was overwritten", name)
		}
		wantFiles(t, dir, name)
	}
}

func TestWriteKeyFileRefusesForeignSigner(t *testing.T) {
	dir := safeDir(t)
	k, err := NewKey(fakeSigner{pub: testKey(t, 1).ID().Key()})
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteKeyFile(filepath.Join(dir, "id"), k, nil, ""); !errors.Is(err, ErrNoPrivateKey) {
		t.Errorf("err = %v", err)
	}
	wantFiles(t, dir)
}

func TestReadKeyFilePassphrase(t *testing.T) {
	path := filepath.Join(safeDir(t), "id")
	if err := WriteKeyFile(path, testKey(t, 1), []byte("right"), ""); err != nil {
		t.Fatal(err)
	}
	cancelled := errors.New("cancelled")
	for name, c := range map[string]struct {
		ask  func(string) ([]byte, error)
		want error
	}{
		"nobody to ask": {nil, nil},
		"no answer":     {func(string) ([]byte, error) { return nil, cancelled }, cancelled},
		"wrong answer":  {phrase("wrong"), x509.IncorrectPasswordError},
		"empty answer":  {phrase(""), nil},
	} {
		_, err := ReadKeyFile(path, c.ask)
		e, ok := errors.AsType[*PassphraseError](err)
		if !ok || e.Path != path || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The question names the file.
	ReadKeyFile(path, func(p string) ([]byte, error) {
		if p != path {
			t.Errorf("asked for %s", p)
		}
		return nil, cancelled
	})
}

func TestReadKeyFileRefusesSharedFile(t *testing.T) {
	needModes(t)
	path := filepath.Join(safeDir(t), "id")
	if err := WriteKeyFile(path, testKey(t, 1), nil, ""); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o601} {
		os.Chmod(path, mode)
		_, err := ReadKeyFile(path, nil)
		e, ok := errors.AsType[*UnsafeFileError](err)
		if !ok || e.Path != path || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	os.Chmod(path, 0o400)
	if _, err := ReadKeyFile(path, nil); err != nil {
		t.Errorf("mode 0400: %v", err)
	}
}

func TestReadKeyFileRefusesOtherKeys(t *testing.T) {
	dir := safeDir(t)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	plain, _ := ssh.MarshalPrivateKey(ec, "")
	locked, _ := ssh.MarshalPrivateKeyWithPassphrase(ec, "", []byte("p"))
	der, _ := x509.MarshalPKCS8PrivateKey(testKey(t, 1).holder().(ed25519.PrivateKey))
	for name, block := range map[string]*pem.Block{
		"ecdsa-sha2-nistp256": plain,
		"ecdsa-sha2":          locked,
		"PRIVATE KEY":         {Type: "PRIVATE KEY", Bytes: der},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		write(t, path, string(pem.EncodeToMemory(block)))
		_, err := ReadKeyFile(path, phrase("p"))
		e, ok := errors.AsType[*KeyTypeError](err)
		if !ok || e.Path != path || !strings.Contains(e.Type, name) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ReadPublic(path); !isType[*KeyTypeError](err) {
			t.Errorf("%s: ReadPublic: %v", name, err)
		}
	}
}

func TestReadKeyFileRefusesBrokenFiles(t *testing.T) {
	dir := safeDir(t)
	path := filepath.Join(dir, "id")
	if err := WriteKeyFile(path, testKey(t, 1), nil, ""); err != nil {
		t.Fatal(err)
	}
	good, _ := os.ReadFile(path)
	// One file whose public half in the clear is another key's.
	block, _ := pem.Decode(good)
	own, other := testKey(t, 1).ID(), testKey(t, 2).ID()
	swapped := strings.Replace(string(block.Bytes), string(own[:]), string(other[:]), 1)
	for name, text := range map[string]string{
		"empty":        "",
		"text":         "hello\n",
		"cut":          string(good[:200]),
		"cut inside":   string(pem.EncodeToMemory(&pem.Block{Type: openSSHBlock, Bytes: block.Bytes[:100]})),
		"other magic":  string(pem.EncodeToMemory(&pem.Block{Type: openSSHBlock, Bytes: []byte("nonsense")})),
		"swapped half": string(pem.EncodeToMemory(&pem.Block{Type: openSSHBlock, Bytes: []byte(swapped)})),
		"huge":         strings.Repeat("x", maxKeyFile+1),
	} {
		write(t, path, text)
		if k, err := ReadKeyFile(path, nil); err == nil {
			t.Errorf("%s: read as %v", name, k)
		}
	}
	if _, err := ReadKeyFile(dir, nil); err == nil {
		t.Error("a directory was read as a key")
	}
	if _, err := ReadKeyFile(filepath.Join(dir, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestReadPublicSkipsComments(t *testing.T) {
	path := filepath.Join(safeDir(t), "id.pub")
	id := testKey(t, 1).ID()
	write(t, path, "\n# mine\r\n"+id.PublicLine("c")+"\r\n")
	if got, err := ReadPublic(path); err != nil || got != id {
		t.Errorf("ReadPublic = %v, %v", got, err)
	}
	write(t, path, "# nothing\n")
	if _, err := ReadPublic(path); err == nil {
		t.Error("a key was read where there is none")
	}
}

func TestSSHKeygenReadsOurKeys(t *testing.T) {
	keygen := needKeygen(t)
	for name, pass := range map[string]string{"plain": "", "encrypted": "pass word"} {
		path := filepath.Join(safeDir(t), "id")
		k := testKey(t, 9)
		if err := WriteKeyFile(path, k, []byte(pass), "ours"); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(keygen, "-y", "-P", pass, "-f", path).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		if id, comment, err := ParsePublicLine(string(out)); err != nil || id != k.ID() || comment != "ours" {
			t.Errorf("%s: ssh-keygen read %v %q, %v", name, id, comment, err)
		}
	}
}

func TestSSHKeygenKeysAreRead(t *testing.T) {
	keygen := needKeygen(t)
	for name, pass := range map[string]string{"plain": "", "encrypted": "pass word"} {
		path := filepath.Join(safeDir(t), "id")
		out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-C", "theirs", "-N", pass, "-f", path).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		k, err := ReadKeyFile(path, phrase(pass))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		line, _ := os.ReadFile(path + ".pub")
		if id, comment, err := ParsePublicLine(string(line)); err != nil || id != k.ID() || comment != "theirs" {
			t.Errorf("%s: .pub is %v %q, %v", name, id, comment, err)
		}
		if id, err := ReadPublic(path); err != nil || id != k.ID() {
			t.Errorf("%s: public half is %v, %v", name, id, err)
		}
	}
}

func needKeygen(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("no ssh-keygen here")
	}
	return path
}

func TestPublicLine(t *testing.T) {
	id := testKey(t, 1).ID()
	key, err := ssh.NewPublicKey(crypto.PublicKey(id.Key()))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))); id.PublicLine("") != want {
		t.Errorf("PublicLine = %q, want %q", id.PublicLine(""), want)
	}
	// A comment cannot start a line of its own.
	if line := id.PublicLine("a\nssh-ed25519 evil\x1b[2J"); strings.ContainsAny(line, "\n\x1b") {
		t.Errorf("PublicLine = %q", line)
	}
}

func TestParsePublicLineRefuses(t *testing.T) {
	line := testKey(t, 1).ID().PublicLine("")
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ecKey, _ := ssh.NewPublicKey(ec.Public())
	ecLine := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(ecKey)))
	for name, s := range map[string]string{
		"empty":             "",
		"type only":         "ssh-ed25519",
		"cut":               line[:70],
		"more in the blob":  line + "AAAA",
		"other type inside": "ssh-ed25519 " + strings.Fields(ecLine)[1],
		"zero key":          NodeID{}.PublicLine(""),
		"two lines":         line + " a\n" + line,
		"NUL":               line + " \x00",
		"too long":          line + " " + strings.Repeat("c", maxPublicLine),
		"capitals":          strings.Replace(line, "ssh", "SSH", 1),
	} {
		if id, _, err := ParsePublicLine(s); err == nil || !id.IsZero() {
			t.Errorf("%s: got %v, %v", name, id, err)
		}
	}
	if _, _, err := ParsePublicLine(ecLine); !isType[*KeyTypeError](err) {
		t.Errorf("ECDSA: %v", err)
	}
}

func FuzzPublicLine(f *testing.F) {
	f.Add(testKey(f, 1).ID().PublicLine("a comment"))
	f.Add(testKey(f, 2).ID().PublicLine("\xff\u009b"))
	f.Fuzz(func(t *testing.T, s string) {
		id, comment, err := ParsePublicLine(s)
		if err != nil {
			return
		}
		line := id.PublicLine(comment)
		id2, comment2, err := ParsePublicLine(line)
		if err != nil || id2 != id || comment2 != comment || id2.PublicLine(comment2) != line {
			t.Fatalf("%q became %q: %v", s, line, err)
		}
	})
}
