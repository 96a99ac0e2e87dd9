package ckt_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	ckt "ckt.local"
)

// echo sends every fragment of every circuit back, until its peer is to end.
func echo(me *ckt.LocalPeer, ctx context.Context, circuits <-chan *ckt.Circuit) error {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		select {
		case c := <-circuits:
			open.Go(func() { c.CloseWith(echoOne(ctx, c)) }) // nil is a clean close
		case <-ctx.Done():
			return nil
		}
	}
}

// echoOne sends back what comes until the circuit or ctx ends.
func echoOne(ctx context.Context, c *ckt.Circuit) error {
	for f, err := range c.Fragments(ctx) {
		if err != nil {
			return err
		}
		if err := c.Send(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// pair returns two nodes that trust one another, the second connected to the
// first. Both register the service.
func pair(ctx context.Context, name string, service ckt.PeerServiceFunc) (srv, cli *ckt.Node, err error) {
	serverKey, err := ckt.GenerateKey()
	if err != nil {
		return nil, nil, err
	}
	clientKey, err := ckt.GenerateKey()
	if err != nil {
		return nil, nil, err
	}
	srv, err = ckt.NewServer(ckt.Config{
		ListenAddr: "127.0.0.1:0",
		Identity:   serverKey,
		Authorize:  ckt.AllowNodes(clientKey.ID()),
	})
	if err != nil {
		return nil, nil, err
	}
	if err := srv.PeerAPI.RegisterPeerServiceFunc(name, service); err != nil {
		srv.Close()
		return nil, nil, err
	}
	cli, err = ckt.NewClient(ctx, srv.URL(), ckt.Config{
		ListenAddr: "127.0.0.1:0",
		Identity:   clientKey,
		Authorize:  ckt.AllowNodes(serverKey.ID()),
	})
	if err != nil {
		srv.Close()
		return nil, nil, err
	}
	if err := cli.PeerAPI.RegisterPeerServiceFunc(name, service); err != nil {
		cli.Close()
		srv.Close()
		return nil, nil, err
	}
	return srv, cli, nil
}

// runPeer starts a peer on node that runs f, and waits for it to end. Peers
// talk to peers, so whoever opens a circuit is one too.
func runPeer(ctx context.Context, node *ckt.Node, name string, f func(me *ckt.LocalPeer, ctx context.Context) error) error {
	err := node.PeerAPI.RegisterPeerServiceFunc(name, func(me *ckt.LocalPeer, ctx context.Context, _ <-chan *ckt.Circuit) error {
		return f(me, ctx)
	})
	if err != nil {
		return err
	}
	p, err := node.PeerAPI.StartLocalPeer(ctx, name)
	if err != nil {
		return err
	}
	<-p.Done()
	return p.Err()
}

// ask sends a fragment and returns the next that comes back.
func ask(ctx context.Context, c *ckt.Circuit, f *ckt.Fragment) (*ckt.Fragment, error) {
	if err := c.Send(ctx, f); err != nil {
		return nil, err
	}
	return next(ctx, c)
}

// next returns the next fragment of a circuit.
func next(ctx context.Context, c *ckt.Circuit) (*ckt.Fragment, error) {
	for f, err := range c.Fragments(ctx) {
		return f, err
	}
	return nil, ckt.ErrRemoteClosed // a clean close ends the range without a word
}

// Hello: a server, a client, a peer that the client starts on the server, and
// a circuit to it.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := hello(ctx); err != nil {
		fmt.Println("failed:", err)
	}
	// Output:
	// the echo says "hello"
	// and then "again"
}

func hello(ctx context.Context) error {
	srv, cli, err := pair(ctx, "echo", echo)
	if err != nil {
		return err
	}
	defer srv.Close()
	defer cli.Close()

	peerURL, _, err := cli.PeerAPI.StartRemotePeer(ctx, "echo", srv.URL(), 5*time.Second)
	if err != nil {
		return err
	}
	return runPeer(ctx, cli, "caller", func(me *ckt.LocalPeer, ctx context.Context) error {
		c, _, err := me.NewCircuitToPeerURL(peerURL, &ckt.Fragment{Payload: []byte("hello")}, 0)
		if err != nil {
			return err
		}
		defer c.Close()
		f, err := next(ctx, c)
		if err != nil {
			return err
		}
		fmt.Printf("the echo says %q\n", f.Payload)
		f, err = ask(ctx, c, &ckt.Fragment{Payload: []byte("again")})
		if err != nil {
			return err
		}
		fmt.Printf("and then %q\n", f.Payload)
		return nil
	})
}
