package simnet_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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

// A laptop changes the network while its socket stays open.
func ExampleHost_Move() {
	n := simnet.New(1)
	defer n.Close()
	laptop, server := n.Host(netip.MustParseAddr("10.0.0.1")), n.Host(netip.MustParseAddr("2.2.2.2"))
	a, err := laptop.Listen(5000)
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := server.Listen(7000)
	if err != nil {
		fmt.Println(err)
		return
	}
	buf := make([]byte, 1500)
	for _, addr := range []string{"10.0.0.1", "192.0.2.8"} {
		if err := laptop.Move(netip.MustParseAddr(addr)); err != nil {
			fmt.Println(err)
		}
		a.WriteTo([]byte("hello"), b.LocalAddr())
		k, from, _ := b.ReadFrom(buf)
		fmt.Printf("%s from %v\n", buf[:k], from)
	}
	// Output:
	// hello from 10.0.0.1:5000
	// hello from 192.0.2.8:5000
}

// A host behind a NAT can be answered, but not called.
func ExampleNetwork_NAT() {
	n := simnet.New(1)
	defer n.Close()
	router, err := n.NAT(netip.MustParseAddr("203.0.113.1"), simnet.NATConfig{Kind: simnet.PortRestricted})
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := router.Host(netip.MustParseAddr("192.168.1.2")).Listen(5000)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := n.Host(netip.MustParseAddr("198.51.100.7"))
	b, err := server.Listen(7000)
	if err != nil {
		fmt.Println(err)
		return
	}
	buf := make([]byte, 1500)

	a.WriteTo([]byte("hello"), b.LocalAddr())
	k, from, _ := b.ReadFrom(buf)
	fmt.Printf("%s from %v\n", buf[:k], from.(*net.UDPAddr).IP)
	b.WriteTo([]byte("welcome"), from)
	k, _, _ = a.ReadFrom(buf)
	fmt.Printf("%s\n", buf[:k])

	router.Reboot()
	b.WriteTo([]byte("still there?"), from)
	a.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, _, err = a.ReadFrom(buf)
	count := n.Stats()[simnet.Direction{From: server.Addr(), To: router.Addr()}]
	fmt.Printf("timeout: %v, dropped by the NAT: %d\n", errors.Is(err, os.ErrDeadlineExceeded), count.Dropped.NAT)
	// Output:
	// hello from 203.0.113.1
	// welcome
	// timeout: true, dropped by the NAT: 1
}

// What became of each packet. Times are exact inside a bubble of
// testing/synctest, where one seed gives one trace.
func ExampleNetwork_Record() {
	n := simnet.New(1)
	defer n.Close()
	n.Record(1000)
	n.SetDefault(simnet.Link{MTU: 1200})
	a, err := n.Host(netip.MustParseAddr("10.0.0.1")).Listen(5000)
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := n.Host(netip.MustParseAddr("10.0.0.2")).Listen(7000)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, size := range []int{1300, 100} {
		a.WriteTo(make([]byte, size), b.LocalAddr())
	}
	b.ReadFrom(nil)
	for _, e := range n.Trace() {
		fmt.Println(e.From, ">", e.To, e.Len, e.Fate)
	}
	// Output:
	// 10.0.0.1:5000 > 10.0.0.2:7000 1300 mtu
	// 10.0.0.1:5000 > 10.0.0.2:7000 100 delivered
}
