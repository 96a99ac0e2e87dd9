package quic

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
	"ckt.local/transport/trust"
)

// Streams that nobody accepts are in the account of who has opened them, also
// those that carry a byte.
func TestStreamsThatNobodyAcceptsAreBooked(t *testing.T) {
	const bound = 1 << 20
	ledger := bounded(limit.Transport{ReceivePerNode: bound})
	e := endpointWith(t, Config{Ledger: ledger})
	here, err := dialTo(t, endpoint(t), e)
	if err != nil {
		t.Fatal(err)
	}
	there, err := e.Accept(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	open := func(n int) {
		for range n {
			s, err := here.OpenStream(t.Context())
			if err != nil {
				return
			}
			s.Write([]byte{1})
		}
	}
	// What is accepted is given back, so that any number may come in turn.
	const few = connectionWindow/streamCost + 100
	for range 3 {
		open(few)
		until(t, "some are booked", func() bool { return used(ledger, limit.Receive) > 0 })
		for range few {
			s, err := there.AcceptStream(within(t, 20*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			s.Reset(0)
		}
		until(t, "all is given back", func() bool { return used(ledger, limit.Receive) == 0 })
	}
	// More of them than fit end the connection, and no other.
	open((connectionWindow+bound)/streamCost + 100)
	select {
	case <-here.Context().Done():
	case <-within(t, 20*time.Second).Done():
		t.Fatal("the connection lives on")
	}
	if r, ok := errors.AsType[*transport.RemoteError](context.Cause(here.Context())); !ok || r.Code != transport.CodeLimit {
		t.Errorf("it has ended with %v, want CodeLimit", context.Cause(here.Context()))
	}
	until(t, "all is given back", func() bool { return used(ledger, limit.Receive) == 0 && used(ledger, limit.Conns) == 0 })
}

// Nodes with statements of one key have one account.
func TestHeirsShareTheConnectionsOfTheirKey(t *testing.T) {
	old := newKey(t)
	ledger := bounded(limit.Transport{ConnsPerNode: 2})
	e := endpointWith(t, Config{Ledger: ledger, Authorize: func(key ed25519.PublicKey, _ net.Addr) error {
		if identity.NodeIDOf(key) != old.ID() {
			return errors.New("another key")
		}
		return nil
	}})
	for i := range 3 {
		next := newKey(t)
		from := time.Now().Add(-time.Minute)
		r, err := trust.NewRotation(old, next, from, from.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		_, err = dialTo(t, endpointWith(t, Config{Key: next, Rotation: r, HandshakeTimeout: time.Second}), e)
		if i < 2 && err != nil {
			t.Fatalf("heir %d: %v", i, err)
		}
		l, limited := errors.AsType[*transport.LimitError](err)
		if i == 2 && (!limited || l.What != "connections of one node" || l.Limit != 2) {
			t.Errorf("the third heir: %v, want the limit of 2 connections of one node", err)
		}
	}
	if u := ledger.Uses()[limit.Conns]; u.Top != old.ID() || u.TopUsed != 2 {
		t.Errorf("the account: %+v, want 2 of the old key", u)
	}
}

// Whoever keeps a log of decisions is told of those of the endpoint.
func TestRefusedIsTold(t *testing.T) {
	type refusal struct {
		key identity.NodeID
		why string
	}
	var mu sync.Mutex
	var told []refusal
	e := endpointWith(t, Config{
		Ledger:        bounded(limit.Transport{ConnsPerNode: 1}),
		PreSharedKeys: [][]byte{[]byte("a key of enough bytes, that is 32")},
		Refused: func(key identity.NodeID, _ net.Addr, why error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, refusal{key, why.Error()})
		},
	})
	key := newKey(t)
	if _, err := dialTo(t, endpointWith(t, Config{Key: key}), e); err == nil {
		t.Fatal("connected without the pre-shared key")
	}
	until(t, "it is told", func() bool { mu.Lock(); defer mu.Unlock(); return len(told) > 0 })
	if r := told[0]; r.key != key.ID() || !strings.Contains(r.why, "pre-shared") {
		t.Errorf("told of %v: %s", r.key, r.why)
	}
}
