package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// libp2pContender is go-libp2p over one of its transports.
type libp2pContender struct{ overQUIC bool }

var _ contender = libp2pContender{}

const libp2pProtocol protocol.ID = "/bench/1"

func (l libp2pContender) about() about {
	const common = "a host put together of its parts, because its package of defaults does not compile with this quic-go (WebTransport); " +
		"resources are not managed, metrics are off; mutual authentication; " +
		"one connection, a stream for each channel, 4-byte lengths and bufio as tls has them"
	a := about{
		name:     "libp2p-tcp",
		module:   "github.com/libp2p/go-libp2p",
		settings: "TCP with TLS 1.3 and yamux as libp2p sets that; " + common,
		extras:   []string{"idle100k"},
	}
	if l.overQUIC {
		const bound = "its QUIC takes at most 256 streams at a time from the other side, and that cannot be set"
		a.name = "libp2p-quic"
		a.settings = "QUIC with libp2p's own windows: streams up to 10 MB, connection up to 15 MB; " + common
		a.lacks = map[string]string{"fan": bound, "idle": bound}
		a.extras = nil
	}
	return a
}

func (l libp2pContender) serve(c crowd) (string, error) {
	h, err := l.host()
	if err != nil {
		return "", err
	}
	h.SetStreamHandler(libp2pProtocol, func(s network.Stream) { serveFramed(s, c) })
	listen := "/ip4/127.0.0.1/tcp/0"
	if l.overQUIC {
		listen = "/ip4/127.0.0.1/udp/0/quic-v1"
	}
	addr, err := multiaddr.NewMultiaddr(listen)
	if err != nil {
		return "", err
	}
	if err := h.Network().Listen(addr); err != nil {
		return "", err
	}
	addrs := h.Network().ListenAddresses()
	if len(addrs) == 0 {
		return "", errors.New("libp2p listens nowhere")
	}
	return fmt.Sprintf("%v/p2p/%v", addrs[0], h.ID()), nil
}

// host is a node as libp2p's defaults would make it, with one transport only.
func (l libp2pContender) host() (host.Host, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(store.AddPubKey(id, key.GetPublic()), store.AddPrivKey(id, key)); err != nil {
		return nil, err
	}
	bus := eventbus.NewBus()
	resources := &network.NullResourceManager{}
	s, err := swarm.NewSwarm(id, store, bus, swarm.WithResourceManager(resources))
	if err != nil {
		return nil, err
	}
	t, err := l.transport(key, resources)
	if err == nil {
		err = s.AddTransport(t)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	h, err := basichost.NewHost(s, &basichost.HostOpts{EventBus: bus})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	h.Start()
	return h, nil
}

func (l libp2pContender) transport(key crypto.PrivKey, resources network.ResourceManager) (transport.Transport, error) {
	if l.overQUIC {
		m, err := quicreuse.NewConnManager(quic.StatelessResetKey{}, quic.TokenGeneratorKey{})
		if err != nil {
			return nil, err
		}
		return libp2pquic.NewTransport(key, m, nil, nil, resources)
	}
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	security, err := libp2ptls.New(libp2ptls.ID, key, muxers)
	if err != nil {
		return nil, err
	}
	u, err := upgrader.New([]sec.SecureTransport{security}, muxers, nil, resources, nil)
	if err != nil {
		return nil, err
	}
	return tcp.NewTCPTransport(u, resources, nil)
}

func (l libp2pContender) dial(ctx context.Context, c crowd, addr string) (client, error) {
	to, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return nil, err
	}
	h, err := l.host()
	if err != nil {
		return nil, err
	}
	if err := h.Connect(ctx, *to); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return &libp2pClient{crowd: c, host: h, to: to.ID}, nil
}

type libp2pClient struct {
	crowd crowd
	host  host.Host
	to    peer.ID
}

func (c *libp2pClient) open(first []byte) (channel, error) {
	s, err := c.host.NewStream(context.Background(), c.to, libp2pProtocol)
	if err != nil {
		return nil, err
	}
	return openFramed(io.ReadWriteCloser(s), c.crowd, first)
}

func (c *libp2pClient) close() error {
	return errors.Join(c.host.Close(), c.host.Peerstore().Close())
}
