package quic_test

import (
	"crypto/ed25519"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/quic"
	"ckt.local/transport/simnet"
	"ckt.local/transport/trust"
)

const day = 24 * time.Hour

func rotation(t *testing.T, from, to *identity.Key, begin, end time.Time) *trust.Rotation {
	t.Helper()
	r, err := trust.NewRotation(from, to, begin, end)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// only lets in those keys, and nobody else.
func only(keys ...*identity.Key) func(ed25519.PublicKey, net.Addr) error {
	return func(key ed25519.PublicKey, _ net.Addr) error {
		if slices.ContainsFunc(keys, func(k *identity.Key) bool { return k.ID() == identity.NodeIDOf(key) }) {
			return nil
		}
		return errors.New("unknown key")
	}
}

var errRevoked = errors.New("revoked")

// none has those keys revoked.
func none(keys ...*identity.Key) func(ed25519.PublicKey) error {
	return func(key ed25519.PublicKey) error {
		if only(keys...)(key, nil) == nil {
			return errRevoked
		}
		return nil
	}
}

func TestRotatedKey(t *testing.T) {
	old, fresh, other := generate(t), generate(t), generate(t)
	inSim(t, simnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
		now := time.Now()
		statement := rotation(t, old, fresh, now.Add(-day), now.Add(day))
		for _, test := range []struct {
			name     string
			shown    *trust.Rotation
			listed   []*identity.Key
			revoked  []*identity.Key
			in       bool // what dials with the new key is let in
			standsIn bool
		}{
			{"the old one is listed", statement, []*identity.Key{old}, nil, true, true},
			{"the new one is listed", statement, []*identity.Key{fresh}, nil, true, true},
			{"neither is listed", statement, []*identity.Key{other}, nil, false, false},
			{"no statement", nil, []*identity.Key{old}, nil, false, false},
			{"no statement, the new one is listed", nil, []*identity.Key{fresh}, nil, true, false},
			{"over", rotation(t, old, fresh, now.Add(-3*day), now.Add(-day)), []*identity.Key{old}, nil, false, false},
			{"not yet", rotation(t, old, fresh, now.Add(day), now.Add(2*day)), []*identity.Key{old}, nil, false, false},
			{"over, the new one is listed", rotation(t, old, fresh, now.Add(-3*day), now.Add(-day)), []*identity.Key{fresh}, nil, true, false},
			{"the old one is revoked", statement, []*identity.Key{old, fresh}, []*identity.Key{old}, false, false},
			{"the new one is revoked", statement, []*identity.Key{old, fresh}, []*identity.Key{fresh}, false, false},
			{"revoked and listed", nil, []*identity.Key{fresh}, []*identity.Key{fresh}, false, false},
		} {
			a := simListenOn(t, n.Host(alice), quic.Config{Key: fresh, Rotation: test.shown})
			b := simListenOn(t, n.Host(bob), quic.Config{Key: other, Authorize: only(test.listed...), Revoked: none(test.revoked...)})
			_, err := a.Dial(t.Context(), simAddr(bob), b.Key())
			if !test.in {
				r, ok := errors.AsType[*transport.RemoteError](err)
				if !ok || r.Code != transport.CodeRefused || r.Reason != "this key is not authorised" {
					t.Errorf("%s: %v, want CodeRefused, and not why", test.name, err)
				}
			} else if err != nil {
				t.Errorf("%s: %v", test.name, err)
			} else {
				c, err := b.Accept(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				info := c.Info()
				if !info.RemoteKey.Equal(a.Key()) {
					t.Errorf("%s: the Conn has another key", test.name)
				}
				if standsIn := info.OldKey.Equal(old.ID().Key()) && info.OldUntil.Equal(now.Add(day).Truncate(time.Second)); standsIn != test.standsIn {
					t.Errorf("%s: the old key is %x until %v", test.name, info.OldKey, info.OldUntil)
				}
			}
			// Found at an address without a pin, it is judged in the same way.
			_, err = b.Dial(t.Context(), simAddr(alice), nil)
			if (err == nil) != test.in {
				t.Errorf("%s: Dial without a pin: %v", test.name, err)
			}
			if _, ok := errors.AsType[*transport.UnauthorizedError](err); err != nil && !ok {
				t.Errorf("%s: Dial without a pin: %v, want UnauthorizedError", test.name, err)
			}
			a.Close()
			b.Close()
		}
	})
}

func TestRotatedKeyAndPins(t *testing.T) {
	old, fresh, other := generate(t), generate(t), generate(t)
	inSim(t, simnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, n *simnet.Network) {
		now := time.Now()
		statement := rotation(t, old, fresh, now.Add(-day), now.Add(time.Hour))
		dial := func(pin *identity.Key, shown *trust.Rotation, revoked ...*identity.Key) error {
			a := simListenOn(t, n.Host(alice), quic.Config{Key: other, Revoked: none(revoked...)})
			b := simListenOn(t, n.Host(bob), quic.Config{Key: fresh, Rotation: shown})
			defer a.Close()
			defer b.Close()
			c, err := a.Dial(t.Context(), simAddr(bob), pin.ID().Key())
			if err != nil {
				return err
			}
			// Whoever asks for the old key, or the new one, gets this Conn.
			for _, addr := range []string{simAddr(bob), ""} {
				if again, err := a.Dial(t.Context(), addr, pin.ID().Key()); err != nil || again != c {
					t.Errorf("Dial(%q) of what is connected: %v, the same %v", addr, err, again == c)
				}
			}
			if !c.Info().RemoteKey.Equal(b.Key()) || shown != nil && !c.Info().OldKey.Equal(old.ID().Key()) {
				t.Errorf("the Conn has the keys %x and %x", c.Info().RemoteKey, c.Info().OldKey)
			}
			return nil
		}
		wrong := func(err error) bool {
			_, ok := errors.AsType[*transport.WrongKeyError](err)
			return ok
		}
		if err := dial(old, statement); err != nil {
			t.Errorf("the old key is pinned: %v", err)
		}
		if err := dial(fresh, statement); err != nil {
			t.Errorf("the new key is pinned: %v", err)
		}
		if err := dial(generate(t), statement); !wrong(err) {
			t.Errorf("another key is pinned: %v, want WrongKeyError", err)
		}
		if err := dial(old, nil); !wrong(err) {
			t.Errorf("the old key is pinned, and there is no statement: %v, want WrongKeyError", err)
		}
		for _, k := range []*identity.Key{old, fresh} {
			for _, pin := range []*identity.Key{old, fresh} {
				if err := dial(pin, statement, k); !errors.Is(err, errRevoked) {
					t.Errorf("revoked: %v, want UnauthorizedError that says so", err)
				}
			}
		}
		// Somebody else's statement does not serve.
		forged := rotation(t, old, other, now.Add(-day), now.Add(day))
		pc, err := n.Host(bob).Listen(simPort)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := quic.Listen(quic.Config{Conn: pc, Key: fresh, Rotation: forged}); err == nil {
			e.Close()
			t.Error("a rotation to another key was taken")
		}
		time.Sleep(2 * time.Hour)
		if err := dial(old, statement); !wrong(err) {
			t.Errorf("the old key is pinned, and the statement is over: %v, want WrongKeyError", err)
		}
	})
}

func TestRevokedWhileConnected(t *testing.T) {
	// What is open is not returned any more, with a pin or without.
	other := generate(t)
	var revoked []*identity.Key
	a := listen(t, quic.Config{Revoked: func(key ed25519.PublicKey) error { return none(revoked...)(key) }})
	b := listen(t, quic.Config{Key: other})
	join(t, a, b)
	revoked = append(revoked, other)
	for _, pin := range []ed25519.PublicKey{nil, b.Key()} {
		if _, err := a.Dial(seconds(t, 20), b.Addr().String(), pin); !errors.Is(err, errRevoked) {
			t.Errorf("Dial: %v, want that the key is revoked", err)
		}
	}
}

func TestForgedRotation(t *testing.T) {
	// A certificate whose statement is broken, or about another key, is none.
	mine, victim, other := generate(t), generate(t), generate(t)
	e := listen(t, quic.Config{Key: generate(t), Authorize: only(victim, mine)})
	now := time.Now()
	broken := rotation(t, victim, mine, now.Add(-day), now.Add(day)).Extension()
	broken.Value = slices.Clone(broken.Value)
	broken.Value[len(broken.Value)-1] ^= 1
	stolen := rotation(t, victim, other, now.Add(-day), now.Add(day)).Extension()
	for name, ext := range map[string]struct{ value []byte }{
		"broken":  {broken.Value},
		"stolen":  {stolen.Value},
		"empty":   {nil},
		"garbage": {[]byte("please let me in")},
	} {
		x := broken
		x.Value = ext.value
		cert, err := identity.Certificate(mine, x)
		if err != nil {
			t.Fatal(err)
		}
		qc, err := rawDial(t, e, rawTLS(cert))
		if err == nil {
			err = rawEnd(t, qc)
		}
		wantAlert(t, name, err)
	}
}
