package trust

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/agent"

	"ckt.local/transport/identity"
)

var someday = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

const month = 30 * 24 * time.Hour

func rotate(t testing.TB, old, next *identity.Key) *Rotation {
	t.Helper()
	r, err := NewRotation(old, next, someday, someday.Add(month))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// certOf returns the certificate of k with extensions.
func certOf(t testing.TB, k *identity.Key, extensions ...pkix.Extension) *x509.Certificate {
	t.Helper()
	c, err := identity.Certificate(k, extensions...)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

func TestRotation(t *testing.T) {
	old, next := testKey(t, 1), testKey(t, 2)
	r, err := NewRotation(old, next, someday.Add(999).Local(), someday.Add(month+999))
	if err != nil {
		t.Fatal(err)
	}
	if r.Old != old.ID() || r.New != next.ID() || !r.From.Equal(someday) || !r.Until.Equal(someday.Add(month)) {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct {
		now   time.Time
		holds bool
	}{{someday.Add(-1), false}, {someday, true}, {r.Until.Add(-1), true}, {r.Until, false}} {
		if r.Holds(c.now) != c.holds {
			t.Errorf("at %v: %v", c.now, !c.holds)
		}
	}
	back, err := ParseRotation("# who\n\n" + r.String() + " \r\n# what\n")
	if err != nil || *back != *r {
		t.Errorf("%s is read as %v, %v", r, back, err)
	}
	got, err := FromCertificate(certOf(t, next, r.Extension()), someday)
	if err != nil || got == nil || *got != *r {
		t.Errorf("from the certificate: %v, %v", got, err)
	}
}

func TestRotationsThatCannotBeMade(t *testing.T) {
	old, next := testKey(t, 1), testKey(t, 2)
	const days90 = 90 * 24 * time.Hour
	if _, err := NewRotation(old, next, someday, someday.Add(days90)); err != nil {
		t.Errorf("90 days: %v", err)
	}
	for name, c := range map[string]struct {
		old, next   *identity.Key
		from, until time.Time
	}{
		"more than 90 days":     {old, next, someday, someday.Add(days90 + time.Second)},
		"no time":               {old, next, someday, someday},
		"no time of a second":   {old, next, someday, someday.Add(999 * time.Millisecond)},
		"backwards":             {old, next, someday, someday.Add(-month)},
		"no beginning":          {old, next, time.Time{}, someday},
		"before 1970":           {old, next, time.Unix(-5, 0), time.Unix(5, 0)},
		"after 9999":            {old, next, time.Unix(lastSecond, 0), time.Unix(lastSecond+1, 0)},
		"beyond all calendars":  {old, next, time.Unix(1<<62, 0), time.Unix(1<<62+1, 0)},
		"seconds that wrap":     {old, next, time.Unix(1<<63-9, 0), time.Unix(1<<63-2, 0)},
		"to itself":             {old, old, someday, someday.Add(month)},
		"no old key":            {nil, next, someday, someday.Add(month)},
		"no new key":            {old, nil, someday, someday.Add(month)},
		"a signer with a habit": {oddKey(t, 1, 63), next, someday, someday.Add(month)},
		"one with long ones":    {old, oddKey(t, 2, 65), someday, someday.Add(month)},
		"one with wrong ones":   {old, oddKey(t, 2, 64), someday, someday.Add(month)},
	} {
		if r, err := NewRotation(c.old, c.next, c.from, c.until); err == nil || r != nil {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

// An oddSigner makes signatures of any length, none of them right.
type oddSigner struct {
	pub crypto.PublicKey
	n   int
}

func (s oddSigner) Public() crypto.PublicKey { return s.pub }

func (s oddSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, s.n), nil
}

func oddKey(t *testing.T, seed byte, n int) *identity.Key {
	k, err := identity.NewKey(oddSigner{testKey(t, seed).Public(), n})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Who changes anything has made a statement that nobody has signed.
func TestForgedRotations(t *testing.T) {
	old, next, thief := testKey(t, 1), testKey(t, 2), testKey(t, 3)
	good := rotate(t, old, next)
	for name, forge := range map[string]func(*Rotation){
		"another old key":       func(r *Rotation) { r.Old = thief.ID() },
		"another new key":       func(r *Rotation) { r.New = thief.ID() },
		"an earlier beginning":  func(r *Rotation) { r.From = r.From.Add(-time.Second) },
		"a later end":           func(r *Rotation) { r.Until = r.Until.Add(time.Second) },
		"turned round":          func(r *Rotation) { r.Old, r.New, r.byOld, r.byNew = r.New, r.Old, r.byNew, r.byOld },
		"signatures in turn":    func(r *Rotation) { r.byOld, r.byNew = r.byNew, r.byOld },
		"one signature twice":   func(r *Rotation) { r.byOld = r.byNew },
		"a bit of the old's":    func(r *Rotation) { r.byOld[0] ^= 1 },
		"a bit of the new's":    func(r *Rotation) { r.byNew[63] ^= 0x80 },
		"not signed":            func(r *Rotation) { *r = Rotation{Old: r.Old, New: r.New, From: r.From, Until: r.Until} },
		"stolen by its new key": func(r *Rotation) { r.New, r.byNew = thief.ID(), rotate(t, old, thief).byNew },
	} {
		r := *good
		forge(&r)
		if err := r.Verify(); err == nil {
			t.Errorf("%s: verified", name)
		}
		if got, err := ParseRotation(r.String()); err == nil {
			t.Errorf("%s: read as %v", name, got)
		}
		for _, k := range []*identity.Key{old, next, thief} {
			if got, err := FromCertificate(certOf(t, k, r.Extension()), someday); err == nil || got != nil {
				// The whole statement of another key's is one, but not here.
				t.Errorf("%s: in a certificate: %v, %v", name, got, err)
			}
		}
	}
	if good.Verify() != nil {
		t.Error("the good one was changed, too")
	}
}

func TestCertificatesWithoutStatement(t *testing.T) {
	old, next := testKey(t, 1), testKey(t, 2)
	r := rotate(t, old, next)
	other := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}
	for name, c := range map[string]struct {
		cert *x509.Certificate
		now  time.Time
	}{
		"none":          {certOf(t, next), someday},
		"another one":   {certOf(t, next, other), someday},
		"not yet":       {certOf(t, next, r.Extension()), someday.Add(-1)},
		"not any more":  {certOf(t, next, r.Extension()), r.Until},
		"long not more": {certOf(t, next, r.Extension()), r.Until.Add(100 * month)},
	} {
		if got, err := FromCertificate(c.cert, c.now); got != nil || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	twice := *certOf(t, next, r.Extension())
	twice.Extensions = append(twice.Extensions, r.Extension())
	ec := *certOf(t, next, r.Extension())
	ec.PublicKey = "another kind"
	change := func(f func(value []byte) []byte) *x509.Certificate {
		e := r.Extension()
		e.Value = f(bytes.Clone(e.Value))
		return certOf(t, next, e)
	}
	for name, cert := range map[string]*x509.Certificate{
		"twice":            &twice,
		"of another key":   certOf(t, old, r.Extension()),
		"of another kind":  &ec,
		"another version":  change(func(v []byte) []byte { v[len(rotationHead)] = 2; return v }),
		"another type":     change(func(v []byte) []byte { v[0] = 0x0c; return v }),
		"empty":            change(func([]byte) []byte { return nil }),
		"cut":              change(func(v []byte) []byte { return v[:len(v)-1] }),
		"with a tail":      change(func(v []byte) []byte { return append(v, 0) }),
		"oversized":        change(func(v []byte) []byte { return append(v, make([]byte, 1<<16)...) }),
		"text":             change(func(v []byte) []byte { return []byte(r.String()) }),
		"a bit of a time":  change(func(v []byte) []byte { v[len(rotationHead)+1+64+7] ^= 1; return v }),
		"times out of all": change(func(v []byte) []byte { copy(v[len(rotationHead)+1+64:], bytes.Repeat([]byte{0x7f}, 16)); return v }),
	} {
		for _, now := range []time.Time{someday, r.Until} {
			if got, err := FromCertificate(cert, now); got != nil || err == nil || len(err.Error()) > 300 {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
	}
}

// A node's certificate with a statement is still one that others take.
func TestCertificateWithRotationIsTaken(t *testing.T) {
	next := testKey(t, 2)
	cert := certOf(t, next, rotate(t, testKey(t, 1), next).Extension())
	key, err := identity.VerifyPeer(tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{cert}})
	if err != nil || identity.NodeIDOf(key) != next.ID() {
		t.Errorf("%v, %v", key, err)
	}
}

func TestRotationText(t *testing.T) {
	line := rotate(t, testKey(t, 1), testKey(t, 2)).String()
	word := strings.Fields(line)
	with := func(i int, s string) string {
		w := append([]string{}, word...)
		w[i] = s
		return strings.Join(w, " ")
	}
	for name, text := range map[string]string{
		"nothing":           "",
		"a comment":         "# " + line,
		"two":               line + "\n" + line,
		"something behind":  line + " x",
		"cut":               strings.Join(word[:6], " "),
		"another version":   with(0, "ckt-rotation-v2"),
		"no node ID":        with(1, "host"),
		"ID in capitals":    with(2, strings.ToUpper(word[2])),
		"another zone":      with(3, "2026-07-01T12:00:00+00:00"),
		"a fraction":        with(3, "2026-07-01T12:00:00.5Z"),
		"a comma":           with(3, "2026-07-01T12:00:00,0Z"),
		"no such day":       with(4, "2026-02-30T12:00:00Z"),
		"a short signature": with(5, "AAAA"),
		"stray base64 bits": with(6, word[6][:85]+"B=="),
		"not base64":        with(6, "!"),
		"too long":          line + strings.Repeat("\n", maxRotation),
	} {
		if r, err := ParseRotation(text); err == nil || r != nil || len(err.Error()) > 500 {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

func TestRotationFile(t *testing.T) {
	path := safePath(t)
	r := rotate(t, testKey(t, 1), testKey(t, 2))
	if _, err := ReadRotation(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	if back, err := ReadRotation(path); err != nil || *back != *r {
		t.Errorf("%v, %v", back, err)
	}
	if err := r.Write(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	write(t, path, r.String()[1:])
	if _, err := ReadRotation(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a broken file: %v", err)
	}
}

// serveAgent serves an ssh-agent with keys until the test ends.
func serveAgent(t *testing.T, keys ...ed25519.PrivateKey) (socket string) {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			t.Fatal(err)
		}
	}
	// Not t.TempDir: the path of a socket has room for some 100 bytes only.
	dir, err := os.MkdirTemp("", "ckt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Skipf("no unix sockets here: %v", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_ = agent.ServeAgent(ring, conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return socket
}

func TestRotationByAgent(t *testing.T) {
	private := func(seed byte) ed25519.PrivateKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	}
	socket := serveAgent(t, private(1), private(2))
	old, closer, err := identity.DialAgent(socket, testID(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	next, closer2, err := identity.DialAgent(socket, testID(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	defer closer2.Close()
	r := rotate(t, old, next)
	if *r != *rotate(t, testKey(t, 1), testKey(t, 2)) {
		t.Error("an agent signs something else")
	}
	closer.Close()
	_, err = NewRotation(old, next, someday, someday.Add(month))
	if _, ok := errors.AsType[*identity.AgentError](err); !ok {
		t.Errorf("without the agent: %v", err)
	}
}
