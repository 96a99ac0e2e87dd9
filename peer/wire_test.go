package peer

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/identity"
)

// sampleListing has rows of every kind, with the longest texts there are.
func sampleListing(rows int) Listing {
	at := time.Unix(1_700_000_000, 123)
	name := strings.Repeat("s", identity.MaxServiceName)
	ls := Listing{Addr: "127.0.0.1:4242", Started: at, At: at.Add(time.Hour)}
	for i := range rows {
		node := identity.NodeID{byte(i), 1}
		ls.Peers = append(ls.Peers, PeerInfo{Service: name, PeerID: circuit.ID{1, byte(i)}.String(), Started: at, StartedBy: node, Circuits: i})
		link := LinkInfo{Node: node, Addr: "[2001:db8::1]:4242", Since: at, Dialed: i%2 == 0, Attached: i%3 == 0, Circuits: i}
		if !link.Attached && i%3 == 1 {
			link.Lost = at.Add(time.Minute)
		}
		ls.Links = append(ls.Links, link)
		ls.Circuits = append(ls.Circuits, CircuitInfo{
			CircuitID: circuit.ID{2, byte(i)}.String(), Service: name, LocalPeerID: circuit.ID{3}.String(),
			RemoteService: name, RemotePeerID: circuit.ID{4}.String(), RemoteNode: node,
			Attached: i%3 == 0, Ended: i%3 == 1, Since: at.Add(time.Second),
			Stats: circuit.Stats{
				Opened: at, FragmentsSent: 1 << 40, FragmentsRcv: 2, BytesSent: 3, BytesRcv: 4, Unacked: 5, Unread: 6,
				Duplicates: 1 << 41, Replayed: 7, Attachments: 8,
			},
		})
	}
	return ls
}

func TestListingOnTheWire(t *testing.T) {
	for _, limit := range []int{1, 1000, maxPageBytes, 1 << 30} {
		want := sampleListing(700)
		var got Listing
		for page := range pages(want, limit) {
			b, err := page.MarshalMsg(nil)
			if err != nil {
				t.Fatal(err)
			}
			if rows := len(page.Peers) + len(page.Links) + len(page.Circuits); rows > maxPageRows || rows > 1 && len(b) > limit {
				t.Fatalf("a page of %d rows has %d bytes, limit %d", rows, len(b), limit)
			}
			if err := got.addPage(b); err != nil {
				t.Fatal(err)
			}
		}
		head := headOf(want)
		b, err := head.MarshalMsg(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := got.setHead(b); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("with pages of %d bytes the listing comes back changed", limit)
		}
	}
}

func TestListingDoesNotGrowWithoutBound(t *testing.T) {
	ls := Listing{Links: make([]LinkInfo, maxListRows)}
	for page := range pages(sampleListing(1), maxPageBytes) {
		b, err := page.MarshalMsg(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := ls.addPage(b); err == nil {
			t.Fatal("a listing over the limit is taken")
		}
	}
}

func FuzzListing(f *testing.F) {
	for page := range pages(sampleListing(3), maxPageBytes) {
		b, err := page.MarshalMsg(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x93, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var ls Listing
		if ls.addPage(b) == nil {
			for _, p := range ls.Peers {
				if err := identity.ValidServiceName(p.Service); err != nil {
					t.Fatal(err)
				}
			}
		}
		ls.setHead(b)
	})
}
