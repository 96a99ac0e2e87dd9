// Package couriertest is a program for tests with real processes, and what
// starts it: couriers exchange numbered and sealed fragments over a circuit, in
// both directions at once, check that each arrives once and in order and was
// meant for the very process that got it, and report what they see as lines of
// JSON. They use nothing of ckt that its users do not have.
package couriertest

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	ckt "ckt.local"
	"ckt.local/transport/identity"
)

const service = "courier"

// A courier is one life of the program.
type courier struct {
	life   uint32
	dial   string        // URL of the courier to open circuits to; "": wait for them
	every  time.Duration // one fragment per; 0: as fast as they go
	size   int           // the biggest payload
	count  uint64        // how many fragments; 0: until told to stop
	linger time.Duration // how long circuits wait without a connection; 0: the default
	report *report

	finish     chan struct{} // closed when sending is to come to its end
	finishOnce sync.Once
}

// Main is the program. It runs until its stdin ends; the line "stop" on it
// makes the couriers finish: all that was sent is delivered, and each reports
// [Done].
func Main() {
	c := &courier{report: newReport(os.Stdout), finish: make(chan struct{})}
	life := flag.Uint("life", 1, "which `life` of this courier it is")
	key := flag.String("key", "", "`file` with the node's key")
	listen := flag.String("listen", "127.0.0.1:0", "UDP `address` of the node")
	rate := flag.Int("rate", 0, "fragments a second, in each direction")
	flag.StringVar(&c.dial, "dial", "", "the `URL` of the courier to open circuits to")
	flag.IntVar(&c.size, "size", 4<<10, "`bytes` of the biggest payload")
	flag.DurationVar(&c.linger, "linger", 0, "how `long` a circuit waits without a connection")
	flag.Uint64Var(&c.count, "count", 0, "how many fragments to send")
	flag.Parse()
	c.life = uint32(*life)
	if *rate > 0 {
		c.every = time.Second / time.Duration(*rate)
	}
	if err := c.run(*listen, *key); err != nil {
		fmt.Fprintln(os.Stderr, "courier:", err)
		os.Exit(1)
	}
}

func (c *courier) run(listen, keyFile string) error {
	key, err := identity.ReadKeyFile(keyFile, nil)
	if err != nil {
		return err
	}
	node, err := ckt.NewServer(ckt.Config{
		ListenAddr: listen, Identity: key, Authorize: ckt.AllowAll,
		Circuit: ckt.CircuitConfig{Linger: c.linger},
	})
	if err != nil {
		return err
	}
	defer node.Close()
	if err := node.PeerAPI.RegisterPeerServiceFunc(service, c.serve); err != nil {
		return err
	}
	me, err := node.PeerAPI.StartLocalPeer(context.Background(), service)
	if err != nil {
		return err
	}
	c.report.event(Event{Kind: Listening, URL: node.URL()})
	c.obey(os.Stdin)
	me.Close()
	<-me.Done()
	return nil
}

// obey reads orders until there are no more.
func (c *courier) obey(orders io.Reader) {
	for lines := bufio.NewScanner(orders); lines.Scan(); {
		if lines.Text() == "stop" {
			c.stop()
		}
	}
}

func (c *courier) stop() { c.finishOnce.Do(func() { close(c.finish) }) }

// serve is the service: it runs every circuit that others open, and those that
// this courier is to open.
func (c *courier) serve(me *ckt.LocalPeer, ctx context.Context, circuits <-chan *ckt.Circuit) error {
	var open sync.WaitGroup
	defer open.Wait()
	if c.dial != "" {
		open.Go(func() { c.open(ctx, me) })
	}
	for {
		select {
		case circuit := <-circuits:
			open.Go(func() { newRun(c, circuit).run(ctx) })
		case <-ctx.Done():
			return nil
		}
	}
}

// open opens a circuit, and another one whenever one is lost.
func (c *courier) open(ctx context.Context, me *ckt.LocalPeer) {
	for ctx.Err() == nil {
		hello := &ckt.Fragment{FragOp: opHello, Payload: parcel{from: c.life, sent: time.Now()}.pack(0)}
		circuit, _, err := me.NewCircuitToPeerURL(c.dial+"/"+service, hello, 0)
		if err != nil {
			c.report.event(Event{Kind: Failed, Text: err.Error()})
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		r := newRun(c, circuit)
		r.opener = true
		if r.run(ctx) {
			return
		}
	}
}
