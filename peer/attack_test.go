package peer_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/peertest"
)

// A relay is a host on the path between a client and a server, which meet only
// over it. It sees all packets and no secrets, and may answer in place of
// either side.
type relay struct {
	front, back net.PacketConn // towards the client, and towards the server
	wg          sync.WaitGroup

	mu     sync.Mutex
	client net.Addr
	server net.Addr                 // where the client's packets go
	forge  func(long []byte) []byte // answers packets with long headers; the others vanish
	lies   int                      // answers that were forged, or came from another server
	real   net.Addr
}

func newRelay(t *testing.T, sim *peertest.Sim, server *peertest.SimHost) *relay {
	t.Helper()
	h := sim.Network.Host(netip.MustParseAddr("10.9.0.1"))
	r := &relay{real: server.Node().Addr()}
	r.server = r.real
	var err error
	if r.front, err = h.Listen(4242); err != nil {
		t.Fatal(err)
	}
	if r.back, err = h.Listen(4243); err != nil {
		t.Fatal(err)
	}
	r.wg.Go(func() { r.pump(r.front, r.fromClient) })
	r.wg.Go(func() { r.pump(r.back, r.fromServer) })
	t.Cleanup(func() {
		r.front.Close()
		r.back.Close()
		r.wg.Wait()
	})
	return r
}

func (r *relay) pump(c net.PacketConn, take func(p []byte, from net.Addr)) {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		take(buf[:n], from)
	}
}

func (r *relay) fromClient(p []byte, from net.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client = from
	if r.lie(r.front, p, from) {
		return
	}
	r.back.WriteTo(p, r.server)
}

func (r *relay) fromServer(p []byte, from net.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lie(r.back, p, from) || r.client == nil || from.String() != r.server.String() {
		return
	}
	if r.server != r.real {
		r.lies++
	}
	r.front.WriteTo(p, r.client)
}

// lie answers a packet if answers are to be forged.
func (r *relay) lie(c net.PacketConn, p []byte, from net.Addr) bool {
	if r.forge == nil {
		return false
	}
	if p[0]&0x80 != 0 {
		c.WriteTo(r.forge(p), from)
		r.lies++
	}
	return true
}

// set changes whom the relay leads to and what it forges.
func (r *relay) set(server net.Addr, forge func([]byte) []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server, r.forge = server, forge
}

// forgedNegotiation says that the server speaks another version of QUIC. It
// takes nothing but the connection IDs of the packet that it answers.
func forgedNegotiation(p []byte) []byte {
	dst := p[6 : 6+p[5]]
	src := p[7+len(dst) : 7+len(dst)+int(p[6+len(dst)])]
	out := append([]byte{0xc0, 0, 0, 0, 0, byte(len(src))}, src...)
	out = append(append(out, byte(len(dst))), dst...)
	return append(out, 0xde, 0xad, 0xbe, 0xef)
}

// throughRelay opens a circuit to a server behind a relay, has lies told for 8 s,
// longer than a silent connection is borne with, and wants the circuit back
// after that.
func throughRelay(t *testing.T, lies func(sim *peertest.Sim, r *relay)) {
	sim := peertest.NewSim(t, 1)
	echoing := func(n *peer.Node) { n.PeerAPI.RegisterPeerServiceFunc("echo", echo) }
	cli, srv := sim.NewHost(echoing), sim.NewHost(echoing)
	sim.Partition(cli, srv)
	r := newRelay(t, sim, srv)
	u, err := peer.ParseURL(srv.URL("echo"))
	if err != nil {
		t.Fatal(err)
	}
	u.Addr = r.front.LocalAddr().String()
	c := open(t, cli.StartPeer("echo"), u.String(), nil)
	if got := say(t, c, "before"); got != "before" {
		t.Fatalf("got %q", got)
	}
	lies(sim, r)
	time.Sleep(8 * time.Second)
	r.mu.Lock()
	told := r.lies
	r.mu.Unlock()
	if st := c.State(); st.Ended || st.Attached || told == 0 {
		t.Fatalf("after %d lies the circuit is %v, want it detached", told, st)
	}
	r.set(r.real, nil)
	if got := say(t, c, "after"); got != "after" {
		t.Errorf("got %q", got)
	}
	if n := c.Stats().Attachments; n < 2 {
		t.Errorf("%d attachments: the connection was not lost", n)
	}
}

// One forged packet must not end what only the holder of the key may end.
func TestForgedAnswerToAProbeEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throughRelay(t, func(_ *peertest.Sim, r *relay) { r.set(r.real, forgedNegotiation) })
	})
}

// Another QUIC server may have got the address of one that is away. What it
// says, whatever it is, says nothing about the one that is meant.
func TestOtherServerAtTheAddressEndsNothing(t *testing.T) {
	for name, change := range map[string]func(tr *quicgo.Transport, cfg *tls.Config){
		"another protocol": func(_ *quicgo.Transport, cfg *tls.Config) { cfg.NextProtos = []string{"h3"} },
		"another key":      func(_ *quicgo.Transport, cfg *tls.Config) {},
		"an alert": func(_ *quicgo.Transport, cfg *tls.Config) {
			cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errors.New("no") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				throughRelay(t, func(sim *peertest.Sim, r *relay) {
					r.set(otherServer(t, sim, change), nil)
				})
			})
		})
	}
}

// otherServer runs a QUIC server with a key that nobody knows, and returns where.
func otherServer(t *testing.T, sim *peertest.Sim, change func(*quicgo.Transport, *tls.Config)) net.Addr {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, tpl, tpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sim.Network.Host(netip.MustParseAddr("10.9.0.2")).Listen(443)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{NextProtos: []string{"ckt/1"}, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	tr := &quicgo.Transport{Conn: s}
	change(tr, cfg)
	ln, err := tr.Listen(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ln.Close()
		tr.Close()
		s.Close()
	})
	return s.LocalAddr()
}

// A client whose policy lets nobody in, as by default, refuses when the server
// asks it for another connection. That must not cost it the circuits, be the
// first connection well again by then or not.
func TestClientThatLetsNobodyInKeepsItsCircuits(t *testing.T) {
	for _, outage := range []time.Duration{1500 * time.Millisecond, 4 * time.Second} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var refused atomic.Int64
				cfg := peertest.SimConfig{Adjust: func(h *peertest.SimHost, cfg *peer.Config) {
					if h.Index() == 0 {
						cfg.Authorize = func(r peer.Request) error {
							refused.Add(1)
							return errors.New("nobody may")
						}
					}
				}}
				sim := cfg.NewSim(t, 1)
				hosts, taken := talking(sim, 2)
				a, _, err := hosts[0].StartPeer("talk").NewCircuitToPeerURL(hosts[1].URL("talk"), nil, 0)
				if err != nil {
					t.Fatal(err)
				}
				b := <-taken
				time.Sleep(time.Minute)
				sim.Cut(hosts[0], hosts[1]) // the server hears nothing, and is heard
				time.Sleep(outage)
				sim.Heal(hosts[0], hosts[1])
				time.Sleep(10 * time.Second)
				for _, c := range []*circuit.Circuit{a, b} {
					if st := c.State(); !st.Attached {
						t.Errorf("an end of the circuit is %v", st)
					}
				}
				if refused.Load() == 0 {
					t.Error("the server has not asked: this proves nothing")
				}
				if err := b.SendOneWay(&circuit.Fragment{FragPart: 5}); err != nil {
					t.Fatal(err)
				}
				if f := receive(t, a.Reads, "a fragment"); f.FragPart != 5 {
					t.Errorf("got %+v", f)
				}
			})
		})
	}
}
