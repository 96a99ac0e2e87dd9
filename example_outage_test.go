package ckt_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	ckt "ckt.local"
	"ckt.local/transport/simnet"
)

// A circuit that outlives its connection: States tells what becomes of it, and
// Flush when everything that was sent has arrived. The network here is
// simulated, so that it can be taken away.
func Example_outage() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := outage(ctx); err != nil {
		fmt.Println("failed:", err)
	}
	// Output:
	// attached
	// detached, and sent all the same
	// attached again
	// not acknowledged: 0
}

func outage(ctx context.Context) error {
	network := simnet.New(1)
	defer network.Close()
	here, there := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	key, err := ckt.GenerateKey() // one for both: a node trusts its own key
	if err != nil {
		return err
	}
	node := func(at netip.Addr) (*ckt.Node, error) {
		socket, err := network.Host(at).Listen(4242)
		if err != nil {
			return nil, err
		}
		return ckt.NewServer(ckt.Config{
			PacketConn: socket,
			Identity:   key,
			Circuit: ckt.CircuitConfig{
				Linger:  time.Minute,     // how long to wait for another connection
				Silence: 2 * time.Second, // and when to start to
			},
		})
	}
	srv, err := node(there)
	if err != nil {
		return err
	}
	defer srv.Close()
	if err := srv.PeerAPI.RegisterPeerServiceFunc("echo", echo); err != nil {
		return err
	}
	cli, err := node(here)
	if err != nil {
		return err
	}
	defer cli.Close()

	return runPeer(ctx, cli, "caller", func(me *ckt.LocalPeer, ctx context.Context) error {
		c, _, err := me.NewCircuitToPeerURL(srv.URL()+"/echo", nil, 0)
		if err != nil {
			return err
		}
		defer c.Close()
		for st := range c.States(ctx) {
			switch {
			case st.Ended:
				return st.Cause
			case !st.Attached:
				// Nobody need wait: what is sent now is delivered later.
				if err := c.Send(ctx, &ckt.Fragment{Payload: []byte("hello")}); err != nil {
					return err
				}
				fmt.Println("detached, and sent all the same")
				network.Rejoin(here, there)
			case st.Attachments == 1:
				fmt.Println("attached")
				network.Partition(here, there)
			default:
				fmt.Println("attached again")
				unacked, err := c.Flush(ctx)
				fmt.Println("not acknowledged:", unacked)
				return err
			}
		}
		return context.Cause(ctx)
	})
}
