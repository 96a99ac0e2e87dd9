package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	ckt "ckt.local"
	"ckt.local/transport/limit"
)

// cktContender is the product as its documentation tells to use it.
type cktContender struct{}

var _ contender = cktContender{}

// The names of the contender and of the service behind it.
const (
	cktName    = "ckt"
	cktService = "bench"
)

func (cktContender) about() about {
	return about{
		name:   cktName,
		module: "ckt.local",
		settings: "default Config, resumption on, mutual authentication; a channel is a circuit. " +
			"Limits per node on circuits, openings and connections in a second are off, because one node does what many would",
		extras: []string{"idle100k"},
	}
}

// cktConfig lifts what holds one node back from doing the work of many.
func cktConfig() ckt.Config {
	return ckt.Config{
		ListenAddr: "127.0.0.1:0",
		Authorize:  ckt.AllowAll,
		Limits: limit.Limits{
			Transport: limit.Transport{ConnsPerSecond: -1, ConnsPerNode: -1, Streams: -1},
			Circuit: limit.Circuit{
				Circuits: -1, CircuitsPerNode: -1, OpensPerSecond: -1,
				Inbox: 8 << 30, InboxPerNode: 8 << 30, Replay: 8 << 30, ReplayPerNode: 8 << 30,
			},
			Peer: limit.Peer{StartsPerSecond: -1, StartedPerNode: -1},
		},
	}
}

func (cktContender) serve(crowd) (string, error) {
	node, err := ckt.NewServer(cktConfig())
	if err != nil {
		return "", err
	}
	if err := node.PeerAPI.RegisterPeerServiceFunc(cktService, cktServe); err != nil {
		return "", err
	}
	p, err := node.PeerAPI.StartLocalPeer(context.Background(), cktService)
	if err != nil {
		return "", err
	}
	return node.URL() + " " + p.URL(), nil
}

// cktServe answers each circuit in a goroutine of its own.
func cktServe(_ *ckt.LocalPeer, ctx context.Context, circuits <-chan *ckt.Circuit) error {
	for {
		select {
		case c := <-circuits:
			go answer(&cktChannel{c: c})
		case <-ctx.Done():
			return nil
		}
	}
}

func (cktContender) dial(ctx context.Context, _ crowd, addr string) (client, error) {
	nodeURL, peerURL, _ := strings.Cut(addr, " ")
	node, err := ckt.NewClient(ctx, nodeURL, cktConfig())
	if err != nil {
		return nil, err
	}
	// Peers talk to peers, so the client is one too.
	err = node.PeerAPI.RegisterPeerServiceFunc("client", func(_ *ckt.LocalPeer, ctx context.Context, _ <-chan *ckt.Circuit) error {
		<-ctx.Done()
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, node.Close())
	}
	p, err := node.PeerAPI.StartLocalPeer(context.Background(), "client")
	if err != nil {
		return nil, errors.Join(err, node.Close())
	}
	return &cktClient{node: node, peer: p, to: peerURL}, nil
}

type cktClient struct {
	node *ckt.Node
	peer *ckt.LocalPeer
	to   string
}

func (c *cktClient) open(first []byte) (channel, error) {
	var f *ckt.Fragment
	if first != nil {
		f = &ckt.Fragment{Payload: first}
	}
	circuit, _, err := c.peer.NewCircuitToPeerURL(c.to, f, 30*time.Second)
	if err != nil {
		return nil, err
	}
	return &cktChannel{c: circuit}, nil
}

func (c *cktClient) close() error { return c.node.Close() }

type cktChannel struct {
	c   *ckt.Circuit
	out ckt.Fragment // of the goroutine that sends
}

func (c *cktChannel) send(msg []byte) error {
	c.out.Payload = msg
	return c.c.Send(context.Background(), &c.out)
}

// flush has nothing to do: a circuit writes by itself as soon as it can.
func (c *cktChannel) flush() error { return nil }

func (c *cktChannel) receive(take func([]byte) bool) error {
	for f, err := range c.c.Fragments(context.Background()) {
		if err != nil {
			return err
		}
		more := take(f.Payload)
		f.Release()
		if !more {
			return nil
		}
	}
	return io.EOF
}

func (c *cktChannel) close() error {
	c.c.Close()
	return nil
}
