package peer_test

import (
	"errors"
	"strings"
	"testing"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/transport/identity"
)

const (
	someNode    = "e4rruzp8urnwuzhssjazies6i7aj8ujyup1rpkdcsiys5p5439so"
	somePeer    = "yyasrr9mj5ip5yhrougotd3btc"
	someCircuit = "op8kd6fm9a7k99sidijf8m1kmc"
)

func TestURLRoundTrip(t *testing.T) {
	node, err := identity.ParseNodeID(someNode)
	if err != nil {
		t.Fatal(err)
	}
	peerID, err1 := circuit.ParseID(somePeer)
	circuitID, err2 := circuit.ParseID(someCircuit)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	base := "ckt://" + someNode
	for _, u := range []struct {
		text string
		url  peer.URL
	}{
		{base, peer.URL{Node: node}},
		{base + "@host.example:4242", peer.URL{Node: node, Addr: "host.example:4242"}},
		{base + "@[2001:db8::1]:1/echo", peer.URL{Node: node, Addr: "[2001:db8::1]:1", Service: "echo"}},
		{base + "@127.0.0.1:65535/a.b-c_d/" + somePeer, peer.URL{Node: node, Addr: "127.0.0.1:65535", Service: "a.b-c_d", PeerID: peerID}},
		{base + "/echo/" + somePeer + "/" + someCircuit, peer.URL{Node: node, Service: "echo", PeerID: peerID, CircuitID: circuitID}},
	} {
		got, err := peer.ParseURL(u.text)
		if err != nil || got != u.url {
			t.Errorf("ParseURL(%q) = %+v, %v", u.text, got, err)
		}
		if s := u.url.String(); s != u.text {
			t.Errorf("String = %q, want %q", s, u.text)
		}
	}
}

func TestEqualAddressesAreEqualTexts(t *testing.T) {
	for text, want := range map[string]string{
		"LocalHost:0080":            "localhost:80",
		"[::ffff:10.0.0.1]:443":     "10.0.0.1:443",
		"[2001:DB8:0:0:0:0:0:1]:53": "[2001:db8::1]:53",
		"[fe80::1%eth0]:53":         "[fe80::1%eth0]:53",
	} {
		if u, err := peer.ParseURL("ckt://" + someNode + "@" + text + "/"); err != nil || u.Addr != want {
			t.Errorf("%s: got %q, %v", text, u.Addr, err)
		}
	}
}

func TestBadURLs(t *testing.T) {
	base := "ckt://" + someNode
	for _, bad := range []struct{ name, text string }{
		{"empty", ""},
		{"another scheme", "http://" + someNode},
		{"no node ID", "ckt://127.0.0.1:80/echo"},
		{"capitals in the node ID", "ckt://" + strings.ToUpper(someNode)},
		{"zero node ID", "ckt://" + strings.Repeat("y", 52)},
		{"no address after @", base + "@"},
		{"no port", base + "@host"},
		{"port 0", base + "@host:0"},
		{"port too large", base + "@host:65536"},
		{"port by name", base + "@host:https"},
		{"signed port", base + "@host:+80"},
		{"no host", base + "@:80"},
		{"host with a space", base + "@a b:80"},
		{"IPv6 without brackets", base + "@::1:80"},
		{"two addresses", base + "@a:1@b:2"},
		{"service that can be none", base + "@a:1/-x"},
		{"service too long", base + "/" + strings.Repeat("x", 65)},
		{"empty service", base + "//" + somePeer},
		{"empty peer ID", base + "/echo/"},
		{"broken peer ID", base + "/echo/" + somePeer[1:]},
		{"zero peer ID", base + "/echo/" + strings.Repeat("y", 26)},
		{"too many parts", base + "/echo/" + somePeer + "/" + someCircuit + "/x"},
		{"query", base + "/echo?x=1"},
		{"too long", base + "@" + strings.Repeat("h", 600) + ":1"},
		{"bytes that are no text", base + "@\xff\x00:1"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			u, err := peer.ParseURL(bad.text)
			e, ok := errors.AsType[*peer.URLError](err)
			if !ok || u != (peer.URL{}) || len(e.URL) > 200 {
				t.Errorf("got %+v, %T %v", u, err, err)
			}
		})
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{
		"", "ckt://", "ckt://" + someNode, "ckt://" + someNode + "@127.0.0.1:80/echo/" + somePeer,
		"ckt://" + someNode + "@[fe80::1%a]:80/echo/" + somePeer + "/" + someCircuit, "ckt://" + someNode + "@LOCALHOST:007/",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := peer.ParseURL(s)
		if err != nil {
			if _, ok := errors.AsType[*peer.URLError](err); !ok {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		again, err := peer.ParseURL(u.String())
		if err != nil || again != u {
			t.Fatalf("%q is read as %+v, printed as %q, and read again as %+v, %v", s, u, u, again, err)
		}
	})
}
