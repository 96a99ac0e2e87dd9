package simnet_test

import (
	"fmt"
	"net/netip"
	"time"

	"ckt.local/transport/simnet"
)

// Two hosts, a link with a delay, and a cut. In a test this stands inside
// [testing/synctest.Test], where waiting takes no time.
func Example() {
	n := simnet.New(1)
	defer n.Close()
	n.SetDefault(simnet.Link{Latency: 5 * time.Millisecond})
	here, there := n.Host(netip.MustParseAddr("10.0.0.1")), n.Host(netip.MustParseAddr("10.0.0.2"))
	a, err := here.Listen(0) // any port
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := there.Listen(7000)
	if err != nil {
		fmt.Println(err)
		return
	}

	a.WriteTo([]byte("hello"), b.LocalAddr())
	buf := make([]byte, 1500)
	k, from, err := b.ReadFrom(buf)
	fmt.Printf("%q from %v: %v\n", buf[:k], from, err)

	n.Cut(here.Addr(), there.Addr())
	a.WriteTo([]byte("anybody there?"), b.LocalAddr())
	count := n.Stats()[simnet.Direction{From: here.Addr(), To: there.Addr()}]
	fmt.Printf("sent %d, delivered %d, lost to the cut %d\n", count.Sent, count.Delivered, count.Dropped.Cut)
	// Output:
	// "hello" from 10.0.0.1:49152: <nil>
	// sent 2, delivered 1, lost to the cut 1
}
