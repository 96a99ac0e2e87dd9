package ckt_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	ckt "ckt.local"
)

// A server that calls its client: it starts a peer on the node that has just
// opened a circuit to it, over the connection that is there, and talks to that.
func Example_serverCallsClient() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := serverCallsClient(ctx); err != nil {
		fmt.Println("failed:", err)
	}
	// Output:
	// the client's echo says "how are you?"
	// it is the client that called: true
}

func serverCallsClient(ctx context.Context) error {
	srv, cli, err := pair(ctx, "echo", echo)
	if err != nil {
		return err
	}
	defer srv.Close()
	defer cli.Close()
	if err := srv.PeerAPI.RegisterPeerServiceFunc("desk", callBack); err != nil {
		return err
	}
	desk, err := srv.PeerAPI.StartLocalPeer(ctx, "desk")
	if err != nil {
		return err
	}
	return runPeer(ctx, cli, "guest", func(me *ckt.LocalPeer, ctx context.Context) error {
		c, _, err := me.NewCircuitToPeerURL(desk.URL(), &ckt.Fragment{FragSubject: "call me back"}, 0)
		if err != nil {
			return err
		}
		defer c.Close()
		f, err := next(ctx, c)
		if err != nil {
			return err
		}
		fmt.Printf("the client's echo says %q\n", f.Payload)
		fmt.Println("it is the client that called:", f.Args["called"] == cli.ID().String())
		return nil
	})
}

// callBack is a service that calls back the node of everybody who opens a
// circuit to it, and tells what it has heard there.
func callBack(me *ckt.LocalPeer, ctx context.Context, circuits <-chan *ckt.Circuit) error {
	for {
		select {
		case c := <-circuits:
			c.CloseWith(callBackOne(me, ctx, c)) // nil is a clean close
		case <-ctx.Done():
			return nil
		}
	}
}

func callBackOne(me *ckt.LocalPeer, ctx context.Context, c *ckt.Circuit) error {
	// The node ID is enough: it is connected.
	caller := c.RemoteNodeID().String()
	peerURL, _, err := me.Node().PeerAPI.StartRemotePeer(ctx, "echo", caller, 5*time.Second)
	if err != nil {
		return err
	}
	back, _, err := me.NewCircuitToPeerURL(peerURL, nil, 0)
	if err != nil {
		return err
	}
	defer back.Close()
	f, err := ask(ctx, back, &ckt.Fragment{Payload: []byte("how are you?")})
	if err != nil {
		return err
	}
	return c.Send(ctx, &ckt.Fragment{Payload: f.Payload, Args: map[string]string{"called": back.RemoteNodeID().String()}})
}

// Graceful close: what was sent before Close arrives, and the cause of the
// other side's Context says how the circuit ended. A clean close is one that
// somebody made: a node that is closed while a circuit is open delivers what
// was sent too, but does not say that it is all.
func Example_gracefulClose() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := gracefulClose(ctx); err != nil {
		fmt.Println("failed:", err)
	}
	// Output:
	// 50 fragments, then a clean close
	// 50 fragments, then the other side gave up: out of paper
	// 50 fragments, then the other side gave up: peer: node closed
}

func gracefulClose(ctx context.Context) error {
	ends := make(chan string, 1)
	srv, cli, err := pair(ctx, "count", counter(ends))
	if err != nil {
		return err
	}
	defer srv.Close()
	defer cli.Close()
	peerURL, _, err := cli.PeerAPI.StartRemotePeer(ctx, "count", srv.URL(), 5*time.Second)
	if err != nil {
		return err
	}
	err = runPeer(ctx, cli, "sender", func(me *ckt.LocalPeer, ctx context.Context) error {
		for _, reason := range []error{nil, errors.New("out of paper")} {
			c, err := sendFifty(ctx, me, peerURL)
			if err != nil {
				return err
			}
			c.CloseWith(reason) // without a reason it is Close
			select {
			case end := <-ends:
				fmt.Println(end)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := closeNodeFirst(ctx, cli, peerURL); err != nil {
		return err
	}
	fmt.Println(<-ends)
	return nil
}

// closeNodeFirst closes the node while a circuit is open. For a clean close
// the peer would have to close the circuit before.
func closeNodeFirst(ctx context.Context, node *ckt.Node, peerURL string) error {
	sent := make(chan struct{})
	err := node.PeerAPI.RegisterPeerServiceFunc("careless", func(me *ckt.LocalPeer, ctx context.Context, _ <-chan *ckt.Circuit) error {
		if _, err := sendFifty(ctx, me, peerURL); err != nil {
			return err
		}
		close(sent)
		<-ctx.Done()
		return nil
	})
	if err != nil {
		return err
	}
	careless, err := node.PeerAPI.StartLocalPeer(ctx, "careless")
	if err != nil {
		return err
	}
	select {
	case <-sent:
		return node.Close()
	case <-careless.Done():
		return careless.Err()
	}
}

// sendFifty opens a circuit and sends fifty fragments on it.
func sendFifty(ctx context.Context, me *ckt.LocalPeer, peerURL string) (*ckt.Circuit, error) {
	c, _, err := me.NewCircuitToPeerURL(peerURL, nil, 0)
	if err != nil {
		return nil, err
	}
	for i := range 50 {
		if err := c.Send(ctx, &ckt.Fragment{FragPart: int64(i)}); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// counter returns a service that counts what arrives on one circuit at a time,
// in the usual select loop, and tells ends how each ended.
func counter(ends chan<- string) ckt.PeerServiceFunc {
	return func(me *ckt.LocalPeer, ctx context.Context, circuits <-chan *ckt.Circuit) error {
		for {
			select {
			case c := <-circuits:
				ends <- count(c)
			case <-ctx.Done():
				return nil
			}
		}
	}
}

func count(c *ckt.Circuit) string {
	n := 0
	for {
		select {
		case _, ok := <-c.Reads:
			if ok {
				n++
				continue
			}
		case <-c.Context.Done():
		}
		// Reads is closed and the Context ends, one right after the other.
		<-c.Context.Done()
		cause := context.Cause(c.Context)
		if errors.Is(cause, ckt.ErrRemoteClosed) {
			return fmt.Sprintf("%d fragments, then a clean close", n)
		}
		if remote, ok := errors.AsType[*ckt.RemoteError](cause); ok {
			return fmt.Sprintf("%d fragments, then the other side gave up: %s", n, remote.Reason)
		}
		return fmt.Sprintf("%d fragments, then %v", n, cause)
	}
}
