package peer

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
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

// sampleLimits has rows like those of a node that is much asked.
func sampleLimits(rows int) []limit.Use {
	uses := make([]limit.Use, 0, rows)
	for i := range rows {
		uses = append(uses, limit.Use{
			What: strings.Repeat("w", 1+i%64), Used: int64(i), Limit: 1 << 40, Top: identity.NodeID{byte(i), 2},
			TopUsed: int64(i / 2), PerNode: math.MaxInt64, Refused: int64(3 * i),
		})
	}
	return uses
}

func TestLimitsOnTheWire(t *testing.T) {
	for _, rows := range []int{0, 1, maxLimitRows, maxLimitRows + 100} {
		want := sampleLimits(rows)
		b, err := limitsOut(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := limitsIn(b)
		if err != nil || !slices.Equal(got, want[:min(rows, maxLimitRows)]) {
			t.Fatalf("%d rows come back as %+v, %v", rows, got, err)
		}
	}
}

func TestHostileLimitsOnTheWire(t *testing.T) {
	var w wireLimits
	for _, what := range []string{"", "\x1b[2J", "circuits\n", "Circuits", strings.Repeat("x", 65), strings.Repeat("x", 1<<20), "\xff"} {
		w.Rows = append(w.Rows, wireUse{What: what, Used: -1, Limit: math.MinInt64, TopUsed: -7, PerNode: -1, Refused: -1})
	}
	b, err := w.MarshalMsg(nil)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := limitsIn(b)
	if err != nil || len(rows) != len(w.Rows) {
		t.Fatalf("%+v, %v", rows, err)
	}
	for _, u := range rows {
		checkUse(t, u)
		if u.Used != 0 || u.Limit != 0 || u.TopUsed != 0 || u.PerNode != 0 || u.Refused != 0 {
			t.Errorf("less than nothing: %+v", u)
		}
	}
	w.Rows = make([]wireUse, maxLimitRows+1)
	if b, err = w.MarshalMsg(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := limitsIn(b); err == nil {
		t.Error("more rows than there may be are taken")
	}
	if _, err := limitsIn([]byte{0x91, 0x90, 0x00}); err == nil {
		t.Error("bytes after the rows are taken")
	}
}

// checkUse fails for a row that could not be printed as it is.
func checkUse(t *testing.T, u limit.Use) {
	t.Helper()
	if u.What == "" || len(u.What) > 64 || strings.Trim(u.What, "abcdefghijklmnopqrstuvwxyz ") != "" {
		t.Errorf("a row is called %q", u.What)
	}
	if min(u.Used, u.Limit, u.TopUsed, u.PerNode, u.Refused) < 0 {
		t.Errorf("less than nothing: %+v", u)
	}
}

func FuzzLimits(f *testing.F) {
	for _, rows := range []int{0, 1, 3, maxLimitRows} {
		b, err := limitsOut(sampleLimits(rows))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x91, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := limitsIn(b)
		if err != nil {
			return
		}
		if len(rows) > maxLimitRows {
			t.Fatalf("%d rows", len(rows))
		}
		for _, u := range rows {
			checkUse(t, u)
		}
		again, err := limitsOut(rows)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := limitsIn(again); err != nil || !slices.Equal(same, rows) {
			t.Fatalf("%+v comes back as %+v, %v", rows, same, err)
		}
	})
}
