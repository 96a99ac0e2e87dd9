package peer

import (
	"net"
	"net/netip"
	"testing"
)

// textAddr is an address of which only the text is known.
type textAddr string

func (textAddr) Network() string  { return "udp" }
func (a textAddr) String() string { return string(a) }

// A UDP address is not read from its text, and says the same.
func TestAddrPortIsThatOfTheText(t *testing.T) {
	for _, a := range []*net.UDPAddr{
		nil,
		{},
		{Port: 7},
		{IP: net.IPv4(192, 0, 2, 1), Port: 7},
		{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 7},
		{IP: net.ParseIP("2001:db8::1"), Port: 7},
		{IP: net.ParseIP("fe80::1"), Port: 7, Zone: "eth0"},
		{IP: net.IPv4zero, Port: 7},
		{IP: net.IP{1, 2, 3}, Port: 7},
	} {
		if got, want := addrPort(a), addrPort(textAddr(a.String())); got != want {
			t.Errorf("%v: %v, and from the text %v", a, got, want)
		}
	}
	if got := addrPort(nil); got != (netip.AddrPort{}) {
		t.Errorf("no address: %v", got)
	}
}
