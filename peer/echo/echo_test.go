package echo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/echo"
	"ckt.local/peer/peertest"
)

const patience = 20 * time.Second

// caller starts echo on node 1 and a peer to call it on node 0.
func caller(t *testing.T) (lp *peer.LocalPeer, url string, ctx context.Context) {
	t.Helper()
	cluster := peertest.NewCluster(t, 2)
	cluster.Register(echo.Name, echo.Serve)
	cluster.Register("caller", func(_ *peer.LocalPeer, ctx0 context.Context, _ <-chan *circuit.Circuit) error {
		<-ctx0.Done()
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	url, _, err := cluster.Nodes[0].PeerAPI.StartRemotePeer(ctx, echo.Name, cluster.Nodes[1].URL(), patience)
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Start(0, "caller"), url, ctx
}

func open(t *testing.T, lp *peer.LocalPeer, url string, first *circuit.Fragment) *circuit.Circuit {
	t.Helper()
	c, _, err := lp.NewCircuitToPeerURL(url, first, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestEveryFieldComesBackInOrder(t *testing.T) {
	lp, url, ctx := caller(t)
	sent := []*circuit.Fragment{
		{FragOp: 7, FragSubject: "a subject", FragPart: -3, Args: map[string]string{"k": "v", "": "empty"}, Payload: []byte("first")},
		{},
		{FragOp: -1, Err: "an error is sent back, too"},
		{FragOp: 9, Payload: bytes.Repeat([]byte{0xff}, 1<<20)},
	}
	c := open(t, lp, url, sent[0])
	for _, f := range sent[1:] {
		if err := c.Send(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	i := 0
	for got, err := range c.Fragments(ctx) {
		if got == nil {
			t.Fatalf("after %d fragments: %v", i, err)
		}
		want := sent[i]
		if got.FragOp != want.FragOp || got.FragSubject != want.FragSubject || got.FragPart != want.FragPart ||
			!maps.Equal(got.Args, want.Args) || !bytes.Equal(got.Payload, want.Payload) || got.Err != want.Err {
			t.Errorf("fragment %d is not what was sent: op %d, subject %q, part %d, args %v, %d bytes, err %q",
				i, got.FragOp, got.FragSubject, got.FragPart, got.Args, len(got.Payload), got.Err)
		}
		if got.ServiceName != echo.Name || got.FromPeerID == lp.PeerID() {
			t.Errorf("fragment %d says that it is from %q %s", i, got.ServiceName, got.FromPeerID)
		}
		if i++; i == len(sent) {
			break
		}
	}
}

func TestSenderThatDoesNotReadWaits(t *testing.T) {
	lp, url, _ := caller(t)
	c := open(t, lp, url, nil)
	payload := make([]byte, 256<<10)
	// Two windows and both inboxes are full after a few MiB; 64 would mean
	// that somebody keeps everything.
	const enough = 256
	for n := range enough {
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		err := c.Send(short, &circuit.Fragment{Payload: payload})
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			t.Logf("waits after %d KiB", n*256)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("took %d MiB though nobody reads", enough/4)
}

func TestCircuitsAreIndependent(t *testing.T) {
	lp, url, ctx := caller(t)
	stuck := open(t, lp, url, nil)
	for stuck.SendOneWay(&circuit.Fragment{Payload: make([]byte, 64<<10)}) == nil {
		// until its window is full; nobody reads
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			text := fmt.Sprintf("circuit %d", i)
			c, _, err := lp.NewCircuitToPeerURL(url, &circuit.Fragment{FragSubject: text}, patience)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for f, err := range c.Fragments(ctx) {
				if err != nil || f.FragSubject != text {
					t.Errorf("%s: got %v, %v", text, f, err)
				}
				return
			}
			t.Errorf("%s: nothing came back", text)
		})
	}
	all.Wait()
}

func TestEndsWithItsPeer(t *testing.T) {
	cluster := peertest.NewCluster(t, 1)
	cluster.Register(echo.Name, echo.Serve)
	callee, caller := cluster.Start(0, echo.Name), cluster.Start(0, echo.Name)
	c := open(t, caller, callee.URL(), nil)
	callee.Close()
	select {
	case <-callee.Done():
	case <-time.After(patience):
		t.Fatal("the service does not return when its peer is closed")
	}
	if callee.Err() != nil {
		t.Errorf("closed peer ended with %v", callee.Err())
	}
	select {
	case <-c.Context.Done():
	case <-time.After(patience):
		t.Fatal("the circuit outlives the peer")
	}
	if cause := context.Cause(c.Context); !errors.Is(cause, circuit.ErrRemoteClosed) {
		t.Errorf("the circuit ended with %v", cause)
	}
}
