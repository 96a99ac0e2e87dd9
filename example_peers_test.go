package ckt_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ckt "ckt.local"
)

// Two peers in one process: both run on one node, and talk as they would over
// a network.
func Example_twoPeers() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := twoPeers(ctx); err != nil {
		fmt.Println("failed:", err)
	}
	// Output:
	// ping 1
	// ping 2
	// ping 3
}

func twoPeers(ctx context.Context) error {
	node, err := ckt.NewServer(ckt.Config{ListenAddr: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer node.Close()
	if err := node.PeerAPI.RegisterPeerServiceFunc("echo", echo); err != nil {
		return err
	}
	answering, err := node.PeerAPI.StartLocalPeer(ctx, "echo")
	if err != nil {
		return err
	}
	return runPeer(ctx, node, "asking", func(me *ckt.LocalPeer, ctx context.Context) error {
		c, _, err := me.NewCircuitToPeerURL(answering.URL(), nil, 0)
		if err != nil {
			return err
		}
		defer c.Close()
		for i := range 3 {
			f, err := ask(ctx, c, &ckt.Fragment{FragPart: int64(i + 1), FragSubject: "ping"})
			if err != nil {
				return err
			}
			fmt.Println(f.FragSubject, f.FragPart)
		}
		return nil
	})
}

// Many circuits between the same two peers: each has an order and an end of
// its own.
func Example_manyCircuits() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := manyCircuits(ctx); err != nil {
		fmt.Println("failed:", err)
	}
	// Output:
	// [circuit 0 circuit 1 circuit 2 circuit 3]
	// open after closing one: 3
}

func manyCircuits(ctx context.Context) error {
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
	return runPeer(ctx, cli, "many", func(me *ckt.LocalPeer, ctx context.Context) error {
		first, _, err := me.NewCircuitToPeerURL(peerURL, nil, 0)
		if err != nil {
			return err
		}
		circuits := []*ckt.Circuit{first}
		for range 3 {
			c, _, err := first.NewCircuit()
			if err != nil {
				return err
			}
			circuits = append(circuits, c)
		}
		answers, err := askAll(ctx, circuits)
		if err != nil {
			return err
		}
		fmt.Println(answers)

		first.Close()
		<-first.Context.Done()
		fmt.Println("open after closing one:", me.OpenCircuitCount())
		return nil // ends the peer, and with it the other three
	})
}

// askAll uses all circuits at once and returns the answers, sorted.
func askAll(ctx context.Context, circuits []*ckt.Circuit) ([]string, error) {
	answers := make([]string, len(circuits))
	errs := make([]error, len(circuits))
	var asking sync.WaitGroup
	for i, c := range circuits {
		asking.Go(func() {
			f, err := ask(ctx, c, &ckt.Fragment{FragSubject: fmt.Sprint("circuit ", i)})
			if err != nil {
				errs[i] = err
				return
			}
			answers[i] = f.FragSubject
		})
	}
	asking.Wait()
	slices.Sort(answers)
	return answers, errors.Join(errs...)
}
